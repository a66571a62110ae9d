"""Which scenes an experiment is made on: those that the model knows, unless others are asked for.

A model says in its folder which scenes it was trained on (``scenes`` in ``refam.json``, or in a segmenter's
``config.json``). Every experiment's test has the field ``style``, None by default, which overrides that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.scenes import MovingOptions, SceneOptions
from refam_analysis.scenes.dataset import Split
from refam_analysis.scenes.sampling import Style


def style_option(style: Style | None) -> str:
    """What a command says where other scenes than the model's own were asked for.

    >>> style_option(None), style_option("rich")
    ('', ' --style rich')
    """
    return f" --style {style}" if style else ""


def model_option(folder: Path) -> str:
    """What a command says where another of the models that ship was measured than the first.

    >>> model_option(Path("embedded-dit")), model_option(Path("embedded-rich"))
    ('', ' --model embedded-rich')
    """
    return "" if folder.name == "embedded-dit" else f" --model {folder.name}"


def style_in(configuration: Mapping[str, Any]) -> Style:
    """The scenes that a result was made on; results of before there were several are of plain ones.

    >>> style_in({"style": "rich"}), style_in({"seed": 0})
    ('rich', 'plain')
    """
    style: Style = configuration.get("style") or "plain"
    return style


def items_in(
    configuration: Mapping[str, Any], number: int, *, first: int = 0, split: Split = "test"
) -> list[GroundingItem]:
    """Some of the hard items that a result was made on.

    Args:
        configuration: of the result: ``style``, and ``kinds`` and ``first_scene`` where they are not the usual ones.
        number: of items.
        first: number of the first one in the result.
        split: of the scenes.
    """
    kinds = {"kinds": configuration["kinds"]} if "kinds" in configuration else {}
    skip = configuration.get("first_scene", 0) + first
    return hard_items(split, number, skip=skip, style=style_in(configuration), **kinds)


def moving_options(style: Style) -> MovingOptions:
    """Which clips to draw, of a style: three objects, two of which share a colour or a shape.

    >>> moving_options("plain") == MovingOptions()
    True
    """
    return MovingOptions(scenes=SceneOptions(objects=(3, 3), shared_attribute=True, style=style))
