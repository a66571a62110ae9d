"""Figures of the ablation: dots where the table has them, rings where q says so, bars to both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from figures import ablation_tables as tables
from matplotlib.axes import Axes

from refam_analysis import figures


@pytest.fixture(name="axes")
def _axes() -> Iterator[Axes]:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(6, 4))
        yield axes
        figure.canvas.draw()  # a figure that cannot be laid out fails here, since warnings are errors
        plt.close(figure)


def drawn(axes: Axes, label: str) -> np.ndarray:
    (container,) = [one for one in axes.containers if one.get_label() == label]
    return np.asarray(container.lines[0].get_xydata())


def test_every_switch_has_two_dots_in_its_row(axes: Axes) -> None:
    figures.switch_effects(axes, tables.effects())
    main, simple = drawn(axes, "mean over the other switches"), drawn(axes, "all other switches off")
    np.testing.assert_allclose(simple[:, 0], list(tables.CHANGES.values()))
    np.testing.assert_allclose(main[:, 0], [0.6 * change for change in tables.CHANGES.values()])
    assert np.abs(main[:, 1] - simple[:, 1]).min() > 0.15
    np.testing.assert_array_equal(np.round(main[:, 1]), [0, 1, 2])
    assert [label.get_text() for label in axes.get_yticklabels()] == list(tables.CHANGES)
    assert axes.get_xlabel() == "change of mean IoU\nn = 500 scenes, 95 % interval over scenes"


def test_rings_are_round_the_changes_that_q_tells_from_none(axes: Axes) -> None:
    table = tables.effects()
    figures.switch_effects(axes, table)
    (ring,) = [group for group in axes.collections if group.get_label() == "q at most 0.05"]
    np.testing.assert_allclose(np.asarray(ring.get_offsets())[:, 0], table.loc[table["q"] <= 0.05, "change"])
    dots = np.concatenate([drawn(axes, label) for label in ("mean over the other switches", "all other switches off")])
    assert {tuple(row) for row in np.round(ring.get_offsets(), 9)} <= {tuple(row) for row in np.round(dots, 9)}


def test_kinds_stand_under_one_another_in_the_row_of_their_switch(axes: Axes) -> None:
    figures.switch_effects_by_kind(axes, tables.effects_by_kind())
    heights = np.array([drawn(axes, kind)[:, 1] for kind in tables.KINDS])
    assert (np.diff(heights, axis=0) > 0.15).all()
    np.testing.assert_array_equal(np.round(heights), [[0, 1, 2]] * 4)
    np.testing.assert_allclose(drawn(axes, "relation")[:, 0], [change - 0.12 for change in tables.CHANGES.values()])


def test_points_that_came_stand_right_and_those_that_left_stand_left(axes: Axes) -> None:
    figures.points_moved(axes, tables.moved())
    bars = {one.get_label(): [bar.get_width() for bar in one] for one in axes.containers}
    assert bars == {"left the target": [-0.05, -0.11, -0.03], "came onto the target": [0.04, 0.02, 0.15]}
    assert axes.get_yticklabels()[1].get_text() == "noun phrase (50% moved)"
    low, high = axes.get_xlim()
    assert low == -high and high > 0.15


@pytest.mark.parametrize(
    ("figure", "table", "column", "value"),
    [
        (figures.switch_effects, tables.effects, "measure", "overall_iou"),
        (figures.switch_effects, tables.effects, "segmenter", "mobile-sam"),
        (figures.switch_effects, tables.effects, "kind", "relation"),
        (figures.switch_effects_by_kind, tables.effects_by_kind, "effect", "main"),
        (figures.points_moved, tables.moved, "kind", "relation"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tables_of_several_things_are_refused(
    axes: Axes, figure: Callable[..., Axes], table: Callable[[], pd.DataFrame], column: str, value: str
) -> None:
    two = pd.concat([table(), table().assign(**{column: value})])
    with pytest.raises(ValueError, match=f"'{column}'.*{value}"):
        figure(axes, two)
