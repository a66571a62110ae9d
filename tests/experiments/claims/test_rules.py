"""The rules of the ledger: they judge as they say, and every claim of the paper has one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.experiments.claims.rules import CLAIMS, CRITERIA, LEAST_SCENES, Criterion, judge, verdicts

ONE = Criterion("c1_one", "a number", "unit")
BESIDE = Criterion("c2_two", "another", "unit", margin=-0.5, control="something else")


def scenes(mean: float, count: int = 60, spread: float = 1.0, seed: int = 0) -> np.ndarray:
    """Values whose mean is exact, whatever was drawn."""
    drawn = np.random.default_rng(seed).normal(size=count)
    return mean + spread * (drawn - drawn.mean()) / drawn.std()


def verdict_of(criterion: Criterion, **columns: np.ndarray) -> str:
    return judge(pd.DataFrame(columns), criteria=[criterion], flips=2000)["verdict"].item()


def test_every_claim_has_criteria_and_every_criterion_a_claim() -> None:
    assert {criterion.claim for criterion in CRITERIA} == {claim.name for claim in CLAIMS}
    assert [claim.name for claim in CLAIMS] == [f"C{number}" for number in range(1, 13)]
    assert len({criterion.name for criterion in CRITERIA}) == len(CRITERIA)


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.8, "supported"), (0.05, "not supported"), (-0.8, "not supported")], ids=str
)
def test_an_effect_is_supported_when_its_interval_clears_the_margin(mean: float, verdict: str) -> None:
    assert verdict_of(ONE, c1_one=scenes(mean)) == verdict


def test_a_margin_below_zero_admits_a_small_loss() -> None:
    assert verdict_of(Criterion("c1_one", "", "", margin=-0.5), c1_one=scenes(-0.1)) == "supported"
    assert verdict_of(Criterion("c1_one", "", "", margin=0.0), c1_one=scenes(-0.1)) == "not supported"


def test_an_effect_that_the_control_has_too_is_not_supported() -> None:
    values = scenes(1.0)
    noise = scenes(0.0, spread=0.1, seed=1)
    assert verdict_of(BESIDE, c2_two=values, c2_two_control=values + noise) == "not supported"
    assert verdict_of(BESIDE, c2_two=values, c2_two_control=values + noise - 0.5) == "supported"


def test_without_its_control_a_criterion_is_not_testable() -> None:
    table = judge(pd.DataFrame({"c2_two": scenes(1.0)}), criteria=[BESIDE])
    assert table["verdict"].item() == "not testable here"
    assert table["note"].item() == "its control was not measured: something else"


def test_numbers_of_the_table_equal_plain_ones() -> None:
    values, control = scenes(0.4), scenes(0.1, seed=2)
    values[3] = control[5] = np.nan
    row = judge(pd.DataFrame({"c2_two": values, "c2_two_control": control}), criteria=[BESIDE]).iloc[0]
    assert row["scenes"] == 59
    assert row["effect"] == pytest.approx(np.nanmean(values))
    assert row["deviation"] == pytest.approx(np.nanstd(values, ddof=1))
    assert row["control_effect"] == pytest.approx(np.nanmean(control))
    assert row["difference"] == pytest.approx(np.nanmean(values - control))
    half = 1.96 * row["deviation"] / np.sqrt(59)
    assert row["low"] == pytest.approx(row["effect"] - half, abs=0.1 * half)
    assert row["high"] == pytest.approx(row["effect"] + half, abs=0.1 * half)


def test_too_few_scenes_say_nothing() -> None:
    few = np.full(60, np.nan)
    few[: LEAST_SCENES - 1] = 1.0
    table = judge(pd.DataFrame({"c1_one": few}), criteria=[ONE])
    assert table["verdict"].item() == "not testable here"
    assert f"{LEAST_SCENES - 1} scenes" in table["note"].item()


def test_what_was_not_measured_is_not_testable_and_says_why() -> None:
    table = judge(pd.DataFrame({"c1_one": scenes(1.0)}), criteria=[ONE, BESIDE], untestable={"c2_two": "no text"})
    assert table["verdict"].tolist() == ["supported", "not testable here"]
    assert table["note"].tolist() == ["", "no text"]
    assert np.isnan(table["q"][1]) and table["q"][0] == table["p"][0]


@given(st.lists(st.sampled_from(["supported", "not supported", "not testable here"]), min_size=1, max_size=6))
def test_a_claim_stands_when_all_that_could_be_tested_stands(found: list[str]) -> None:
    table = pd.DataFrame({"claim": "C1", "verdict": found})
    row = verdicts(table, CLAIMS[:1]).iloc[0]
    made = [verdict for verdict in found if verdict != "not testable here"]
    assert (row["tested"], row["untested"]) == (len(made), len(found) - len(made))
    assert row["passed"] == made.count("supported")
    expected = "not testable here" if not made else "supported" if set(made) == {"supported"} else "not supported"
    assert row["verdict"] == expected
