"""Curves, bars and the map of sinks: what is drawn is what the table says, with its units and its n."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from refam_analysis import figures


@pytest.fixture(name="axes")
def _axes() -> Axes:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(6, 4))
        yield axes
        figure.canvas.draw()  # a figure that cannot be laid out fails here, since warnings are errors
        plt.close(figure)


def by_block(group: str, names: list[str], **columns: object) -> pd.DataFrame:
    rows = [
        {group: name, "block": block, "value": 0.1 * index + 0.01 * block, "scenes": 12, **columns}
        for index, name in enumerate(names)
        for block in (0, 1, 5)
    ]
    table = pd.DataFrame(rows).assign(low=lambda t: t["value"] - 0.02, high=lambda t: t["value"] + 0.03)
    table.attrs["confidence"] = 0.95
    return table


def curves(axes: Axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("measure", "unit"), [("entropy", "nats"), ("normalised", "log(number of keys)")], ids=["nats", "normalised"]
)
def test_entropy_draws_each_side_with_its_unit(axes: Axes, measure: str, unit: str) -> None:
    table = by_block("from_queries", ["text", "image"], measure=measure)
    other = table.assign(measure="another", value=99.0)
    drawn = figures.entropy_by_block(axes, pd.concat([table, other]), measure=measure)
    assert drawn is axes
    assert unit in axes.get_ylabel()
    assert legend(axes) == ["text queries", "image queries"]
    np.testing.assert_allclose(curves(axes)["image queries"], [[0, 0.1], [1, 0.11], [5, 0.15]])


def test_a_curve_carries_its_interval_and_n(axes: Axes) -> None:
    figures.entropy_by_block(axes, by_block("from_queries", ["text"], measure="normalised"))
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(-0.02)
    assert corners[:, 1].max() == pytest.approx(0.08)
    assert axes.get_xlabel() == "block\nn = 12 scenes, 95 % interval over scenes"


def test_mass_draws_every_kind_of_the_table(axes: Axes) -> None:
    kinds = ["image", "content", "magnet", "padding"]
    figures.mass_by_kind(axes, by_block("kind", kinds, from_queries="image"))
    assert legend(axes) == ["content", "magnet", "padding", "image"]
    assert axes.get_ylabel() == "share of the mass of image queries"


def test_mass_of_both_sides_at_once_is_refused(axes: Axes) -> None:
    table = by_block("kind", ["content"], from_queries="image")
    with pytest.raises(ValueError, match="one query side"):
        figures.mass_by_kind(axes, pd.concat([table, table.assign(from_queries="text")]))


def test_the_change_of_mass_is_drawn_about_zero(axes: Axes) -> None:
    table = by_block("kind", ["content", "magnet"], from_queries="text").rename(columns={"value": "change"})
    figures.mass_change_by_kind(axes, table)
    np.testing.assert_allclose(curves(axes)["magnet"][:, 1], [0.1, 0.11, 0.15])
    assert any(set(line.get_ydata()) == {0.0} for line in axes.lines)


def test_localisation_names_its_measures(axes: Axes) -> None:
    figures.localisation_by_block(axes, by_block("measure", ["average_precision", "point_accuracy"]))
    assert legend(axes) == ["average precision", "point accuracy"]


@pytest.fixture(name="sinks")
def _sinks() -> pd.DataFrame:
    rows = [
        {"block": block, "role": role, "effect": 2.0 ** (block - index), "is_sink": (block, role) == (2, "</s>")}
        for block in (0, 1, 2)
        for index, role in enumerate(["the", "</s>", "padding 0"])
    ]
    return pd.DataFrame(rows).assign(scenes=20, exploratory=False)


def test_the_map_of_sinks_holds_doublings_and_rings(axes: Axes, sinks: pd.DataFrame) -> None:
    figures.sink_map(axes, sinks)
    np.testing.assert_allclose(axes.collections[0].get_array().reshape(3, 3), [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]])
    rings = axes.collections[-1].get_offsets()
    np.testing.assert_allclose(rings, [[2.5, 1.5]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["the", "</s>", "padding 0"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]
    assert axes.get_xlabel() == "block\nn = 20 scenes; rings: sinks"


def test_the_map_of_one_recording_says_that_it_is_exploratory(axes: Axes, sinks: pd.DataFrame) -> None:
    figures.sink_map(axes, sinks.assign(scenes=1, exploratory=True))
    assert "exploratory" in axes.get_xlabel() and "n = 1 scene;" in axes.get_xlabel()


def test_a_role_without_scenes_in_a_block_stays_empty(axes: Axes, sinks: pd.DataFrame) -> None:
    figures.sink_map(axes, sinks.drop(index=3))
    assert np.ma.getmaskarray(axes.collections[0].get_array()).reshape(3, 3)[0, 1]


def test_a_learning_curve_skips_what_was_not_measured(axes: Axes) -> None:
    log = pd.DataFrame({"step": [0, 10, 20], "loss": [3.0, 2.0, 1.0], "point_accuracy": [0.1, np.nan, 0.5]})
    figures.learning_curve(axes, log, columns=["loss", "point_accuracy"], unit="loss, point accuracy")
    np.testing.assert_allclose(curves(axes)["point accuracy"], [[0, 0.1], [20, 0.5]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss, point accuracy")


def test_a_logarithmic_scale_is_labelled_in_plain_numbers(axes: Axes) -> None:
    log = pd.DataFrame({"step": [0, 10, 20], "loss": [1.5, 0.4, 0.15]})
    figures.learning_curve(axes, log, log_scale=True)
    axes.get_figure().canvas.draw()
    low, high = axes.get_ylim()
    seen = [label.get_text() for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert seen == ["0.2", "0.5", "1"]


def test_bars_carry_value_interval_n_and_chance(axes: Axes) -> None:
    table = pd.DataFrame({"kind": ["attribute", "location"], "value": [0.6, 0.4], "low": [0.5, 0.3],
                          "high": [0.65, 0.55], "scenes": [100, 80]})  # fmt: skip
    figures.point_accuracy_by(axes, table, by="kind", chance=0.07)
    assert [bar.get_height() for bar in axes.patches] == [0.6, 0.4]
    (intervals,) = axes.collections
    np.testing.assert_allclose(intervals.get_segments()[1], [[1, 0.3], [1, 0.55]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["attribute\nn = 100", "location\nn = 80"]
    assert legend(axes) == ["random point: 0.07"]
