"""Conditions compared item by item."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from refam_analysis.evaluation import GroundingReport, ItemsError, paired_accuracy
from refam_analysis.segmentation import HeatmapSettings


def report(on_target: list[float], scenes: list[int] | None = None) -> GroundingReport:
    scenes = scenes or list(range(len(on_target)))
    rows = pd.DataFrame({"source": "model", "scene": scenes, "expression": "a ring", "target": on_target})
    control = rows.assign(source="random_point", target=0.5)
    return GroundingReport(pd.concat([rows, control]), HeatmapSettings())


def test_accuracy_is_the_share_of_the_models_points_alone() -> None:
    table = paired_accuracy({"none": report([1, 0, 1, 1])}, baseline="none")
    assert table["accuracy"].tolist() == [0.75]


def test_change_is_paired_so_its_interval_is_narrower_than_the_accuracies() -> None:
    """Fifty scenes are hit and fifty missed under both; the same ten are gained."""
    before = [1.0] * 50 + [0.0] * 50
    after = [1.0] * 60 + [0.0] * 40
    table = paired_accuracy({"none": report(before), "magnets": report(after)}, baseline="none").set_index("condition")
    row = table.loc["magnets"]
    assert row["change"] == pytest.approx(0.1)
    assert row["change_high"] - row["change_low"] < 0.7 * (row["accuracy_high"] - row["accuracy_low"])


def test_p_of_ten_gains_and_no_loss_is_that_of_ten_coins() -> None:
    before, after = [0.0] * 12, [1.0] * 10 + [0.0] * 2
    table = paired_accuracy({"none": report(before), "magnets": report(after)}, baseline="none").set_index("condition")
    assert table.loc["magnets", "p"] == pytest.approx(2 * 0.5**10)
    assert np.isnan(table.loc["none", "p"])


def test_items_of_one_scene_are_one_unit() -> None:
    table = paired_accuracy({"none": report([1, 0, 1], [7, 7, 8])}, baseline="none")
    assert (table["scenes"].item(), table["accuracy"].item()) == (2, 0.75)


def test_conditions_with_other_items_are_refused() -> None:
    with pytest.raises(ItemsError, match="'magnets' was not asked about the items of 'none'"):
        paired_accuracy({"none": report([1, 0]), "magnets": report([1, 0], [0, 5])}, baseline="none")


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(ItemsError, match="no condition 'nothing'"):
        paired_accuracy({"none": report([1, 0])}, baseline="nothing")
