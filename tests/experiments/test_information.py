"""The experiment on what a model knows beside what its attention shows: which items, which noise, which tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from refam_analysis.evaluation import grounding_accuracy, hard_items
from refam_analysis.experiments import information
from refam_analysis.experiments.provenance import Result, load_result
from refam_analysis.models import load_model
from refam_analysis.segmentation.pipeline import default_settings

TEST = information.InformationTest(items=7, seed=2, noise_levels=(0.8,), draws=2, batch_size=3)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return information.run(TEST, results=tmp_path_factory.mktemp("results"))


def test_the_attention_is_that_of_the_grounding(result: Result) -> None:
    report = grounding_accuracy(load_model("embedded"), hard_items("test", 7), sources=["model"], seed=2)
    rows = result["outcomes"].query("reading == 'attention'").sort_values("item").reset_index(drop=True)
    expected = report.outcomes[["item", "scene", "kind", "expression", "x", "y", "target"]]
    pd.testing.assert_frame_equal(rows[list(expected)], expected, check_dtype=False)


def test_every_reading_has_every_item_once(result: Result) -> None:
    counts = result["outcomes"].groupby(["reading", "source"])["item"].agg(["size", "nunique"])
    assert set(counts.index) == {
        ("attention", "model"), ("gain", "model"), ("change", "model"),
        ("gain", "other_expression"), ("change", "other_expression"),
    }  # fmt: skip
    assert (counts == 7).all(axis=None)


def test_an_item_s_noise_does_not_depend_on_its_part(result: Result) -> None:
    model, items = load_model("embedded"), hard_items("test", 7)
    again = information.measure(model, items[3:5], ["a", "b"], default_settings(model), TEST, first=3)
    both = [
        rows.query("reading == 'gain' and source == 'model' and item in (3, 4)")[["item", "x", "y"]].to_numpy()
        for rows in (again, result["outcomes"])
    ]
    np.testing.assert_array_equal(*both)


def test_summary_compares_with_the_attention_item_by_item(result: Result) -> None:
    outcomes = result["outcomes"].query("source == 'model'").pivot(index="item", columns="reading", values="target")
    rows = result["summary"].query("kind == 'all' and source == 'model'").set_index("reading")
    for reading in ("gain", "change"):
        assert rows.loc[reading, "target"] == pytest.approx(outcomes[reading].mean())
        assert rows.loc[reading, "change"] == pytest.approx((outcomes[reading] - outcomes["attention"]).mean())
    assert rows.loc["attention", "change"] == 0
    assert result["summary"].query("source == 'other_expression'")["change"].isna().all()


def test_the_result_says_how_it_was_made(result: Result, tmp_path: Path) -> None:
    assert result.provenance.command == "refam experiment information --items 7 --seed 2"
    information.run(TEST, results=tmp_path)
    pd.testing.assert_frame_equal(
        load_result(information.NAME, results=tmp_path)["summary"], result["summary"], check_like=True
    )
