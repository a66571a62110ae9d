"""Counts and groups: every bar, square and dot says what the numbers say."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from refam_analysis import figures


@pytest.fixture(name="axes")
def _axes() -> Axes:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(5, 4))
        yield axes
        figure.canvas.draw()
        plt.close(figure)


def test_bars_are_as_long_as_their_counts_and_say_so(axes: Axes) -> None:
    figures.count_bars(axes, pd.Series({"circle": 12, "star": 3}))
    assert [bar.get_width() for bar in axes.patches] == [12, 3]
    assert [text.get_text() for text in axes.texts] == ["12", "3"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["circle", "star"]


def test_the_first_name_stands_at_the_top(axes: Axes) -> None:
    figures.count_bars(axes, pd.Series({"circle": 12, "star": 3}))
    bottom, top = axes.get_ylim()
    assert bottom > top and axes.patches[0].get_y() < axes.patches[1].get_y()


def test_a_bar_has_the_colour_of_its_name(axes: Axes) -> None:
    figures.count_bars(axes, pd.Series({"red": 1, "other": 2}), colours={"red": (0.8, 0.1, 0.1)})
    assert axes.patches[0].get_facecolor()[:3] == (0.8, 0.1, 0.1)
    assert axes.patches[1].get_facecolor()[:3] == to_rgb(figures.KIND_LOOKS["content"].colour)


def test_only_marked_pairs_have_a_frame(axes: Axes) -> None:
    counts = pd.DataFrame([[1, 0], [2, 9]], index=["red", "blue"], columns=["ring", "star"])
    figures.pair_counts(axes, counts, marked={("blue", "ring"), ("green", "star")})
    assert [text.get_text() for text in axes.texts] == ["1", "0", "2", "9"]
    (frame,) = axes.patches
    assert (frame.get_x(), frame.get_y()) == pytest.approx((-0.46, 0.54))


def test_pairs_that_never_occur_are_drawn(axes: Axes) -> None:
    figures.pair_counts(axes, pd.DataFrame([[0, 0]], index=["red"], columns=["ring", "star"]))
    assert [text.get_text() for text in axes.texts] == ["0", "0"]


def test_every_value_is_a_dot_and_the_median_a_line(axes: Axes) -> None:
    figures.values_by_group(axes, {"small": [0.1, 0.2, 0.9], "large": [0.5]}, unit="IoU")
    dots, line = axes.lines[0], axes.lines[1]
    assert sorted(dots.get_ydata()) == [0.1, 0.2, 0.9]
    assert set(line.get_ydata()) == {0.2}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["small\nn = 3", "large\nn = 1"]


def test_dots_of_two_groups_do_not_mix(axes: Axes) -> None:
    values = np.zeros(200)
    figures.values_by_group(axes, {"small": values, "large": values}, unit="IoU")
    left, right = axes.lines[0].get_xdata(), axes.lines[2].get_xdata()
    assert max(left) < 0.5 < min(right)
