"""The attention matrix: its borders, and labels that do not touch."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes

from refam_analysis import figures

WORDS = ["the", "small", "red", "ring", "on", "the", "left", "</s>"]


def joint(text: int, image: int, image_first: bool = False) -> xr.DataArray:
    """Attention over words, padding and image, labelled as a Recording does."""
    count = text + image
    values = np.random.default_rng(0).random((count, count))
    pieces = WORDS + ["<pad>"] * (text - len(WORDS)) + [""] * image
    kinds = ["content"] * 7 + ["special"] + ["padding"] * (text - len(WORDS)) + [""] * image
    sides = ["text"] * text + ["image"] * image
    order = np.roll(np.arange(count), image) if image_first else np.arange(count)
    labels = {"side": np.array(sides)[order], "text": np.array(pieces)[order], "kind": np.array(kinds)[order]}
    coordinates = {name: ("query", values) for name, values in labels.items()}
    coordinates |= {f"key_{name}": ("key", values) for name, values in labels.items()}
    places = {"query": np.arange(count), "key": np.arange(count)}
    return xr.DataArray(values / values.sum(1, keepdims=True), dims=("query", "key"), coords={**coordinates, **places})


@pytest.fixture(name="axes")
def _axes() -> Axes:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(6, 5))
        yield axes
        plt.close(figure)


@pytest.mark.parametrize("image_first", [False, True], ids=["text-first", "image-first"])
def test_the_border_lies_between_the_sides(axes: Axes, image_first: bool) -> None:
    figures.attention_matrix(axes, joint(20, 36, image_first))
    border = (36 if image_first else 20) - 0.5
    drawn = {tuple(line.get_xdata()) for line in axes.lines} | {tuple(line.get_ydata()) for line in axes.lines}
    assert (border, border) in drawn


def test_the_matrix_is_drawn_as_it_is(axes: Axes) -> None:
    attention = joint(20, 36)
    assert figures.attention_matrix(axes, attention) is axes
    np.testing.assert_array_equal(axes.images[0].get_array(), attention.values)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("key (56 tokens)", "query (56 tokens)")


def test_runs_carry_one_label_and_words_their_own(axes: Axes) -> None:
    figures.attention_matrix(axes, joint(20, 12))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [*WORDS, "padding ×12", "image ×12"]


@pytest.mark.parametrize("image", [12, 144, 1024])
def test_no_labels_touch(axes: Axes, image: int) -> None:
    figures.attention_matrix(axes, joint(32, image))
    figure = axes.get_figure()
    figure.canvas.draw()
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        assert len(boxes) >= 2
        assert not any(left.overlaps(right) for left, right in itertools.combinations(boxes, 2))


def test_what_is_not_one_matrix_is_refused(axes: Axes) -> None:
    with pytest.raises(ValueError, match="choose one step, branch, block and head"):
        figures.attention_matrix(axes, joint(20, 36).expand_dims("head"))
