"""Published numbers: all of them have a source, and they are the paper's."""

from __future__ import annotations

import pytest

from refam_analysis.evaluation.datasets.catalogue import BENCHMARKS
from refam_analysis.evaluation.published import published_rows


def test_every_row_says_where_it_is_from_and_that_it_is_published() -> None:
    rows = published_rows()
    assert len(rows) == 94
    assert rows["source"].str.contains("arXiv 2509.22650").all() and (rows["origin"] == "published").all()
    assert rows["value"].between(0.1, 0.9).all()
    assert not rows.duplicated(["dataset", "split", "method", "metric"]).any()


def test_rows_are_of_splits_that_can_be_measured() -> None:
    for (dataset, split), _ in published_rows().groupby(["dataset", "split"]):
        assert split in BENCHMARKS[dataset].splits


@pytest.mark.parametrize(
    ("dataset", "split", "method", "metric", "value"),
    [
        ("refcoco", "testA", "RefAM", "oIoU", 0.5230),
        ("refcoco+", "testB", "HybridGL", "oIoU", 0.3090),
        ("refcocog-umd", "test", "RefAM", "oIoU", 0.4445),
        ("ref-davis17", "valid", "RefAM + SAM 2", "J&F", 0.576),
        ("ref-davis17", "valid", "AL-Ref-SAM2", "F", 0.780),
        ("ref-davis17", "valid", "RefAM + SAM 2, ablation: none of AM, NP, SB", "PA", 0.525),
    ],
)
def test_numbers_are_those_of_the_paper(dataset: str, split: str, method: str, metric: str, value: float) -> None:
    rows = published_rows(dataset, split).set_index(["method", "metric"])
    assert rows.loc[(method, metric), "value"] == pytest.approx(value)


def test_methods_with_a_detector_and_ablations_are_marked() -> None:
    notes = published_rows("ref-davis17").groupby("method")["note"].first()
    assert notes["Grounded-SAM"] == "with a detector" and notes["RefAM + SAM 2"] == ""
    assert (notes[notes.index.str.contains("ablation")] == "ablation").all()


def test_a_data_set_of_ours_has_none() -> None:
    assert published_rows("scenes").empty
