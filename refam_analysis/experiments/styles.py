"""Which scenes an experiment is made on: those that the model knows, unless others are asked for.

A model says in its folder which scenes it was trained on (``scenes`` in ``refam.json``, or in a segmenter's
``config.json``). Every experiment's test has the field ``style``, None by default, which overrides that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refam_analysis.evaluation.items import GroundingItem, hard_items, moving_items
from refam_analysis.experiments.provenance import weights_sha256
from refam_analysis.models.base import DiffusionModel
from refam_analysis.scenes import ExpressionKind
from refam_analysis.scenes.dataset import Split
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.segmenters import (
    EMBEDDED_SEGMENTERS,
    Segmenter,
    embedded_segmenter,
    load_segmenter,
)
from refam_analysis.weights import embedded_folder


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


def segmenter_sha256(*names: str) -> dict[str, str]:
    """The sha256 of the weights of those segmenters that ship, as a result notes them.

    Args:
        names: as ``load_segmenter`` takes them; those that do not ship are left out.

    >>> list(segmenter_sha256("embedded", "mobile-sam"))
    ['embedded-sam/model.safetensors']
    """
    folders = [embedded_folder(EMBEDDED_SEGMENTERS[name]) for name in names if name in EMBEDDED_SEGMENTERS]
    return {file: digest for folder in folders for file, digest in weights_sha256(folder).items()}


def segmenter_of(style: Style) -> tuple[Segmenter, dict[str, str]]:
    """The segmenter that ships for scenes of a style, and the sha256 of its weights, as a result notes them.

    >>> sorted(segmenter_of("rich")[1])
    ['embedded-rich-sam/model.safetensors']
    """
    name = embedded_segmenter(style)
    return load_segmenter(name), segmenter_sha256(name)


def style_in(configuration: Mapping[str, Any]) -> Style:
    """The scenes that a result was made on; results of before there were several are of plain ones.

    >>> style_in({"style": "rich"}), style_in({"seed": 0})
    ('rich', 'plain')
    """
    style: Style = configuration.get("style") or "plain"
    return style


def hard_items_for(
    model: DiffusionModel | None,
    split: Split,
    count: int,
    *,
    style: Style,
    kinds: Sequence[ExpressionKind] = ("attribute", "location"),
    skip: int = 0,
    objects: tuple[int, int] | None = None,
) -> list[GroundingItem]:
    """The hard items that a model can be asked about: pictures, or clips for a model of videos.

    Args:
        model: from ``load_model``; None for pictures whatever the model.
        split: ``validation`` or ``test``.
        count: number of items.
        style: of the scenes.
        kinds: of sentences.
        skip: leave out so many items first.
        objects: least and most in a picture; see :func:`~refam_analysis.evaluation.items.hard_items`.
    """
    if model is None or not model.family.is_video:
        return hard_items(split, count, style=style, kinds=kinds, skip=skip, objects=objects)
    return moving_items(split, count, frames=model.defaults.frames, style=style, kinds=kinds, skip=skip)


def items_in(
    configuration: Mapping[str, Any],
    number: int,
    *,
    first: int = 0,
    split: Split = "test",
    model: DiffusionModel | None = None,
) -> list[GroundingItem]:
    """Some of the hard items that a result was made on.

    Args:
        configuration: of the result: ``style``, and ``kinds``, ``objects`` and ``first_scene`` where they are not the
            usual ones.
        number: of items.
        first: number of the first one in the result.
        split: of the scenes.
        model: that was shown clips where it is one of videos; None where all models were shown pictures.
    """
    unusual = {name: tuple(configuration[name]) for name in ("kinds", "objects") if name in configuration}
    skip = configuration.get("first_scene", 0) + first
    return hard_items_for(model, split, number, skip=skip, style=style_in(configuration), **unusual)
