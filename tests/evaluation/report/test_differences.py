"""Runs against one another: paired by expression, drawn by image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from refam_analysis.evaluation.report import RunsDifferError, difference_table, what_differs


def rows(seed: int, shift: int = 0) -> list[tuple[str, int, int]]:
    rng = np.random.default_rng(seed)
    return [(f"image-{i}", int(rng.integers(0, 60)) + shift, 100) for i in range(30) for _ in range(1 + i % 3)]


def test_changes_are_differences_of_scores_over_common_expressions(made: Callable) -> None:
    first, second = made(rows(0)), made(rows(1), name="theirs")
    second = dataclasses.replace(second, table=second.table.drop(index=[0, 5]))
    table = difference_table([first, second]).set_index("metric")
    kept = first.table.drop(index=[0, 5])
    assert table.loc["mIoU", "before"] == pytest.approx(kept["iou"].mean())
    assert table.loc["mIoU", "change"] == pytest.approx(second.table["iou"].mean() - kept["iou"].mean())
    assert table.loc["oIoU", "after"] == pytest.approx(second.table["intersection"].sum() / second.table["union"].sum())
    assert table.loc["mIoU", "expressions"] == len(kept)


def test_equal_runs_do_not_differ(made: Callable) -> None:
    table = difference_table([made(rows(0)), made(rows(0), name="again")])
    assert (table[["change", "low", "high"]] == 0).all(axis=None) and (table["p"] == 1).all()


def test_a_constant_gain_has_no_width_and_a_small_p(made: Callable) -> None:
    table = difference_table([made(rows(0)), made(rows(0, shift=10), name="better")]).set_index("metric")
    assert table.loc["mIoU", ["change", "low", "high"]].tolist() == pytest.approx([0.1] * 3)
    assert table.loc["mIoU", "p"] < 0.001 and table.loc["mIoU", "q"] >= table.loc["mIoU", "p"]


def test_the_interval_of_a_mean_is_that_of_paired_differences(made: Callable) -> None:
    first, second = made(rows(0)), made(rows(1), name="theirs")
    table = difference_table([first, second]).set_index("metric")
    change = (second.table["iou"] - first.table["iou"]).groupby(first.table["item"]).agg(["sum", "size"])
    expected = stats.bootstrap(
        (change["sum"].to_numpy(), change["size"].to_numpy()), lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True, method="percentile", rng=3, n_resamples=20_000,
    ).confidence_interval  # fmt: skip
    assert table.loc["mIoU", "low"] == pytest.approx(expected.low, abs=0.01)
    assert table.loc["mIoU", "high"] == pytest.approx(expected.high, abs=0.01)


def test_every_further_run_is_against_the_first(made: Callable) -> None:
    table = difference_table([made(rows(i), name=f"run-{i}") for i in range(3)])
    assert set(zip(table["run"], table["against"], strict=True)) == {("run-1", "run-0"), ("run-2", "run-0")}


def test_runs_of_other_data_are_refused(made: Callable) -> None:
    first = made(rows(0))
    other = {**first.about, "configuration": {**first.about["configuration"], "split": "testA"}}
    with pytest.raises(RunsDifferError, match="split 'val', theirs of 'testA'"):
        difference_table([first, made(rows(0), name="theirs", about=other)])
    with pytest.raises(RunsDifferError, match="no expression in common"):
        difference_table([first, made([("elsewhere", 1, 2)], name="theirs")])


def test_what_differs_names_the_entries(made: Callable) -> None:
    first = made(rows(0))
    about = {**first.about, "configuration": {**first.about["configuration"], "magnets": []}, "starts": []}
    assert what_differs(first, made(rows(0), about=about)) == {"configuration.magnets": (["a"], [])}
