"""Scores of runs: by slow arithmetic over the rows, with intervals over whole images, and of slices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from refam_analysis.evaluation.items import ItemsError
from refam_analysis.evaluation.report import CLIP_METRICS, IMAGE_METRICS, SLICES, score_table, slice_table
from refam_analysis.evaluation.runner import RunResults

ROWS = [("a", 5, 10), ("a", 9, 10), ("b", 0, 100), ("c", 80, 100), ("c", 1, 4), ("c", 7, 10)]


def value(table: pd.DataFrame, metric: str, column: str = "value") -> float:
    return float(table.set_index("metric").loc[metric, column])


def test_scores_are_those_of_the_rows(made: Callable) -> None:
    table = score_table([made(ROWS, on_target=[1, 0, 0, 1, np.nan, 1])])
    assert tuple(table["metric"]) == IMAGE_METRICS
    assert value(table, "oIoU") == pytest.approx(102 / 234)
    assert value(table, "mIoU") == pytest.approx((0.5 + 0.9 + 0 + 0.8 + 0.25 + 0.7) / 6)
    assert [value(table, f"P@{t}") for t in (0.5, 0.6, 0.7, 0.8, 0.9)] == pytest.approx([4 / 6, 0.5, 0.5, 2 / 6, 1 / 6])
    assert value(table, "PA") == pytest.approx(3 / 5)
    assert set(table["images"]) == {3} and set(table["expressions"]) == {6} and set(table["origin"]) == {"measured"}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9), st.integers(10, 20)), min_size=1, max_size=12))
def test_values_lie_in_their_intervals_and_between_0_and_1(made: Callable, rows: list) -> None:
    table = score_table([made(rows)])
    assert table["value"].between(0, 1).all()
    some = table[table["low"].notna()]
    assert (some["low"] <= some["value"] + 1e-9).all() and (some["value"] <= some["high"] + 1e-9).all()
    assert (len({row[0] for row in rows}) > 1) == bool(len(some))


def test_intervals_draw_whole_images(made: Callable) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"image-{i}", int(shared), 100) for i, shared in enumerate(rng.integers(0, 100, 60)) for _ in range(4)]
    table = score_table([made(rows)])
    by_image = np.array([row[1] / row[2] for row in rows[::4]])
    expected = stats.bootstrap((by_image,), np.mean, method="percentile", rng=1, n_resamples=20_000).confidence_interval
    assert value(table, "mIoU", "low") == pytest.approx(expected.low, abs=0.01)
    assert value(table, "mIoU", "high") == pytest.approx(expected.high, abs=0.01)


def test_an_expression_that_failed_counts_as_wrong(made: Callable) -> None:
    table = score_table([made([("a", 10, 10), ("b", 0, 10)], error=[None, "no words"], on_target=[1.0, 0.0])])
    assert [value(table, metric) for metric in ("oIoU", "mIoU", "PA")] == [0.5, 0.5, 0.5]
    assert set(table["failed"]) == {1}


def test_a_skipped_pair_adds_nothing(made: Callable) -> None:
    run = made([("a", 10, 20), ("b", 1, 1)])
    run.table.loc[1, ["intersection", "union", "iou"]] = [0, 0, np.nan]
    table = score_table([run])
    assert [value(table, metric) for metric in ("oIoU", "mIoU", "P@0.5")] == [0.5, 0.5, 1.0]


def test_an_unfinished_run_says_what_is_missing(made: Callable) -> None:
    assert set(score_table([made(ROWS[:3])])["missing"]) == {1}
    assert score_table([made([])]).empty


def test_clips_have_j_and_f(made: Callable) -> None:
    about = {**made(ROWS).about, "data": {"items": 2, "video": True}}
    run = made([("a", 1, 2), ("b", 1, 2)], about=about, j=[0.5, 1.0], f=[0.7, np.nan])
    table = score_table([run])
    assert tuple(table["metric"]) == CLIP_METRICS
    assert [value(table, metric) for metric in ("J", "F", "J&F")] == pytest.approx([0.75, 0.7, 0.6])


# Slices


def test_slices_are_scored_as_runs_of_their_rows(made: Callable) -> None:
    kinds = ["left", "right", "left", "right", "left", "left"]
    run = made(ROWS, kind=kinds)
    sliced = slice_table(run, by=["kind"])
    assert sliced["slice"].unique().tolist() == ["left", "right"]
    for kind, rows in sliced.groupby("slice"):
        part = dataclasses.replace(run, table=run.table[run.table["kind"] == kind])
        expected = score_table([part])
        np.testing.assert_allclose(rows[["value", "low", "high"]], expected[["value", "low", "high"]])


def test_every_expression_is_in_one_slice_of_each_sort(scenes_run: RunResults) -> None:
    sliced = slice_table(scenes_run)
    counts = sliced[sliced["metric"] == "mIoU"].groupby("by")["expressions"].sum()
    assert dict(counts) == dict.fromkeys(SLICES, len(scenes_run.table))


@pytest.mark.parametrize(
    ("by", "fact", "values", "labels"),
    [
        ("length", "fact_words", [1, 2, 3, 4, 5, 7, 8, 40], ["1-2 words"] * 2 + ["3-4 words"] * 2 + ["5-7 words"] * 2
         + ["8 words or more"] * 2),
        ("target size", "fact_target_area", [0.0, 0.0099, 0.01, 0.05, 0.2, 1.0],
         ["under 1 % of the picture"] * 2 + ["1-5 %", "5-20 %"] + ["20 % or more"] * 2),
        ("same-class distractors", "fact_distractors", [0, 1, 2, 3, 17],
         ["none", "1 distractor", "2 distractors"] + ["3 or more"] * 2),
    ],
    ids=["length", "size", "distractors"],
)  # fmt: skip
def test_edges_belong_to_the_upper_slice(by: str, fact: str, values: list[float], labels: list[str]) -> None:
    found = SLICES[by](pd.DataFrame({fact: values}))
    assert found is not None and found.astype(str).tolist() == labels


def test_an_unknown_way_to_slice_is_named_beside_the_known_ones(made: Callable) -> None:
    with pytest.raises(ItemsError, match=r"'colour': choose among kind, length"):
        slice_table(made(ROWS), by=["kind", "colour"])


def test_a_fact_that_the_data_set_does_not_know_makes_no_slices(made: Callable) -> None:
    assert set(slice_table(made(ROWS))["by"]) == {"kind"}


def test_the_confidence_is_kept_for_figures(made: Callable) -> None:
    run = made(ROWS)
    assert score_table([run], confidence=0.9).attrs["confidence"] == 0.9
    wide, narrow = (score_table([run], confidence=c).set_index("metric").loc["mIoU"] for c in (0.99, 0.5))
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"]
