"""Figures about sinks."""

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


def sinks() -> pd.DataFrame:
    rows = [
        {"block": block, "role": role, "kind": kind, "mass_from_text": text * (block + 1),
         "mass_from_image": 3.0 * text,
         "effect": text + block, "low": text + block - 0.2, "high": text + block + 0.3, "scenes": scenes,
         "is_sink": role == "</s>" and block == 1}
        for block in (0, 1, 2)
        for role, kind, text, scenes in (("</s>", "special", 1.2, 9), ("ring", "content", 0.4, 3))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.attrs.update(minimum_effect=2.0, confidence=0.95)
    return table


def test_both_sides_shows_the_keys_of_one_block_by_kind(axes: Axes) -> None:
    table = sinks()
    figures.received_from_both_sides(axes, table[table["block"] == 1])
    points = {group.get_label(): np.asarray(group.get_offsets()) for group in axes.collections}
    np.testing.assert_allclose(points["special"], [[2.4, 3.6]])
    np.testing.assert_allclose(points["content"], [[0.8, 1.2]])
    assert axes.get_title("left") == "block 1"


def test_both_sides_rings_what_is_called(axes: Axes) -> None:
    table = sinks()
    figures.received_from_both_sides(axes, table[table["block"] == 1])
    (ring,) = [group for group in axes.collections if len(group.get_facecolor()) == 0]
    np.testing.assert_allclose(np.asarray(ring.get_offsets()), [[2.4, 3.6]])


def test_both_sides_of_several_blocks_is_refused(axes: Axes) -> None:
    with pytest.raises(ValueError, match="3 of 'block'"):
        figures.received_from_both_sides(axes, sinks())


def test_effects_draw_the_roles_asked_for_and_the_bar(axes: Axes) -> None:
    figures.sink_effects(axes, sinks(), ["</s>"])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["</s>", "minimum effect (2x)"]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0, 1.2], [1, 2.2], [2, 3.2]])
    assert axes.get_xlabel() == "block\nn = 9 scenes, 95 % interval over scenes"


def test_rows_draw_a_curve_a_kind(axes: Axes) -> None:
    table = sinks().rename(columns={"effect": "value"})
    figures.entropy_by_kind(axes, table)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["content", "special"]


def test_intervals_stand_one_under_the_other_in_the_tables_order(axes: Axes) -> None:
    table = pd.DataFrame({"name": ["a", "b"], "gain": [0.1, 0.3], "gain_low": [0.0, 0.2], "gain_high": [0.2, 0.5]})
    figures.value_intervals(axes, table.assign(scenes=5), by="name", value="gain", label="gain (share)", reference=0.0)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    (bars,) = axes.collections
    np.testing.assert_allclose([segment[:, 0] for segment in bars.get_segments()], [[0.0, 0.2], [0.2, 0.5]])
    assert axes.get_xlabel() == "gain (share)\nn = 5 scenes, interval over scenes"


def importance() -> pd.DataFrame:
    table = pd.DataFrame({"block": [0, 1, 2], "ratio": [1.5, 8.0, 60.0], "low": [1.2, 6.0, 50.0],
                          "high": [1.8, 9.0, 80.0], "ratio_to_all": [1.4, 7.0, 200.0],
                          "kind": ["content", "padding", "padding"], "scenes": 7})  # fmt: skip
    table.attrs["confidence"] = 0.95
    return table


def test_importance_draws_both_ratios_and_marks_the_kind_of_the_key(axes: Axes) -> None:
    figures.key_importance(axes, importance())
    np.testing.assert_allclose([line.get_ydata() for line in axes.lines], [[1.5, 8.0, 60.0], [1.4, 7.0, 200.0]])
    points = {group.get_label(): np.asarray(group.get_offsets()).tolist() for group in axes.collections[1:]}
    assert points == {"content": [[0.0, 1.5]], "padding": [[1.0, 8.0], [2.0, 60.0]]}
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "block\nn = 7 scenes, 95 % interval over scenes"


def over_steps(blocks: int = 2) -> pd.DataFrame:
    rows = [
        {"step": step, "noise_level": level, "block": block, "value": 2.0 + block + step, "low": 1.0, "high": 9.0,
         "scenes": 5}
        for step, level in enumerate((0.9, 0.6, 0.3)) for block in range(blocks)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_steps_go_from_noise_to_the_picture(axes: Axes) -> None:
    figures.sinks_over_steps(axes, over_steps())
    np.testing.assert_allclose(axes.lines[1].get_xydata(), [[0.9, 3.0], [0.6, 4.0], [0.3, 5.0]])
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["block 0", "block 1"]


def test_more_blocks_than_looks_are_refused(axes: Axes) -> None:
    with pytest.raises(ValueError, match="6 blocks; a figure tells 5 apart"):
        figures.sinks_over_steps(axes, over_steps(6))


def test_agreement_draws_a_curve_a_pair_of_one_measure(axes: Axes) -> None:
    rows = [
        {"one": "seed 0", "other": other, "measure": measure, "block": block, "value": value, "low": value - 0.1,
         "high": value + 0.1, "scenes": 8}
        for other, value in (("seed 1", 0.9), ("seed 2", 0.7)) for measure in ("jaccard", "rank_correlation")
        for block in (0, 1)
    ]  # fmt: skip
    figures.sink_agreement(axes, pd.DataFrame(rows), measure="jaccard")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["seed 0 and seed 1", "seed 0 and seed 2"]
    np.testing.assert_allclose(axes.lines[1].get_xydata(), [[0, 0.7], [1, 0.7]])
    assert axes.get_ylabel().startswith("share of the sinks")


def calibrated(**columns: object) -> pd.DataFrame:
    rows = [
        {"pattern": pattern, "factor": factor, "kind": "all", "detector": "ours", "scenes": scenes, "datasets": 60,
         "value": value, "low": value - 0.05, "high": value + 0.1, "false_share": 0.5 * value, "false_share_low": 0.0,
         "false_share_high": value}
        for pattern, factor, value in (("noise", 3.0, 0.1), ("object", 10.0, 0.8)) for scenes in (5, 10, 20)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


def test_level_draws_a_curve_a_pattern_and_what_is_promised(axes: Axes) -> None:
    figures.calibration_level(axes, calibrated())
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["noise", "object", "promised: 0.05"]
    assert axes.lines[1].get_ydata().tolist() == [0.8, 0.8, 0.8]
    assert (axes.lines[1].get_xdata() > axes.lines[0].get_xdata()).all()  # equal curves do not hide each other
    np.testing.assert_allclose(axes.collections[0].get_segments()[0], [[5.0, 0.05], [5.0, 0.2]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "10", "20"]
    assert "n = 60 data sets" in axes.get_xlabel()


@pytest.mark.parametrize(("what", "values"), [("found", [0.1, 0.8]), ("false", [0.05, 0.4])])
def test_power_draws_a_curve_a_strength(axes: Axes, what: str, values: list[float]) -> None:
    figures.calibration_power(axes, calibrated(), what=what)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["planted 3x", "planted 10x"]
    assert [line.get_ydata()[0] for line in axes.lines] == pytest.approx(values)
    assert what in axes.get_ylabel()


def test_several_detectors_in_one_figure_are_refused(axes: Axes) -> None:
    both = pd.concat([calibrated(), calibrated(detector="naive")])
    with pytest.raises(ValueError, match="choose from"):
        figures.calibration_level(axes, both)
    with pytest.raises(ValueError, match="choose from"):
        figures.calibration_power(axes, both)
