"""Directions, blocks and heads: every part stands where the sequence has it."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from refam_analysis import figures
from refam_analysis.models.layout import TokenLayout

TEXT, GRID = 2, (2, 3)


@pytest.fixture(name="style", autouse=True)
def _style() -> Iterator[None]:
    with figures.figure_style():
        yield
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()
        plt.close("all")


def attention(blocks: int = 2, heads: int = 3) -> xr.DataArray:
    sides = ["text"] * TEXT + ["image"] * 6
    values = np.random.default_rng(0).dirichlet(np.ones(8), size=(blocks, heads, 8))
    coordinates = {"block": range(blocks), "head": range(heads), "side": ("query", sides), "key_side": ("key", sides)}
    return xr.DataArray(values, coordinates, ("block", "head", "query", "key"))


def word_maps(words: tuple[str, ...] = ("▁the", "▁ring"), blocks: int = 3) -> xr.DataArray:
    values = np.random.default_rng(1).random((len(words), blocks, *GRID))
    coordinates = {"text": ("token", list(words)), "block": [0, 4, 5][:blocks]}
    return xr.DataArray(values, coordinates, ("token", "block", "y", "x"))


@pytest.mark.parametrize(
    ("text", "image", "first"), [(slice(0, 2), slice(2, 8), "text"), (slice(6, 8), slice(0, 6), "image")],
    ids=["text-first", "image-first"],
)  # fmt: skip
def test_directions_stand_in_the_order_of_the_sequence(text: slice, image: slice, first: str) -> None:
    _, axes = plt.subplots()
    figures.directions(axes, TokenLayout(text=text, image=image, grid=GRID))
    places = {label.get_text(): label.get_position() for label in axes.texts if "_to_" in label.get_text()}
    assert set(places) == {"text_to_text", "text_to_image", "image_to_text", "image_to_image"}
    second = "image" if first == "text" else "text"
    assert places[f"{first}_to_{second}"][1] < places[f"{second}_to_{first}"][1]  # a query's row, from the top
    assert places[f"{first}_to_{second}"][0] > places[f"{second}_to_{first}"][0]  # a key's column, from the left


def test_directions_say_how_many_tokens_there_are() -> None:
    _, axes = plt.subplots()
    figures.directions(axes, TokenLayout(text=slice(0, 2), image=slice(2, 8), grid=GRID))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2 text", "6 image"]


def test_every_block_and_head_has_its_matrix() -> None:
    _, axes = plt.subplots(3, 2)
    shown = attention()
    figures.block_head_grid(axes, shown)
    np.testing.assert_array_equal(axes[2, 1].images[0].get_array(), shown.sel(block=1, head=2).values)
    assert [ax.get_title("center") for ax in axes[0]] == ["block 0", "block 1"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["head 0", "head 1", "head 2"]


def test_all_matrices_share_one_scale() -> None:
    _, axes = plt.subplots(3, 2)
    figures.block_head_grid(axes, attention())
    assert len({ax.images[0].get_clim() for ax in axes.flat}) == 1


def test_the_border_between_text_and_image_is_drawn_both_ways() -> None:
    _, axes = plt.subplots(3, 2)
    figures.block_head_grid(axes, attention())
    across, up = axes[0, 0].lines
    assert set(across.get_ydata()) == {TEXT - 0.5} and set(up.get_xdata()) == {TEXT - 0.5}


def test_a_grid_of_another_shape_is_refused() -> None:
    _, axes = plt.subplots(2, 3)
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*shape \(head, block\)"):
        figures.block_head_grid(axes, attention())


def test_every_word_has_its_map_in_every_block() -> None:
    _, axes = plt.subplots(2, 3)
    maps = word_maps()
    figures.word_block_grid(axes, np.zeros((16, 24, 3), np.uint8), maps)
    np.testing.assert_array_equal(axes[1, 2].images[1].get_array(), maps.isel(token=1, block=2).values)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["the", "ring"]
    assert [ax.get_title("center") for ax in axes[0]] == ["block 0", "block 4", "block 5"]


def test_words_and_axes_have_to_agree() -> None:
    _, axes = plt.subplots(2, 2)
    with pytest.raises(ValueError, match="Axes of the shape"):
        figures.word_block_grid(axes, np.zeros((16, 24, 3), np.uint8), word_maps())


def test_every_block_and_head_has_its_number() -> None:
    _, axes = plt.subplots()
    values = xr.DataArray([[0.5, 1.0], [0.25, 0.125]], {"block": [3, 9], "head": [0, 1]}, ("block", "head"))
    figures.block_head_values(axes, values, unit="share")
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "0.50", (1, 0): "0.25", (0, 1): "1.00", (1, 1): "0.12"}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3", "9"]


def test_two_panels_can_share_their_colours() -> None:
    _, axes = plt.subplots()
    values = xr.DataArray([[0.5]], {"block": [3], "head": [0]}, ("block", "head"))
    figures.block_head_values(axes, values, unit="share", limits=(0.0, 2.0))
    assert axes.images[0].get_clim() == (0.0, 2.0)
