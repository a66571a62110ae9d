"""Figures of the causal tests: pairs of dots, their differences, and the paths that they belong to."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from refam_analysis import figures


@pytest.fixture(name="axes")
def _axes() -> Iterator[Axes]:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(6, 4))
        yield axes
        figure.canvas.draw()  # a figure that cannot be laid out fails here, since warnings are errors
        plt.close(figure)


def summary() -> pd.DataFrame:
    rows = [
        {"path": path, "number": number, "measure": "prediction", "scenes": 9, "q": 0.01 if number == 5 else 0.5,
         **{f"{name}{end}": value + by for name, value in (("sink", 0.4 * number), ("random", 0.1 * number),
                                                           ("difference", 0.3 * number))
            for end, by in (("", 0.0), ("_low", -0.05), ("_high", 0.1))}}
        for path, numbers in (("score", (1, 3, 5)), ("redirect_word", (1,)))
        for number in numbers
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.attrs["confidence"] = 0.95
    return table


def drawn(axes: Axes, label: str) -> np.ndarray:
    (container,) = [one for one in axes.containers if one.get_label() == label]
    return np.asarray(container.lines[0].get_xydata())


def test_sinks_stand_beside_random_tokens(axes: Axes) -> None:
    figures.sinks_against_random(axes, summary())
    sinks, random = drawn(axes, "sinks"), drawn(axes, "random tokens")
    np.testing.assert_allclose(sinks[:, 1], [0.4, 1.2, 2.0, 0.4])
    np.testing.assert_allclose(random[:, 1], [0.1, 0.3, 0.5, 0.1])
    assert (0 < random[:, 0] - sinks[:, 0]).all() and (random[:, 0] - sinks[:, 0] < 0.5).all()


def test_each_path_is_named_once_under_its_numbers(axes: Axes) -> None:
    figures.sinks_against_random(axes, summary())
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["1", "3\nmasked", "5", "1\nword onto\nmagnets"]
    places = axes.get_xticks()
    assert places[3] - places[2] > places[2] - places[1]
    assert axes.get_xlabel().endswith("n = 9 scenes, 95 % interval over scenes")


def test_differences_have_their_intervals_and_rings(axes: Axes) -> None:
    figures.sink_minus_random(axes, summary())
    (container,) = axes.containers
    (bars,) = container.lines[2]
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[v - 0.05, v + 0.1] for v in (0.3, 0.9, 1.5, 0.3)])
    (ring,) = [group for group in axes.collections if group.get_label() == "q at most 0.05"]
    np.testing.assert_allclose(np.asarray(ring.get_offsets())[:, 1], [1.5])
    assert axes.get_ylabel() == "change of the prediction,\nsinks minus random tokens\n(relative L2)"


@pytest.mark.parametrize("figure", [figures.sinks_against_random, figures.sink_minus_random])
def test_several_measures_are_refused(axes: Axes, figure: object) -> None:
    two = pd.concat([summary(), summary().assign(measure="point_accuracy")])
    with pytest.raises(ValueError, match="'prediction', 'point_accuracy'"):
        figure(axes, two)  # type: ignore[operator]
