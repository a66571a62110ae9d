"""Figures for dark pages: which colours change, and which stay."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from refam_analysis.figures.style import FAINT, INK, KIND_LOOKS, PAPER, figure_style
from refam_analysis.figures.vectors import as_svg

sys.path.append(str(Path(__file__).parents[2] / "book" / "_extensions"))
import dark_figures as dark  # noqa: E402


def drawn(figure: Figure) -> str:
    """The figure as SVG; closed, so that no test leaves one behind."""
    svg = as_svg(figure)
    plt.close(figure)
    assert svg is not None
    return svg


@pytest.mark.parametrize("kind", KIND_LOOKS)
def test_every_kind_can_be_told_from_dark_paper(kind: str) -> None:
    colour = dark.on_dark(KIND_LOOKS[kind].colour)
    least = 2.0 if kind == "other" else 3.0  # "other" is the background of a figure, faint on light paper as well
    assert dark.contrast(colour, dark.PAPER) >= least


def test_kinds_keep_colours_of_their_own() -> None:
    colours = {look.colour for look in KIND_LOOKS.values()}
    assert len({dark.on_dark(colour) for colour in colours}) == len(colours)


def test_text_can_be_read() -> None:
    assert dark.contrast(dark.on_dark(INK), dark.PAPER) >= 7
    assert dark.contrast(dark.on_dark(FAINT), dark.PAPER) >= 3.5


def test_paper_and_ink_change_places() -> None:
    with figure_style():
        figure, axes = plt.subplots()
        axes.plot([0, 1], [0, 1], color=INK)
        light = drawn(figure)
    changed = dark.for_dark(light)
    assert PAPER in light and PAPER not in changed and INK not in changed
    assert dark.PAPER in changed and dark.on_dark(INK) in changed


def test_what_lies_on_a_map_of_cells_stays() -> None:
    with figure_style():
        figure, axes = plt.subplots()
        axes.imshow(np.eye(3), cmap="Greys")
        axes.text(1, 1, "inside", color="#123456")
        axes.set_title("outside", color="#123456")
        light = drawn(figure)
    changed = dark.for_dark(light)
    assert changed.count("#123456") == 1
    assert light.count("#123456") == 2


def test_pictures_stay_as_they_are() -> None:
    with figure_style():
        figure, axes = plt.subplots()
        axes.imshow(np.eye(3))
        light = drawn(figure)
    pictures = [re.findall(r"data:image/png;base64,[^\"]+", svg) for svg in (light, dark.for_dark(light))]
    before, after = (["".join(one.split()) for one in found] for found in pictures)
    assert before == after != []
