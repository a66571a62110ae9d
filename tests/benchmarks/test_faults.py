"""The committed table of faults: at least a hundred, all sound, counted as it says."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.faults import NAME, TABLE, as_markdown, summary
from refam_analysis.experiments.provenance import RESULTS, Result, load_result


@pytest.fixture(scope="module")
def result() -> Result:
    if not (RESULTS / NAME).is_dir():
        pytest.skip(f"results/{NAME} is not made yet")
    return load_result(NAME)


def test_a_hundred_distinct_faults_came_to_the_data_of_an_undisturbed_run(result: Result) -> None:
    faults = result["faults"]
    applied = faults[faults["applies"]]
    assert len(applied) >= 100 and not applied.duplicated(["place", "kind"]).any()
    assert applied["sound"].all() and applied["equal"].all()
    assert not {"crashed", "hung"} & {*applied["fault"], *applied["again"]}
    assert (applied["differs"] == "").all() and (applied["left"] == "").all()


def test_what_does_not_apply_says_why(result: Result) -> None:
    faults = result["faults"]
    assert (faults.loc[~faults["applies"], "why_not"] != "").all()


def test_the_counts_are_those_of_the_faults(result: Result) -> None:
    pd.testing.assert_frame_equal(result["summary"], summary(result["faults"]))
    assert (RESULTS / NAME / TABLE).read_text(encoding="utf-8") == as_markdown(result)
