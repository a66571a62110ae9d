"""Criteria over trainings: counts of verdicts, and an interval in which each training counts once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from refam_analysis.experiments.claims.rules import CRITERIA
from refam_analysis.experiments.claims.trainings import over_trainings

EFFECTS = st.lists(st.floats(-5, 5), min_size=2, max_size=6, unique=True)
NOTHING = dict.fromkeys(["effect", "low", "high", "deviation"], np.nan)


def rows(effects: list[float], **further: object) -> pd.DataFrame:
    about = {"claim": "C1", "criterion": "c1_rise", "measure": "rise", "unit": "log ratio", "margin": 0.5}
    return pd.DataFrame(
        [
            about | {"run": f"seed-{seed}", "effect": effect, "low": effect - 1, "high": effect + 1, "deviation": 2.0,
                     "scenes": 16, "verdict": "supported" if effect - 1 > 0.5 else "not supported"} | further
            for seed, effect in enumerate(effects)
        ]
    )  # fmt: skip


@given(EFFECTS)
def test_the_interval_is_students_over_trainings(effects: list[float]) -> None:
    row = over_trainings(rows(effects), confidence=0.9).iloc[0]
    expected = stats.ttest_1samp(effects, 0.0).confidence_interval(0.9)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected), rel=1e-6, abs=1e-9)
    assert row["mean"] == pytest.approx(np.mean(effects)) and row["between"] == pytest.approx(np.std(effects, ddof=1))
    assert row["within"] == pytest.approx(0.5)


@given(EFFECTS)
def test_trainings_are_counted_by_verdict_and_by_side(effects: list[float]) -> None:
    row = over_trainings(rows(effects)).iloc[0]
    assert row["supported"] == sum(effect - 1 > 0.5 for effect in effects)
    assert row["against"] == sum(effect + 1 < 0.5 for effect in effects)
    assert row["trainings"] == len(effects)


def test_one_training_has_no_interval() -> None:
    row = over_trainings(rows([2.0])).iloc[0]
    assert row["mean"] == 2.0 and np.isnan([row["low"], row["high"], row["between"]]).all()


def test_what_could_not_be_tested_in_a_training_is_left_out() -> None:
    nowhere = rows([0.0], **NOTHING, verdict="not testable here")
    together = pd.concat([rows([1.0, 3.0]), nowhere])
    pd.testing.assert_frame_equal(over_trainings(together), over_trainings(rows([1.0, 3.0])))
    row = over_trainings(nowhere).iloc[0]
    assert row["trainings"] == 0 and np.isnan(row["mean"])


def test_criteria_keep_their_order() -> None:
    every = [rows([1.0, 2.0]).assign(claim=one.claim, criterion=one.name, margin=one.margin) for one in CRITERIA]
    assert over_trainings(pd.concat(every))["criterion"].tolist() == [one.name for one in CRITERIA]
