"""What several commands share: options, errors told in one sentence, progress on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from refam_analysis.errors import told
from refam_analysis.files import NotWrittenError, told_when_refused, written_whole
from refam_analysis.prompts.magnets import DEFAULT_MAGNETS


class OutputError(NotWrittenError):
    """A file that a command should write cannot be."""

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        OSError.__init__(self, f"{str(path)!r} cannot be written: {reason}. Give another path.")


@contextmanager
def written_output(path: Path) -> Iterator[Path]:
    """A place to write to, which becomes the file of a command at the end of the block, in a folder that is made.

    Raises:
        OutputError: the system refused.
    """
    try:
        with told_when_refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as place:
            yield place
    except NotWrittenError as error:
        raise OutputError(path, error.reason) from error


class Commands(TyperGroup):
    """Tells what was wrong with the input in one sentence, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and end with status 1 on an error that a sentence tells: of ours, of memory, of the disk."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if (sentence := told(error)) is None:
                raise
            typer.echo(f"Error: {sentence}", err=True)
            raise typer.Exit(1) from None


ImageOption = Annotated[Path, typer.Option(help="The picture: PNG, JPEG, WebP or TIFF.")]
ExpressionOption = Annotated[str, typer.Option(help='What to look for, such as "the red circle on the left".')]
ModelOption = Annotated[
    str, typer.Option(help='"embedded", a name on the model hub, or a folder.', envvar="REFAM_MODEL")
]
SegmenterOption = Annotated[
    str | None,
    typer.Option(
        help='"embedded", "embedded-rich", a name of `refam weights list`, a checkpoint, a folder or a hub id; by '
        "default the one that ships for the scenes that the model knows."
    ),
]
MagnetsOption = Annotated[str, typer.Option(help='Words appended to the expression, between spaces; "" for none.')]
StyleOption = Annotated[
    Literal["plain", "rich"] | None, typer.Option(help="Of the scenes; those that the model knows by default.")
]
SeedOption = Annotated[int, typer.Option(help="Of the noise.", min=0, max=2**63 - 1)]
SizeOption = Annotated[tuple[int, int] | None, typer.Option(help="Height and width; the model's own by default.")]
KeepOption = Annotated[list[str] | None, typer.Option(help="A quantity to keep; give several, or none for the usual.")]
BlockOption = Annotated[list[int] | None, typer.Option(help="A block to keep; give several, or none for all.")]
GasOption = Annotated[
    Literal["none", "suppress", "redirect"] | None,
    typer.Option(help="What is done to attention sinks; the model's own choice by default."),
]

MAGNETS = " ".join(DEFAULT_MAGNETS)


@contextmanager
def progress(*steps: str) -> Iterator[Any]:
    """A bar over named steps on a terminal, nothing elsewhere. Calling what it gives ends a step."""
    from tqdm import tqdm

    names = iter(steps)
    with tqdm(total=len(steps), desc=next(names), bar_format="{desc}: {n}/{total} [{elapsed}]", disable=None) as bar:

        def end_step() -> None:
            bar.update()
            bar.set_description_str(next(names, "done"))

        yield end_step
