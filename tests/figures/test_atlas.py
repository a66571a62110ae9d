"""Matrices, heads and tokens of the atlas, and the diagram of a transformer."""

from __future__ import annotations

import numpy as np
import pytest
from figures import tables
from figures.samples import joint, picture, small
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from refam_analysis.figures import (
    KIND_LOOKS,
    SIDE_LOOKS,
    TransformerSizes,
    heads_plane,
    row_and_column,
    small_matrix,
    transformer_diagram,
    values_against,
)

NAMES, SIDES = ["red", "ball", *"abcd"], ["text"] * 2 + ["image"] * 4


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


def test_a_small_matrix_writes_hundredths_into_its_cells(ax: Axes) -> None:
    small_matrix(ax, small(), NAMES, SIDES)
    written = np.array([int(text.get_text()) for text in ax.texts]).reshape(6, 6)
    np.testing.assert_allclose(written, 100 * small(), atol=0.5)


def test_a_small_matrix_colours_names_by_their_side(ax: Axes) -> None:
    small_matrix(ax, small(), NAMES, SIDES, written=False)
    assert not ax.texts
    for label, side in zip(ax.get_yticklabels(), SIDES, strict=True):
        assert same_color(label.get_color(), SIDE_LOOKS[side].colour)


def test_a_small_matrix_has_a_line_where_the_side_changes(ax: Axes) -> None:
    small_matrix(ax, small(), NAMES, SIDES, written=False)
    assert [line.get_ydata()[0] for line in ax.lines[::2]] == [1.5]


def test_a_small_matrix_needs_a_name_for_each_token(ax: Axes) -> None:
    with pytest.raises(ValueError, match="5 names"):
        small_matrix(ax, small(), NAMES[1:], SIDES)


def test_a_row_and_a_column_are_in_multiples_of_uniform() -> None:
    attention = joint().assign_attrs(grid=(4, 6))
    axes = row_and_column(Figure().subplots(2, 2), picture(), attention, 2)
    row, column = ([bar.get_height() for bar in ax.patches] for ax in axes[:, 0])
    np.testing.assert_allclose(row, 40 * attention.values[2, :16])
    np.testing.assert_allclose(column, 40 * attention.values[:16, 2])


def test_bars_of_text_have_the_colours_of_their_kinds() -> None:
    axes = row_and_column(Figure().subplots(2, 2), picture(), joint().assign_attrs(grid=(4, 6)), 2)
    assert same_color(axes[0, 0].patches[0].get_facecolor(), KIND_LOOKS["content"].colour)
    assert same_color(axes[0, 0].patches[15].get_facecolor(), KIND_LOOKS["padding"].colour)


def test_a_row_and_a_column_need_the_grid() -> None:
    with pytest.raises(ValueError, match="'grid'"):
        row_and_column(Figure().subplots(2, 2), picture(), joint(), 2)


def test_every_head_has_its_name(ax: Axes) -> None:
    heads_plane(ax, tables.head_indices(), "far", "read", labels=("distance", "mass"))
    assert [text.get_text() for text in ax.texts] == [f"{block}.{head}" for block in range(4) for head in range(2)]


def test_curves_against_a_number_have_the_colours_of_their_kinds(ax: Axes) -> None:
    values_against(ax, tables.against(), "tokens", "name", labels=("text tokens", "share"))
    assert [line.get_color() for line in ax.lines] == [KIND_LOOKS[kind].colour for kind in ("padding", "content")]
    assert ax.get_xticks().tolist() == [16, 24, 32, 40, 48, 56]


def test_a_diagram_says_the_numbers_of_its_model(ax: Axes) -> None:
    sizes = TransformerSizes(512, (64, 48), 64, (1024, 768), 19, 38, 24, 128)
    transformer_diagram(ax, sizes)
    written = " ".join(" ".join(text.get_text() for text in ax.texts).split())
    for number in (
        "512 text",
        "64 x 48 = 3072",
        "1024 x 768 pixels, 16 latent",
        "19 double",
        "38 single",
        "24 heads of 128",
    ):
        assert number in written
