"""Any arguments for any command: it ends with 0, 1 or 2 and a sentence, and never with a traceback.

What would start work that takes minutes, a server or a download is given one argument that it must refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from click import Command, Group
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fuzz.mutating import examples, texts
from refam_analysis.cli import app
from refam_analysis.cli.heatmap_options import read_blocks, read_heads

REFUSED: dict[str, tuple[str, ...]] = {
    "probe": ("--visitors", "0"),
    "evaluate": ("--limit", "1", "--model", "./no-such-model"),
    "report": ("no-such-run",),
    "datasets check": ("--root", "no-such-root"),
    "weights fetch": ("no-such-weights",),
}
"""What each command is given last; those of experiments a seed that is no number, the others no model."""


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Command]]:
    if isinstance(command, Group) or hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(leaves(typer.main.get_command(app)))


def refused(name: str) -> tuple[str, ...]:
    if name.startswith("experiment"):
        return ("--seed", "no-number", "--results")
    return REFUSED.get(name, () if name.startswith(("weights", "datasets")) else ("--model", "./no-such-model"))


values = st.one_of(
    texts.map(lambda text: text.encode("utf-8", "replace").decode().replace("\0", "")),
    st.integers(-3, 99).map(str),
    st.floats().map(str),
    st.sampled_from(
        ["", "-", "--", "a.png", "no/such/a.png", "x" * 300, "~nobody/a.png", "9" * 5000, "1e999", "\udcff", "."]
    ),
)


@pytest.mark.parametrize("name", COMMANDS)
@given(data=st.data())
@examples(8)
def test_any_arguments_end_in_a_sentence(
    name: str, data: st.DataObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [option for one in COMMANDS[name].params for option in one.opts + one.secondary_opts if option[0] == "-"]
    arguments = data.draw(st.lists(st.sampled_from([*names, "--help-me"]) | values, max_size=8))
    needed = [(one.opts[0], data.draw(values)) for one in COMMANDS[name].params
              if one.required and one.opts[0][0] == "-"]  # fmt: skip
    given_ = [part for pair in needed for part in pair]
    result = CliRunner().invoke(app, [*name.split(), *arguments, *given_, *refused(name)])
    assert result.exit_code in (0, 1, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)


@pytest.mark.parametrize("read", [read_blocks, read_heads])
@given(text=texts | st.text(st.sampled_from("0123456789,-: ²٣"), max_size=12))
@example(text="0-99999999999")  # a range that no memory holds
@example(text="9" * 5000)  # more digits than Python reads
@examples(200)
def test_any_text_names_blocks_or_is_refused(read: Any, text: str) -> None:
    try:
        assert len(read(text) or ()) < 100_000
    except typer.BadParameter:
        pass
