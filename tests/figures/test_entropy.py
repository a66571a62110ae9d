"""Figures of entropy by direction and of the heads of each block: what is drawn is what the table says."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from refam_analysis import figures
from refam_analysis.analysis import ChangePoint

STATISTICS = {
    "mean": 0.62, "deviation": 0.1, "minimum": 0.4, "lower_quartile": 0.5, "median": 0.6, "upper_quartile": 0.7,
    "maximum": 0.8, "range": 0.4,
}  # fmt: skip
CHANGE = ChangePoint(
    block=2, low=1, high=3, before=0.9, after=0.5, drop=0.4, drop_low=0.3, drop_high=0.5, p=0.001, explained=0.9,
    explained_by_line=0.7, better_than_line=1.0, scenes=12, blocks=(0, 1, 2, 3), confidence=0.95,
)  # fmt: skip


@pytest.fixture(name="axes")
def _axes() -> Axes:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(6, 4))
        yield axes
        figure.canvas.draw()  # a figure that cannot be laid out fails here, since warnings are errors
        plt.close(figure)


def directions(names: tuple[str, ...] = ("image_to_text", "image_to_image"), scenes: int = 12) -> pd.DataFrame:
    rows = [
        {"block": block, "direction": name, "measure": measure, "value": base + 0.1 * index - 0.01 * block}
        for block in range(4)
        for index, name in enumerate(names)
        for measure, base in (("entropy", 2.0), ("normalised", 0.7), ("mass", 0.4))
    ]
    table = pd.DataFrame(rows).assign(low=lambda t: t["value"] - 0.02, high=lambda t: t["value"] + 0.03, scenes=scenes)
    table.attrs["confidence"] = 0.95
    return table


def spread(*sides: str) -> pd.DataFrame:
    rows = [
        {"block": block, "from_queries": side, "statistic": name, "value": value - 0.05 * block,
         "low": value - 0.05 * block - 0.01, "high": value - 0.05 * block + 0.02, "scenes": 9}
        for block in (0, 1, 2) for side in sides for name, value in STATISTICS.items()
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.attrs["confidence"] = 0.95
    return table


def curves(axes: Axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("measure", "first", "unit"),
    [("entropy", 2.0, "nats"), ("normalised", 0.7, "log(its keys)"), ("mass", 0.4, "share of the row")],
    ids=["nats", "normalised", "mass"],
)
def test_each_direction_is_a_curve_with_its_unit(axes: Axes, measure: str, first: float, unit: str) -> None:
    drawn = figures.entropy_by_direction(axes, directions(), measure=measure)
    assert drawn is axes and unit in axes.get_ylabel()
    assert legend(axes) == ["image_to_text", "image_to_image"]
    np.testing.assert_allclose(curves(axes)["image_to_text"], [[b, first - 0.01 * b] for b in range(4)])
    assert axes.get_xlabel() == "block\nn = 12 scenes, 95 % interval over scenes"


def test_a_direction_looks_the_same_whichever_are_beside_it(axes: Axes) -> None:
    names = ("text_to_text", "text_to_image", "image_to_text", "image_to_image")
    figures.entropy_by_direction(axes, directions(names))
    with_all = {line.get_label(): line.get_color() for line in axes.lines}
    assert len({with_all[name] for name in names}) == 4
    axes.clear()
    figures.entropy_by_direction(axes, directions(("image_to_text",)))
    assert axes.lines[0].get_color() == with_all["image_to_text"]


def test_each_curve_has_its_interval(axes: Axes) -> None:
    figures.entropy_by_direction(axes, directions(("image_to_text",)))
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(0.7 - 0.03 - 0.02) and corners[:, 1].max() == pytest.approx(0.73)


def test_the_change_point_is_shaded_over_its_interval_with_a_line_before_its_block(axes: Axes) -> None:
    figures.entropy_by_direction(axes, directions(), change=CHANGE)
    (shade,) = axes.patches
    corners = shade.get_path().vertices if shade.get_transform() is None else shade.get_extents().corners()
    left_right = axes.transData.inverted().transform(corners)[:, 0]
    assert left_right.min() == pytest.approx(0.5) and left_right.max() == pytest.approx(3.5)
    assert curves(axes)["change point: block 2 [1, 3]"][:, 0].tolist() == [1.5, 1.5]


def test_the_change_point_of_one_scene_has_no_shade(axes: Axes) -> None:
    change = replace(CHANGE, low=None, high=None, scenes=1)
    figures.entropy_by_direction(axes, directions(scenes=1), change=change)
    assert list(axes.patches) == [] and "change point: block 2" in legend(axes)


def test_heads_are_a_range_a_middle_half_and_a_median_with_its_interval(axes: Axes) -> None:
    drawn = figures.head_spread(axes, spread("image"))
    assert drawn is axes
    assert legend(axes) == ["all heads", "middle half of the heads", "median head"]
    bands = {
        band.get_label(): band.get_paths()[0].vertices[:, 1] for band in axes.collections if band.get_label()[0] != "_"
    }
    assert [bands["all heads"].min(), bands["all heads"].max()] == pytest.approx([0.3, 0.8])
    middle = bands["middle half of the heads"]
    assert [middle.min(), middle.max()] == pytest.approx([0.4, 0.7])
    (bars,) = [group for group in axes.collections if group.get_label().startswith("_")]
    np.testing.assert_allclose([s[:, 1] for s in bars.get_segments()], [[0.59, 0.62], [0.54, 0.57], [0.49, 0.52]])
    assert "image queries" in axes.get_ylabel()
    assert axes.get_xlabel() == "block\nn = 9 scenes, 95 % interval over scenes"


def test_heads_of_both_sides_in_one_figure_are_refused(axes: Axes) -> None:
    with pytest.raises(ValueError, match="text and image"):
        figures.head_spread(axes, spread("text", "image"))
