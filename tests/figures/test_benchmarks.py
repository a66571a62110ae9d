"""Benchmarks: measured and published numbers can be told apart, and every dot is where its table says."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figures.benchmark_tables import differences, scores, slices
from matplotlib.axes import Axes

from refam_analysis import figures


@pytest.fixture(name="axes")
def _axes() -> Axes:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(6, 4))
        yield axes
        figure.canvas.draw()
        plt.close(figure)


def names(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_published_scores_are_marked_and_have_no_interval(axes: Axes) -> None:
    figures.benchmark_scores(axes, scores(), metric="oIoU")
    assert names(axes) == ["ours", "one image", "RefAM (published)", "Grad-CAM (published)"]
    published = next(line for line in axes.lines if line.get_label() == "published")
    assert published.get_markerfacecolor() == "none"
    np.testing.assert_allclose(published.get_xdata(), [47, 23])
    np.testing.assert_array_equal(published.get_ydata(), [2, 3])
    (container,) = axes.containers
    np.testing.assert_allclose(container[0].get_xdata(), [31, 25])
    (bars,) = container[2]
    np.testing.assert_allclose([segment[:, 0] for segment in bars.get_segments()], [[27, 36], [25, 25]])


def test_the_label_says_the_metric_the_number_of_images_and_the_interval(axes: Axes) -> None:
    figures.benchmark_scores(axes, scores(), metric="oIoU")
    assert axes.get_xlabel() == "oIoU in %\nn = 1 to 40 images, 95 % interval over them"


def test_slices_stand_in_groups_with_their_numbers(axes: Axes) -> None:
    figures.slice_scores(axes, slices(), metric="mIoU")
    assert names(axes) == ["place (n = 30)", "no place (n = 40)", "1-2 words (n = 1)"]
    places = axes.get_yticks()
    assert places[2] - places[1] > places[1] - places[0]
    assert [text.get_text() for text in axes.texts] == ["by kind", "by length"]
    assert axes.get_xlabel().endswith("90 % interval over images")


def test_differences_are_in_points_around_a_line_at_none(axes: Axes) -> None:
    figures.run_differences(axes, differences())
    assert names(axes) == ["no magnets: oIoU", "no magnets: PA"]
    np.testing.assert_allclose(axes.containers[0][0].get_xdata(), [-2, 3])
    assert any(set(line.get_xdata()) == {0.0} for line in axes.lines)
    assert "against magnets" in axes.get_xlabel()


def test_one_metric_of_the_differences_can_be_drawn_alone(axes: Axes) -> None:
    figures.run_differences(axes, differences(), metric="PA")
    assert names(axes) == ["no magnets: PA"]


def test_the_first_row_stands_at_the_top(axes: Axes) -> None:
    figures.benchmark_scores(axes, scores(), metric="oIoU")
    bottom, top = axes.get_ylim()
    assert bottom > top
