"""Every experiment, on a few items: its result is what a direct computation gives, and it goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from refam_analysis.cli import app
from refam_analysis.evaluation.grounding import grounding_accuracy
from refam_analysis.evaluation.items import hard_items
from refam_analysis.experiments import generation, grounding, learning, segmenter, settings
from refam_analysis.experiments.provenance import Result, load_result
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.scenes import COLOURS, HELD_OUT, Scenes
from refam_analysis.segmentation import HeatmapSettings, default_settings
from refam_analysis.weights import embedded_folder

SEARCH = settings.SettingsSearch(
    items=4, noise_levels=(0.4, 0.7), longest_run=1, seeds=(1, 2), heads=2, strengths=(1.0,), batch_size=3
)


@dataclass(frozen=True)
class Place:
    """Weights that a test may write into, and a folder for results beside them."""

    weights: Path
    results: Path

    @property
    def transformer(self) -> Path:
        return self.weights / "embedded-dit"

    @property
    def segmenter(self) -> Path:
        return self.weights / "embedded-sam"


@pytest.fixture(scope="module")
def place(tiny_sam: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The embedded transformer as it ships, and a tiny segmenter that has learnt nothing."""
    root = tmp_path_factory.mktemp("experiments")
    place = Place(root / "weights", root / "results")
    shutil.copytree(embedded_folder("embedded-dit"), place.transformer)
    shutil.copytree(tiny_sam, place.segmenter)
    return place


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return load_model("embedded")


# Settings


@pytest.fixture(scope="module")
def searched(place: Place) -> Result:
    return settings.run(SEARCH, folder=place.transformer, results=place.results)


def test_the_chosen_settings_are_the_first_finalist_and_go_into_the_model(searched: Result, place: Place) -> None:
    entries = json.loads((place.transformer / "refam.json").read_text())
    chosen = HeatmapSettings.from_dict(entries["grounding"])
    assert json.loads(searched["finalists"]["settings"][0]) == json.loads(json.dumps(chosen.to_dict()))
    assert searched["finalists"]["margin"].is_monotonic_decreasing
    assert default_settings(load_model(place.transformer)) == chosen
    assert entries["image_size"] == [96, 96]


def test_finalists_are_the_best_of_every_stage(searched: Result) -> None:
    finalists = {tuple(row) for row in searched["finalists"][["settings", "magnets"]].itertuples(index=False)}
    assert set(searched["candidates"]["stage"]) == {"grid", "heads", "draws", "switches"}
    able = searched["candidates"].query("gas != 'redirect'")
    for _, rows in able.groupby(["stage", "magnets"]):
        best = rows.sort_values("margin", ascending=False, kind="stable").head(SEARCH.finalists)
        assert {tuple(row) for row in best[["settings", "magnets"]].itertuples(index=False)} <= finalists


def test_switches_are_tried_without_and_with_magnets(searched: Result) -> None:
    tried = searched["candidates"].query("stage == 'switches'")
    counts = tried.groupby(["magnets", "gas"]).size().to_dict()
    every = 2 * 2 * 3 * 2  # sites, noun phrase, upsampling, one strength and none
    assert counts == {
        ("default", "none"): every, ("default", "redirect"): every, ("default", "suppress"): every,
        ("none", "none"): every, ("none", "suppress"): every,
    }  # fmt: skip


def test_settings_that_need_magnets_are_no_default(searched: Result) -> None:
    assert "redirect" not in set(searched["finalists"]["gas"])


def test_finalists_are_scored_on_other_scenes(searched: Result, model: DiffusionModel) -> None:
    items = hard_items("validation", SEARCH.items, kinds=SEARCH.kinds, skip=SEARCH.items)
    for magnets, rows in searched["finalists"].groupby("magnets"):
        most = rows["seeds"].max()
        for row in rows[rows["seeds"] == most].to_dict("records"):
            one = HeatmapSettings.from_dict(json.loads(row["settings"]))
            appended = settings.MAGNETS[str(magnets)]
            direct = grounding_accuracy(model, items, one, magnets=appended, sources=["model"]).outcomes
            assert row["target"] == pytest.approx(direct["target"].mean())


def test_the_search_is_loaded_although_it_changed_refam_json(searched: Result, place: Place) -> None:
    load_result("settings", results=place.results, weights=place.weights)
    assert not list((place.results.parent / ".cache").glob("settings-*"))


# Grounding


@pytest.fixture(scope="module")
def grounded(searched: Result, place: Place) -> Result:
    return grounding.run(
        grounding.GroundingTest(items=6, batch_size=4), folder=place.transformer, results=place.results
    )


def test_outcomes_are_those_of_one_direct_call(grounded: Result, place: Place) -> None:
    direct = grounding_accuracy(load_model(place.transformer), hard_items("test", 6)).outcomes
    pd.testing.assert_frame_equal(grounded["outcomes"], direct.reset_index(drop=True), atol=1e-6)


def test_the_summary_has_every_source_together_and_by_kind(grounded: Result) -> None:
    pairs = set(zip(grounded["summary"]["source"], grounded["summary"]["kind"], strict=True))
    sources = {"model", "untrained", "other_expression", "random_point"}
    assert pairs == {(source, kind) for source in sources for kind in ("all", "attribute", "location")}


def test_some_outcomes_can_be_repeated(grounded: Result, place: Place) -> None:
    again = grounding.repeat(grounded, load_model(place.transformer), first=2, number=3)
    rows = grounded["outcomes"].query("source == 'model'").iloc[2:5]
    pd.testing.assert_frame_equal(rows.reset_index(drop=True), again.reset_index(drop=True), atol=1e-6)


@pytest.mark.parametrize(
    ("target", "distractor", "passed"), [(0.6, 0.2, True), (0.5, 0.2, False), (0.6, 0.4, False)], ids=str
)
def test_the_verdict_follows_the_rule(target: float, distractor: float, passed: bool) -> None:
    places = pd.DataFrame({"target": 0.0, "distractor_1": 0.0, "distractor_2": 0.0}, index=range(10))
    places.loc[: round(10 * target) - 1, "target"] = 1.0
    places.loc[round(10 * (1 - distractor)) :, "distractor_1"] = 1.0
    outcomes = places.assign(source="model", kind="attribute", scene=range(10), background=1 - places.sum(axis=1))
    table = grounding.summary(grounding.GroundingReport(outcomes, HeatmapSettings()))
    assert table["passed"].tolist() == [passed, passed]


# Generation


@pytest.fixture(scope="module")
def drawn(place: Place) -> Result:
    test = generation.GenerationTest(captions=6, steps=3, batch_size=4)
    return generation.run(test, folder=place.transformer, results=place.results)


def test_captions_are_true_of_their_scenes_and_name_what_training_never_showed() -> None:
    made = generation.captions(0, 60)
    assert len({one.text for one in made}) > 40
    for one in made:
        words = one.text.split()
        assert words[0] == ("an" if words[1][0] in "aeiou" else "a")
        assert {one.colour, one.shape} <= set(words)
    assert 0.3 < np.mean([bool(one.place) for one in made]) < 0.7
    assert any((one.colour, one.shape) in HELD_OUT for one in made)
    assert [one.text for one in generation.captions(20, 3)] == [one.text for one in made[20:23]]


def test_pictures_drawn_together_are_those_drawn_alone(model: DiffusionModel) -> None:
    texts, seeds = ["a red circle", "an orange star on the left"], [4, 9]
    together = generation.draw(model, texts, seeds=seeds, steps=3, guidance=3.0)
    for text, seed, image in zip(texts, seeds, together, strict=True):
        alone = np.asarray(model.generate(text, seed=seed, steps=3, guidance=3.0))
        assert np.abs(alone.astype(int) - image.astype(int)).max() <= 2


def test_shares_of_colours_sum_to_one_where_there_is_an_object(drawn: Result) -> None:
    shares = drawn["pictures"][[f"share_{name}" for name in COLOURS]].sum(axis=1)
    np.testing.assert_allclose(shares, drawn["pictures"]["object"].astype(float), atol=1e-9)


def test_the_summary_counts_pictures_and_chance() -> None:
    colours = ["red", "red", "blue", "green"]
    pictures = pd.DataFrame({"colour": colours, "other_colour": ["blue", "red", "red", "red"], "true_colour": colours})
    pictures = pictures.assign(held_out=[True, False, False, False], in_place=[1.0, np.nan, 0.0, np.nan])
    shapes = ["ring", "ring", "star", "cross"]
    pictures = pictures.assign(
        shape=shapes, other_shape=["star", "ring", "cross", "ring"], true_shape=["ring", "ring", "star", "star"],
        drawn_shape=["ring", "star", "star", "cross"], object=[True, True, True, False],
    )  # fmt: skip
    for name in COLOURS:
        pictures[f"share_{name}"] = [0.9, 0.9, 0.9, 0.9] if name == "red" else 0.0
    shares = generation.summary(pictures).set_index("measure")["share"]
    assert shares.to_dict() == {
        "colour fills the object": 0.5,
        "... colour: pairs that training showed": pytest.approx(1 / 3),
        "... colour: pairs held out": 1.0,
        "... colour: against another caption": 0.75,
        "... colour: at random": 0.125,
        "shape as named": 0.5,
        "... shape: pairs that training showed": pytest.approx(1 / 3),
        "... shape: pairs held out": 1.0,
        "... shape: against another caption": 0.0,
        "... shape: at random": pytest.approx(1 / 6),
        "object in the named place": 0.5,
        "judge of colours on true scenes": 1.0,
        "judge of shapes on true scenes": 0.75,
    }


def test_no_picture_is_compared_with_its_own_item(drawn: Result) -> None:
    pictures = drawn["pictures"]
    for name in ("colour", "shape"):
        assert sorted(pictures[f"other_{name}"]) == sorted(pictures[name])


def test_some_pictures_can_be_judged_again(drawn: Result, model: DiffusionModel) -> None:
    test = generation.GenerationTest(captions=6, steps=3, guidance=model.defaults.guidance)
    again = generation.judge(model, test, 3, 2)
    rows = drawn["pictures"].iloc[3:5].drop(columns=["other_colour", "other_shape"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, again, atol=0.02)


def test_a_stopped_experiment_goes_on(place: Place, tmp_path: Path) -> None:
    test, results = generation.GenerationTest(captions=4, steps=2, batch_size=2), tmp_path / "results"
    results.touch()
    with pytest.raises(OSError):  # a file lies where the folder of the results should
        generation.run(test, folder=place.transformer, results=results)
    results.unlink()
    (part,) = tmp_path.glob(".cache/generation-*/from-2.parquet")
    pd.read_parquet(part).assign(caption="read, not drawn again").to_parquet(part)
    result = generation.run(test, folder=place.transformer, results=results)
    assert (result["pictures"]["caption"] == "read, not drawn again").tolist() == [False, False, True, True]
    assert not list(tmp_path.glob(".cache/*"))


# Segmenter


def test_clicks_of_the_segmenter_are_counted_and_can_be_repeated(place: Place) -> None:
    test = segmenter.SegmenterTest(scenes=6)
    result = segmenter.run(test, folder=place.segmenter, results=place.results)
    plain = result["clicks"].query("occlusion == 0")
    assert len(plain) == sum(len(scene.scene.objects) for scene in Scenes("test", length=6, kinds=()))
    again = segmenter.repeat(result, folder=place.segmenter, first=3, number=2)
    rows = plain[plain["scene"].isin([3, 4])].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, again, atol=1e-5)
    total = result["summary"].query("group == 'all' and occlusion == 0")["clicks"].item()
    assert total == len(plain)


# Learning


LOG = """\
{"model": "autoencoder", "psnr": 31.5}
{"model": "dit", "command": "python -m refam_analysis.training.dit --size 64"}
{"model": "dit", "step": 200, "samples": 7200, "loss": 0.5, "rate": 2.0}
{"model": "dit", "step": 100, "samples": 3600, "loss": 0.7, "rate": 1.0}
{"model": "sam", "step": 100, "samples": 1600, "loss": 0.4}
{"model": "dit", "step": 200, "samples": 7200, "loss": 0.6, "rate": 2.0}
{"model": "dit", "step": 200, "samples": 7200, "probe_target": 0.3}
{"model": "dit", "step": 300, "samples": 9600, "loss": 0.5, "rate": 9.0, "seconds": 1800}
"""


def test_the_log_becomes_curves(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(LOG)
    result = learning.run(tmp_path, weights=["embedded-dit"], results=tmp_path / "results")
    curves, log = result["curves"], result["log"]
    dit = curves[(curves["model"] == "dit") & (curves["quantity"] == "loss")]
    assert dit[["step", "value"]].values.tolist() == [[100, 0.7], [200, 0.6], [300, 0.5]]
    assert set(curves["quantity"]) == {"loss", "rate", "probe_target", "seconds"}
    assert learning.training_hours(curves, "dit") == pytest.approx((7200 / 2 + 1800) / 3600)
    assert np.isnan(learning.training_hours(curves, "sam"))
    assert learning.logged_numbers(log, "autoencoder") == {"psnr": 31.5}
    assert learning.training_commands(log) == ["python -m refam_analysis.training.dit --size 64"]
    pd.testing.assert_frame_equal(learning.curves(log), curves)


def test_a_run_that_went_on_and_does_not_ship_is_told_too(tmp_path: Path) -> None:
    for name, loss in (("first", 0.9), ("second", 0.8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_text(LOG.replace('"loss": 0.7', f'"loss": {loss}'))
    result = learning.run(
        tmp_path / "first", further=tmp_path / "second", weights=["embedded-dit"], results=tmp_path / "results"
    )
    losses = result["curves"].query("quantity == 'loss' and value > 0.7").set_index("model")
    assert losses[["step", "samples", "value"]].T.to_dict("list") == {
        "dit": [100, 3600, 0.9], learning.FURTHER: [400, 13_200, 0.8],
    }  # fmt: skip
    assert learning.training_hours(result["curves"], learning.FURTHER) > 0
    assert learning.training_commands(result["log"]) == ["python -m refam_analysis.training.dit --size 64"]


def test_steps_are_counted_on_from_the_run_that_a_training_began_with(tmp_path: Path) -> None:
    for name, loss in (("six", 0.9), ("twelve", 0.8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_text(LOG.replace('"loss": 0.7', f'"loss": {loss}'))
    places = {"results": tmp_path / "results", "weights": ["embedded-dit"]}
    result = learning.run(tmp_path / "twelve", earlier=[tmp_path / "six"], **places)
    losses = result["curves"].query("quantity == 'loss' and value > 0.7").set_index("model")
    assert losses[["step", "samples", "value"]].T.to_dict("list") == {
        learning.EARLIER: [100, 3600, 0.9], "dit": [400, 13_200, 0.8],
    }  # fmt: skip
    both = learning.run(tmp_path / "twelve", earlier=[tmp_path / "six"] * 2, further=tmp_path / "six", **places)
    first = both["curves"].query("model != 'sam'").groupby("model")["step"].min()
    assert first.to_dict() == {learning.EARLIER: 100, "dit": 700, learning.FURTHER: 1000}


def test_without_a_log_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(learning.NoLogError, match="log.jsonl"):
        learning.run(tmp_path, results=tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


# The commands


def refam(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["experiment", *(str(argument) for argument in arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_is_the_one_in_the_provenance(tmp_path: Path) -> None:
    said = refam("generation", "--items", 2, "--steps", 2, "--results", tmp_path / "results")
    assert "judge of shapes on true scenes" in said
    about = json.loads((tmp_path / "results" / "generation" / "provenance.json").read_text())
    assert about["command"] == "refam experiment generation --items 2 --seed 0 --steps 2"


def test_a_missing_log_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["experiment", "learning", "--run", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no log.jsonl") and result.stderr.count("\n") == 1
