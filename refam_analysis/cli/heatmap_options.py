"""How heatmaps are read, as options: written down once for every command that segments.

A command that is decorated with :func:`reads_heatmaps` has them all, and is given what of them was used.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from refam_analysis.cli.options import GasOption

if TYPE_CHECKING:
    from refam_analysis.models import DiffusionModel
    from refam_analysis.segmentation import HeatmapSettings

MaskChoiceOption = Annotated[Literal["score", "agreement"], typer.Option(help="Among the segmenter's masks.")]

# No transformer has ten thousand blocks, and a span of more digits would be a list that no memory holds.
_SPAN = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
_HEAD = re.compile(r"(\d{1,4}):(\d{1,4})")


def _options(
    direction: Annotated[
        Literal["image_to_text", "text_to_image"] | None, typer.Option(help="Whose attention is read.")
    ] = None,
    normalisation: Annotated[
        Literal["raw", "map", "share"] | None, typer.Option(help="Of every block and head, before they are averaged.")
    ] = None,
    blocks: Annotated[
        str | None, typer.Option(help='Blocks to average over: "3,5-8", "all", or "informative" by their entropy.')
    ] = None,
    heads: Annotated[str | None, typer.Option(help='Heads to average over, "block:head,...": "0:1,4:0".')] = None,
    noise_level: Annotated[
        list[float] | None, typer.Option(help="0 is the picture, 1 noise alone; several are averaged.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Noise draws to average over.", min=1)] = None,
    aggregation: Annotated[Literal["mean", "product"] | None, typer.Option(help="From words to one map.")] = None,
    gas: GasOption = None,
    noun_phrase: Annotated[
        bool | None, typer.Option("--noun-phrase/--no-noun-phrase", help="Read the noun phrase alone.")
    ] = None,
    spatial_bias: Annotated[
        float | None, typer.Option(help="Strength of the prior by words of place, 0 to 1.", min=0.0, max=1.0)
    ] = None,
    upsampling: Annotated[
        Literal["none", "bilinear", "bicubic"] | None, typer.Option(help="Of the map, before its point is taken.")
    ] = None,
) -> None:
    """The options; the model's own choice holds for each that is left out."""


def reads_heatmaps(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of how heatmaps are read.

    Args:
        command: has a parameter ``reading``, which is given a dictionary of those that were used, for
            :func:`chosen_reading`.
    """
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "reading"]
    shared = list(inspect.signature(_options, eval_str=True).parameters.values())

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        used = {one.name: given.pop(one.name) for one in shared}
        command(**given, reading={name: value for name, value in used.items() if value not in (None, [])})

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared)]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    hints = {**get_type_hints(_options, include_extras=True), **get_type_hints(command, include_extras=True)}
    with_options.__annotations__ = {one.name: hints[one.name] for one in parameters}
    del with_options.__wrapped__
    return with_options


def chosen_reading(model: DiffusionModel, reading: Mapping[str, Any]) -> HeatmapSettings:
    """The model's own settings with what was asked for in their place.

    Blocks that are asked for take the place of the model's heads, and the other way round.

    Args:
        model: the loaded one.
        reading: what :func:`reads_heatmaps` gives.

    Raises:
        typer.BadParameter: blocks or heads cannot be read.
        HeatmapSettingsError: what was asked for means nothing.
    """
    from dataclasses import replace

    from refam_analysis.segmentation import default_settings, with_numbered_blocks

    asked = dict(reading)
    if "noise_level" in asked:
        asked["noise_levels"] = tuple(asked.pop("noise_level"))
    if "blocks" in asked:
        asked["blocks"] = read_blocks(asked["blocks"])
    if "heads" in asked:
        asked["heads"] = read_heads(asked["heads"])
    if asked.keys() & {"blocks", "heads"}:
        asked = {"blocks": None, "heads": None, **asked}
    return with_numbered_blocks(model, replace(default_settings(model), **asked))


def read_blocks(text: str) -> tuple[int, ...] | Literal["informative"] | None:
    """Blocks as they are written on the command line.

    >>> read_blocks("3, 5-7"), read_blocks("all"), read_blocks("informative")
    ((3, 5, 6, 7), None, 'informative')
    """
    if text == "informative":
        return "informative"
    if text == "all":
        return None
    blocks: list[int] = []
    for part in text.split(","):
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            raise typer.BadParameter(f'{text!r} names no blocks: give "3,5-8", "all" or "informative"')
        blocks += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(blocks)


def read_heads(text: str) -> tuple[tuple[int, int], ...] | None:
    """Heads as they are written on the command line.

    >>> read_heads("0:1, 4:0"), read_heads("all")
    (((0, 1), (4, 0)), None)
    """
    if text == "all":
        return None
    matches = [_HEAD.fullmatch(part.strip()) for part in text.split(",")]
    if not all(matches):
        raise typer.BadParameter(f'{text!r} names no heads: give pairs "block:head", such as "0:1,4:0"')
    return tuple((int(match[1]), int(match[2])) for match in matches if match)
