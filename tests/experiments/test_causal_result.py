"""The experiment on sinks as a whole: its result is written, loaded, repeated, and goes on after a stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from refam_analysis.cli import app
from refam_analysis.evaluation.colour_judge import judge_colour
from refam_analysis.evaluation.items import hard_items
from refam_analysis.experiments import causal
from refam_analysis.experiments.generation import captions
from refam_analysis.experiments.provenance import RESULTS, Result, load_result
from refam_analysis.experiments.sink_changes import ARMS, changes_of, picture_changes_of
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.segmentation.pipeline import default_settings


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    model = load_model("embedded")
    model.pipeline.set_progress_bar_config(disable=True)
    return model


TEST = causal.CausalTest(scenes=3, pictures=1, numbers=(1,), draws=1, steps=1, seed=7, batch_size=2)


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    return causal.run(TEST, folder=folder, results=folder.parents[1] / "results")


def test_the_result_is_loaded_as_it_was_written(result: Result, folder: Path) -> None:
    again = load_result("causal", results=folder.parents[1] / "results", weights=folder.parent)
    assert set(again.tables) == {"changes", "sinks", "summary", "handling", "handling_summary"}
    pd.testing.assert_frame_equal(again["changes"], result["changes"])
    assert again.provenance.command == "refam experiment causal --items 3 --pictures 1 --seed 7"
    assert not list((folder.parents[1] / ".cache").glob("causal-*"))


def test_scenes_are_those_of_single_calls(result: Result, model: DiffusionModel) -> None:
    settings = default_settings(model)
    item = hard_items("test", 1, skip=2)[0]
    direct = changes_of(model, item, settings, numbers=(1,), draws=1, seed=7 + 2 * settings.seeds).changes
    rows = result["changes"].query("item == 2").reset_index(drop=True)
    pd.testing.assert_frame_equal(rows[direct.columns], direct, rtol=1e-4, atol=1e-6)


def test_captions_are_drawn_and_judged(result: Result, model: DiffusionModel) -> None:
    rows = result["changes"].query("path == 'score' and measure in ('picture_rms', 'named_colour')")
    (caption,) = captions(0, 1, seed=7)
    direct = picture_changes_of(model, caption.text, numbers=(1,), steps=1, seed=7, arms=ARMS[:1]).changes
    assert rows["item"].tolist() == [0, 0] and rows["scene"].tolist() == [caption.item] * 2
    assert rows.iloc[0]["sink"] == pytest.approx(direct.set_index("measure").loc["picture_rms", "sink"], rel=1e-3)
    share = judge_colour(np.asarray(model.generate(caption.text, seed=7, steps=1))).shares[caption.colour]
    assert rows.iloc[1]["undisturbed"] == pytest.approx(share)


def test_the_summary_is_that_of_its_changes(result: Result) -> None:
    pd.testing.assert_frame_equal(result["summary"], causal.summary(result["changes"], seed=7))


def test_some_scenes_can_be_repeated(result: Result, model: DiffusionModel) -> None:
    again = causal.repeat(result, model, first=1, number=2)
    rows = result["changes"].query("item >= 1").reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, again, rtol=1e-4, atol=1e-6)


def test_a_stopped_run_goes_on(folder: Path, tmp_path: Path) -> None:
    test, results = causal.CausalTest(scenes=2, pictures=0, numbers=(1,), draws=1, batch_size=1), tmp_path / "results"
    results.touch()
    with pytest.raises(OSError):  # a file lies where the folder of the results should
        causal.run(test, folder=folder, results=results)
    results.unlink()
    (part,) = tmp_path.glob(".cache/causal-*/reading-000001.parquet")
    kept = pd.read_parquet(part)
    kept.assign(sink=np.where(kept["sink"].isna(), kept["sink"], 123.0)).to_parquet(part)
    found = causal.run(test, folder=folder, results=results)["changes"]
    assert (found.query("item == 1")["sink"] == 123.0).all() and (found.query("item == 0")["sink"] < 100).all()


def test_the_command_acts_in_the_blocks_that_it_is_given(tmp_path: Path) -> None:
    options = ["--items", "1", "--pictures", "0", "--block", "4", "--block", "1", "--results", str(tmp_path)]
    said = CliRunner().invoke(app, ["experiment", "causal", *options])
    assert said.exit_code == 0 and "redirect_word" in said.output
    found = load_result("causal", results=tmp_path)
    assert found.provenance.configuration["blocks"] == [1, 4]
    assert found.provenance.command == "refam experiment causal --items 1 --pictures 0 --seed 0 --block 1 --block 4"
    assert set(found["sinks"]["block"]) <= {1, 4}


def test_committed_scenes_change_alike(model: DiffusionModel) -> None:
    if not (RESULTS / "causal").is_dir():
        pytest.skip("results/causal is not made yet")
    committed = load_result("causal")
    again = causal.repeat(committed, model, first=60, number=1)
    rows = committed["changes"].query("item == 60 and measure in @again.measure.unique()").reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, again, atol=0.02, rtol=0.05)
    expected = causal.summary(committed["changes"], seed=committed.provenance.configuration["seed"])
    pd.testing.assert_frame_equal(committed["summary"], expected)


def test_handling_is_paired_with_none() -> None:
    rows = [(item, gas, hit, tokens)
            for gas, hits, counts in (("none", (0, 1, 1), (0, 0, 0)), ("suppress", (1, 1, 1), (2, 0, 4)))
            for item, (hit, tokens) in enumerate(zip(hits, counts, strict=True))]  # fmt: skip
    table = pd.DataFrame(rows, columns=["item", "gas", "point_accuracy", "tokens"]).assign(average_precision=0.5)
    found = causal.handling_summary(table).set_index(["gas", "measure"])
    suppressed = found.loc[("suppress", "point_accuracy")]
    assert suppressed["change"] == pytest.approx(1 / 3) and suppressed["value"] == 1.0
    assert suppressed["handled"] == pytest.approx(2 / 3)
    assert found.loc[("none", "point_accuracy"), "change"] == 0.0
    assert np.isnan(found.loc[("none", "point_accuracy"), "p"])
