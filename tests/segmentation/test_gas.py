"""Handling of sinks: which tokens are acted on, where, and that what is read comes from the pass in which they are."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from refam_analysis.cli import app
from refam_analysis.evaluation.items import hard_items
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.prompts import DEFAULT_MAGNETS, make_prompt
from refam_analysis.recording import Intervention, Recording, record
from refam_analysis.segmentation import (
    HeatmapSettings,
    NoMagnetsError,
    SegmentationResult,
    SinkHandling,
    handle_sinks,
    heatmap,
    load_segmenter,
    look_for_sinks,
    segment,
)
from refam_analysis.segmentation.pipeline import default_settings, record_for_heatmaps
from refam_analysis.segmentation.segmenters.sam import SamSegmenter

SENTENCE, MAGNETS = "the red circle", (".", "blue")
SIDES = ("text", "image")
SCENE_WITH_SINKS, SEED = 2, 8


@pytest.fixture(scope="module")
def recording(model: DiffusionModel, picture: np.ndarray) -> Recording:
    keep = [f"{what}_from_{side}" for what in ("received", "uniformity") for side in SIDES]
    return record(model, picture, SENTENCE, magnets=MAGNETS, keep=keep)


def planted(recording: Recording, keys: Mapping[int, int]) -> Recording:
    """The recording with no key above its peers but these: key -> the block in which it draws ten times as much."""
    changed = Recording(copy.deepcopy(recording.dataset))
    for side in SIDES:
        changed.dataset[f"received_from_{side}"][:] = 1.0
        changed.dataset[f"uniformity_from_{side}"][:] = 1.0
        for key, block in keys.items():
            place = changed.dataset["block"].values.tolist().index(block)
            changed.dataset[f"received_from_{side}"][:, :, place, :, key] = 10.0
    return changed


def places(recording: Recording, kind: str) -> list[int]:
    return [token.index for token in recording.tokens if token.kind == kind]


def test_without_sinks_nothing_is_done(recording: Recording) -> None:
    handling = handle_sinks(planted(recording, {}), "suppress")
    assert handling.intervention is None
    assert not handling.sinks["is_sink"].any() and not handling.sinks["handled"].any()


def test_none_looks_for_nothing(recording: Recording) -> None:
    handling = handle_sinks(planted(recording, {0: 1}), "none")
    assert handling.sinks.empty and handling.intervention is None


@pytest.mark.parametrize("kind", ["stop", "special", "padding", "image"])
def test_a_sink_of_any_kind_is_masked_where_it_is_one(recording: Recording, kind: str) -> None:
    key = recording.layout.image.start + 3 if kind == "image" else places(recording, kind)[0]
    handling = handle_sinks(planted(recording, {key: 2}), "suppress")
    assert handling.intervention == Intervention((key,), "score", blocks=(2,))
    (row,) = handling.sinks[handling.sinks["handled"]].to_dict("records")
    assert (row["position"], row["block"], row["kind"], row["exploratory"]) == (key, 2, kind, True)


def test_several_sinks_are_acted_on_together(recording: Recording) -> None:
    stop, image = places(recording, "stop")[0], recording.layout.image.start
    handling = handle_sinks(planted(recording, {image: 1, stop: 3}), "suppress")
    assert handling.intervention == Intervention((stop, image), "score", blocks=(1, 3))


def test_redirected_mass_goes_onto_every_magnet(recording: Recording) -> None:
    key, magnets = places(recording, "stop")[0], tuple(places(recording, "magnet"))
    handling = handle_sinks(planted(recording, {key: 0}), "redirect")
    assert handling.intervention == Intervention((key,), "redirect", onto=magnets, blocks=(0,))


@pytest.mark.parametrize("gas", ["suppress", "redirect"])
def test_magnets_may_draw_what_they_want(recording: Recording, gas: str) -> None:
    magnet = places(recording, "magnet")[0]
    handling = handle_sinks(planted(recording, {magnet: 1}), gas)  # type: ignore[arg-type]
    assert handling.sinks["is_sink"].sum() == 1
    assert handling.intervention is None


def test_a_content_word_among_others_is_acted_on(recording: Recording) -> None:
    word = places(recording, "content")[0]
    handling = handle_sinks(planted(recording, {word: 1}), "suppress")
    assert handling.intervention == Intervention((word,), "score", blocks=(1,))


@pytest.mark.parametrize("gas", ["suppress", "redirect"])
def test_some_word_is_always_left_to_read(recording: Recording, gas: str) -> None:
    stop = places(recording, "stop")[0]
    every = dict.fromkeys([*places(recording, "content"), stop], 1)
    handling = handle_sinks(planted(recording, every), gas)  # type: ignore[arg-type]
    assert handling.intervention is not None and handling.intervention.keys == (stop,)
    kinds = handling.sinks.groupby("kind")[["is_sink", "handled"]].sum()
    assert kinds.loc["content"].tolist() == [len(places(recording, "content")), 0]


def test_redirection_without_magnets_is_answered_with_why(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    with pytest.raises(NoMagnetsError, match="gas='redirect'.*'the red circle' has none"):
        segment(model, picture, SENTENCE, magnets=(), segmenter=segmenter, gas="redirect")
    with pytest.raises(NoMagnetsError):  # the one magnet is the colour that the sentence names
        segment(model, picture, SENTENCE, magnets=("red",), segmenter=segmenter, gas="redirect")


def test_looking_is_one_pass_at_the_noise_that_is_read(model: DiffusionModel, picture: np.ndarray) -> None:
    settings = HeatmapSettings(noise_levels=(0.3, 0.7), seeds=2, gas="suppress")
    prompts = [make_prompt(SENTENCE, MAGNETS), make_prompt("a small ring")]
    found = look_for_sinks(model, [picture, picture], prompts, settings, seeds=[4, 6])
    for prompt, seed, handling in zip(prompts, [4, 6], found, strict=True):
        direct = record(
            model, picture, prompt.expression, magnets=prompt.magnets, noise_level=(0.3, 0.7), seed=seed, keep=["full"]
        )
        expected = handle_sinks(direct, "suppress").sinks
        np.testing.assert_allclose(handling.sinks["effect"], expected["effect"], rtol=1e-4)
        assert handling.sinks["handled"].tolist() == expected["handled"].tolist()


def test_items_are_recorded_with_their_own_intervention(model: DiffusionModel, picture: np.ndarray) -> None:
    settings = HeatmapSettings(seeds=2)
    sentences = [SENTENCE, "a small ring", "the blue star"]
    acts = [Intervention((1,)), None, Intervention((2, 14), "value", blocks=(1,))]
    handling = [SinkHandling(pd.DataFrame(), act) for act in acts]
    prompts = [make_prompt(sentence) for sentence in sentences]
    groups = record_for_heatmaps(model, [picture] * 3, prompts, settings, seeds=[0, 5, 9], handling=handling)
    for group, sentence, seed, act in zip(groups, sentences, [0, 5, 9], acts, strict=True):
        assert [recording.attrs["seed"] for recording in group] == [seed, seed + 1]
        for draw, found in enumerate(group):
            alone = record(model, picture, sentence, seed=seed + draw, keep=["image_to_text"], intervention=act)
            np.testing.assert_allclose(found["image_to_text"], alone["image_to_text"], atol=1e-6)
            assert ("intervention" in found.attrs) == (act is not None)


def test_the_command_says_what_redirection_needs(tiny_flux_folder: Path, picture: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(picture).save(tmp_path / "scene.png")
    arguments = ["segment", "--image", str(tmp_path / "scene.png"), "--expression", SENTENCE, "--magnets", ""]
    arguments += ["--out", str(tmp_path / "mask.png"), "--model", str(tiny_flux_folder), "--gas", "redirect"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: gas='redirect' moves the mass of sinks onto magnets")


# On a model that has sinks


@pytest.fixture(scope="module")
def embedded() -> DiffusionModel:
    return load_model("embedded")


@pytest.fixture(scope="module")
def with_sinks(embedded: DiffusionModel) -> Mapping[str, SegmentationResult]:
    """A validation scene that has sinks, segmented in all three ways with the model's own settings."""
    item = hard_items("validation", 1, skip=SCENE_WITH_SINKS)[0]
    segmenter = load_segmenter("embedded")
    return {
        gas: segment(embedded, item.image, item.expression, segmenter=segmenter, gas=gas, seed=SEED)
        for gas in ("none", "suppress", "redirect")
    }


def test_the_table_of_sinks_is_a_stage(with_sinks: Mapping[str, SegmentationResult]) -> None:
    assert with_sinks["none"].stages["sinks"].empty
    for gas in ("suppress", "redirect"):
        sinks = with_sinks[gas].stages["sinks"]
        assert sinks["handled"].any() and sinks["exploratory"].all()
        assert with_sinks[gas].stages["settings"].gas == gas


@pytest.mark.parametrize("gas", ["suppress", "redirect"])
def test_what_is_read_is_recorded_while_sinks_are_handled(
    with_sinks: Mapping[str, SegmentationResult], gas: str, embedded: DiffusionModel
) -> None:
    result, settings = with_sinks[gas], default_settings(embedded)
    handled = result.stages["sinks"].query("handled")
    magnets = [token.index for token in result.stages["recordings"][0].tokens if token.kind == "magnet"]
    act = Intervention(
        tuple(sorted(set(handled["position"]))),
        "score" if gas == "suppress" else "redirect",
        onto=() if gas == "suppress" else tuple(magnets),
        blocks=tuple(sorted(set(handled["block"]))),
    )
    item = hard_items("validation", 1, skip=SCENE_WITH_SINKS)[0]
    seen = [
        record(embedded, item.image, item.expression, magnets=DEFAULT_MAGNETS, noise_level=settings.noise_levels,
               seed=SEED + draw, keep=["image_to_text"], intervention=act)
        for draw in range(settings.seeds)
    ]  # fmt: skip
    np.testing.assert_allclose(result.heatmap, heatmap(seen, settings), rtol=1e-3)
    for row in handled.to_dict("records"):
        for recording in result.stages["recordings"]:
            assert recording["image_to_text"].sel(block=row["block"], token=row["position"]).values.max() == 0


def test_masking_gives_the_words_what_the_sink_drew(with_sinks: Mapping[str, SegmentationResult]) -> None:
    """A row's other keys share the mass of a masked one; redirected mass goes past them."""
    (block,) = with_sinks["suppress"].stages["sinks"].query("handled")["block"]
    words = {
        gas: result.stages["recordings"][0]["image_to_text"].sel(block=block).isel(step=0, branch=0).sum("token")
        for gas, result in with_sinks.items()
    }
    draws = with_sinks["none"].stages["recordings"][0]["image_to_text"].sel(block=block).isel(step=0, branch=0)
    (key,) = with_sinks["suppress"].stages["sinks"].query("handled")["position"]
    sink = draws.sel(token=key)
    np.testing.assert_allclose(words["suppress"], (words["none"] - sink) / (1 - sink), rtol=1e-3)
    np.testing.assert_allclose(words["redirect"], words["none"], rtol=1e-3)


def test_settings_may_say_what_is_done(embedded: DiffusionModel, with_sinks: Mapping[str, SegmentationResult]) -> None:
    item = hard_items("validation", 1, skip=SCENE_WITH_SINKS)[0]
    settings = replace(default_settings(embedded), gas="suppress")
    found = segment(embedded, item.image, item.expression, settings=settings, seed=SEED)
    np.testing.assert_allclose(found.heatmap, with_sinks["suppress"].heatmap, rtol=1e-4)
