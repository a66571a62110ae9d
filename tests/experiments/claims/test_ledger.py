"""The ledger end to end on a few scenes: what is measured, what is written, what an interrupted run keeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import refam_analysis as ra
from refam_analysis.evaluation.grounding import untrained
from refam_analysis.evaluation.items import hard_items
from refam_analysis.experiments.bundle import BundleError, bundles, open_bundle, write_bundle
from refam_analysis.experiments.claims import ledger
from refam_analysis.experiments.claims.measures import Asked, measure_batch, untestable
from refam_analysis.experiments.claims.rules import CRITERIA
from refam_analysis.experiments.provenance import Result
from refam_analysis.experiments.styles import segmenter_sha256
from refam_analysis.files import read_json
from refam_analysis.models import block_table
from refam_analysis.models.base import DiffusionModel
from refam_analysis.segmentation.pipeline import default_settings
from refam_analysis.segmentation.segmenters import load_segmenter

SCENES = 3


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return ra.load_model("embedded")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "claims"


@pytest.fixture(scope="module")
def result(out: Path) -> Result:
    return ledger.run(ledger.LedgerRun(scenes=SCENES, batch_size=2), out=out)


def test_every_criterion_is_measured_on_every_scene_that_has_it(result: Result) -> None:
    scenes = result["scenes"]
    assert len(scenes) == SCENES and set(scenes["kind"]) == {"attribute", "location"}
    names = {criterion.name for criterion in CRITERIA}
    controls = {f"{criterion.name}_control" for criterion in CRITERIA if criterion.control}
    assert set(scenes) == names | controls | {"item", "scene", "kind"}
    sentence_alone = [name for name in names if not name.startswith(("c4", "c6", "c7"))]
    assert scenes[sentence_alone].notna().all(axis=None)


def test_a_model_that_ships_is_noted_by_its_weights(result: Result) -> None:
    assert result.provenance.weights and result.provenance.configuration["folder"] == {}


def test_scenes_are_those_that_nothing_else_used(result: Result) -> None:
    expected = [item.scene for item in hard_items("test", SCENES, skip=1000)]
    assert result["scenes"]["scene"].tolist() == expected


def test_three_scenes_are_too_few_for_any_verdict(result: Result) -> None:
    assert set(result["ledger"]["verdict"]) == {"not testable here"}
    assert set(result["verdicts"]["verdict"]) == {"not testable here"}


def test_profiles_have_every_block_of_both_models(result: Result, model: DiffusionModel) -> None:
    profiles = result["profiles"]
    sizes = profiles.groupby(["source", "measure", "item"]).size()
    assert set(sizes) == {block_table(model)["number"].sum()} and set(profiles["source"]) == {"model", "untrained"}
    even = profiles.query("measure == 'row_entropy' and source == 'untrained'")["value"]
    assert ((even > 0.9) & (even <= 1.0)).all()
    kinds = profiles[profiles["measure"].str.startswith("mass_on_")]
    assert kinds.groupby(["source", "item", "block"])["value"].sum().to_numpy() == pytest.approx(1.0, abs=1e-5)


def test_numbers_do_not_depend_on_the_batch(result: Result, model: DiffusionModel) -> None:
    alone = ledger.repeat(result, model, first=1, number=1).iloc[0]
    together = result["scenes"].iloc[1]
    for name in alone.index.drop(["scene", "kind"]):
        assert alone[name] == pytest.approx(together[name], rel=2e-3, abs=2e-4, nan_ok=True), name


def test_criteria_about_depth_equal_plain_ones(result: Result, model: DiffusionModel) -> None:
    (item,) = hard_items("test", 1, skip=1000)
    attention = ra.record(model, item.image, item.expression, keep=["full"], seed=0)["full"].values[0, 0].astype(float)
    entropy = -(attention * np.log(np.maximum(attention, 1e-300))).sum(-1).mean((1, 2)) / np.log(attention.shape[-1])
    row, third = result["scenes"].iloc[0], len(attention) // 3
    assert row["c9_early_even"] == pytest.approx(entropy[:third].mean() - 0.95, abs=1e-5)
    assert row["c9_falls"] == pytest.approx(entropy[:third].mean() - entropy[third:].mean(), abs=1e-5)
    text = ra.record(model, item.image, item.expression).layout.text_length
    effects = []
    for rows in (slice(0, text), slice(text, None)):
        mass = attention[:, :, rows].mean((1, 2))
        peers = [np.median(mass[:, side], axis=1, keepdims=True) for side in (slice(0, text), slice(text, None))]
        effects.append(np.concatenate([mass[:, :text] / peers[0], mass[:, text:] / peers[1]], axis=1))
    strength = np.log(np.minimum(*effects).max(axis=1))
    assert row["c1_rise"] == pytest.approx(strength[-third:].mean() - strength[:third].mean(), abs=1e-4)
    assert row["c1_early_absent"] == pytest.approx(np.log(2) - strength[:third].mean(), abs=1e-4)


def test_an_interrupted_run_goes_on_and_gives_the_same(
    result: Result, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second batch fails once; the run after it measures that batch alone."""
    measured: list[int] = []

    def counted(asked: Asked, items: list, *, first: int, seed: int) -> pd.DataFrame:
        measured.append(first)
        if first == 2 and measured.count(2) == 1:
            raise KeyboardInterrupt
        return measure_batch(asked, items, first=first, seed=seed)

    monkeypatch.setattr(ledger, "measure_batch", counted)
    test, place = ledger.LedgerRun(scenes=SCENES, batch_size=2), tmp_path / "results" / "claims"
    with pytest.raises(KeyboardInterrupt):
        ledger.run(test, out=place)
    assert not place.exists()
    again = ledger.run(test, out=place)
    assert measured == [0, 2, 2]
    pd.testing.assert_frame_equal(again["scenes"], result["scenes"])
    pd.testing.assert_frame_equal(again["profiles"], result["profiles"])


def test_the_markdown_has_a_line_a_claim_and_a_criterion(result: Result) -> None:
    lines = ledger.as_markdown(result).splitlines()
    assert len(lines) == 2 + 12 + len(CRITERIA)
    assert sum(line.startswith("| **C") for line in lines) == 12
    assert all(line.count("|") == 9 for line in lines)


def test_a_model_without_text_queries_is_told_what_it_lacks(model: DiffusionModel) -> None:
    assert untestable(model) == {}


def test_untrained_is_measured_only_where_it_is_given(model: DiffusionModel) -> None:
    items = hard_items("validation", 1)
    asked = Asked(model, None, default_settings(model), load_segmenter("embedded"), 0.6)
    assert set(measure_batch(asked, items, first=0, seed=0)["source"]) == {"model"}
    assert untrained(model).transformer is not model.transformer


# Bundles


@pytest.fixture(scope="module")
def packed(result: Result, out: Path, model: DiffusionModel) -> Path:
    return write_bundle(out, out.parent / "mine", model=model, scenes=2, recordings=1).folder


def test_a_bundle_says_the_whole_command_that_makes_it(packed: Path, out: Path) -> None:
    (bundle,) = bundles(packed.parent)
    assert bundle.phenomena.provenance.command == (
        f"refam bundle --ledger {out.name} --out mine --model embedded --scenes 2 --recordings 1 --seed 0"
    )


def test_a_bundle_opens_with_its_tables_and_recordings(packed: Path, result: Result) -> None:
    (bundle,) = bundles(packed.parent)
    assert (bundle.name, bundle.model) == ("mine", "embedded")
    pd.testing.assert_frame_equal(bundle.ledger["scenes"], result["scenes"])
    assert bundle.phenomena["entropy"]["scenes"].unique().tolist() == [2]
    assert bundle.phenomena.provenance.configuration["first_scene"] == ledger.FIRST_SCENE
    own = ledger.shipped_sha256("embedded")
    assert bundle.phenomena.provenance.weights == own
    assert bundle.ledger.provenance.weights == own | segmenter_sha256("embedded")
    plain, magnets = sorted(bundle.recordings, key=lambda one: len(one.attrs["magnets"]))
    assert plain["image_to_text"].dtype == np.float16 and plain["image_to_text"].sizes["head"] == 1
    assert [token.kind for token in magnets.tokens].count("magnet") > 5
    assert not {"padding", "special"} & {token.kind for token in magnets.tokens}


def test_recordings_of_a_bundle_are_right_to_half_precision(packed: Path, model: DiffusionModel) -> None:
    (item,) = hard_items("test", 1, skip=1000)
    whole = ra.record(model, item.image, item.expression, heads="mean", keep=["image_to_text"])["image_to_text"]
    kept = open_bundle(packed).recordings[1]["image_to_text"]
    expected = whole.sel(token=kept["token"].values).values
    np.testing.assert_allclose(kept.values.astype(float), expected, rtol=2**-10, atol=1e-7)


@pytest.mark.parametrize("harm", ["changed", "missing", "added", "not JSON", "outside", "link"])
def test_a_damaged_bundle_is_refused_and_named(packed: Path, tmp_path: Path, harm: str) -> None:
    import shutil

    folder = tmp_path / "bundle"
    shutil.copytree(packed, folder)
    file, about = folder / "ledger" / "scenes.parquet", folder / "bundle.json"
    if harm == "changed":
        data = bytearray(file.read_bytes())
        data[100] ^= 1
        file.write_bytes(data)
    elif harm == "missing":
        file.unlink()
    elif harm == "added":
        (folder / "more.txt").write_text("x")
    elif harm == "not JSON":
        about.write_text("{")
    elif harm == "outside":
        about.write_text(about.read_text().replace("ledger/scenes.parquet", "../scenes.parquet"))
    else:
        (folder / "link").symlink_to(file)
    named = {"added": "more.txt", "not JSON": "bundle.json", "outside": "bundle.json", "link": "link"}
    with pytest.raises(BundleError, match=named.get(harm, "ledger/scenes.parquet")):
        open_bundle(folder)


def test_a_bundle_of_an_older_format_says_how_to_make_a_new_one(packed: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "old"
    shutil.copytree(packed, folder)
    about = folder / "bundle.json"
    about.write_text(json.dumps({**read_json(about), "format": 1}))
    with pytest.raises(BundleError, match="has format 1, and this version reads 2: pack the same ledger again"):
        open_bundle(folder)


def test_nothing_is_overwritten_and_no_other_model_is_packed(packed: Path, out: Path, model: DiffusionModel) -> None:
    with pytest.raises(BundleError, match="already"):
        write_bundle(out, packed, model=model)
    model = ra.load_model("embedded")
    model.name = "another"
    with pytest.raises(BundleError, match="'another'"):
        write_bundle(out, out.parent / "other", model=model)
    assert not (out.parent / "other").exists()
