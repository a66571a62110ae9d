"""A figure as vectors: the same text each time, and pictures where there would be too many parts."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from refam_analysis.figures.vectors import MOST_PARTS, as_svg


def drawn(figure: Figure) -> str:
    """The figure as SVG; closed, so that no test leaves one behind."""
    svg = as_svg(figure)
    plt.close(figure)
    assert svg is not None
    return svg


def test_the_same_figure_is_the_same_text() -> None:
    def figure() -> Figure:
        one, axes = plt.subplots()
        axes.plot([0, 1], [0, 1], marker="o")
        axes.fill_between([0, 1], [0, 0], [1, 2], alpha=0.2)
        return one

    assert drawn(figure()) == drawn(figure())


@pytest.mark.parametrize(("side", "is_picture"), [(5, False), (40, True)], ids=["25 cells", "1600 cells"])
def test_many_cells_become_a_picture(side: int, is_picture: bool) -> None:
    figure, axes = plt.subplots()
    axes.pcolormesh(np.arange(side**2, dtype=float).reshape(side, side))
    assert (side**2 > MOST_PARTS) == is_picture
    assert ("<image" in drawn(figure)) == is_picture


def test_a_figure_without_axes_is_not_drawn() -> None:
    assert as_svg(Figure()) is None


def test_no_date_is_written() -> None:
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    assert "dc:date" not in drawn(figure)
