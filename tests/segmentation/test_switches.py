"""The switches of the method: noun phrase, spatial bias, upsampling, informative blocks, in every stage they touch."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.prompts import make_prompt, places
from refam_analysis.recording import Recording, record, record_batch
from refam_analysis.segmentation import (
    HeatmapSettings,
    HeatmapSettingsError,
    SpatialBiasError,
    UnknownExpressionError,
    chosen_settings,
    default_settings,
    heatmap,
    informative_blocks,
    patch_heatmap,
    segment,
    spatial_bias,
    with_numbered_blocks,
    word_maps,
    words_to_read,
)
from refam_analysis.segmentation.point import peak
from refam_analysis.segmentation.reading import upsample
from refam_analysis.segmentation.segmenters.sam import SamSegmenter
from refam_analysis.segmentation.settings import UPSAMPLING_FACTOR

PLACED = "the red circle on the left"


@pytest.fixture(scope="module")
def recording(model: DiffusionModel, picture: np.ndarray) -> Recording:
    return record(model, picture, PLACED, magnets=("blue",), seed=1)


def test_the_noun_phrase_narrows_what_is_read(recording: Recording) -> None:
    assert [word.text for word in words_to_read(recording)] == ["red", "circle", "on", "left"]
    assert [word.text for word in words_to_read(recording, noun_phrase=True)] == ["red", "circle"]
    narrowed = word_maps(recording, HeatmapSettings(noun_phrase=True))
    every = word_maps(recording)
    np.testing.assert_allclose(narrowed, every[:2], rtol=1e-5)
    read = heatmap(recording, HeatmapSettings(noun_phrase=True))
    np.testing.assert_allclose(read, every.values[:2].mean(0), rtol=1e-5)


def test_magnets_in_front_do_not_shift_the_noun_phrase(model: DiffusionModel, picture: np.ndarray) -> None:
    prompt = make_prompt(PLACED, (".", "blue"), magnets_first=True)
    (recorded,) = record_batch(model, [picture], [prompt])
    assert [word.text for word in words_to_read(recorded, noun_phrase=True)] == ["red", "circle"]


@pytest.mark.parametrize("expression", ["him on the left", "left"])
def test_a_noun_phrase_without_content_words_leaves_all_of_them(
    model: DiffusionModel, picture: np.ndarray, expression: str
) -> None:
    recorded = record(model, picture, expression)
    assert words_to_read(recorded, noun_phrase=True) == words_to_read(recorded)
    np.testing.assert_array_equal(heatmap(recorded, HeatmapSettings(noun_phrase=True)), heatmap(recorded))


@pytest.mark.parametrize("settings", [{"noun_phrase": True}, {"spatial_bias": 0.5}], ids=str)
def test_a_recording_without_its_expression_has_neither_noun_phrase_nor_places(
    recording: Recording, settings: dict
) -> None:
    nameless = Recording(recording.dataset.assign_attrs(expression=""))
    assert heatmap(nameless).shape == (4, 5)
    with pytest.raises(UnknownExpressionError, match="record_batch"):
        heatmap(nameless, HeatmapSettings(**settings))


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_the_spatial_bias_multiplies_the_map(recording: Recording, strength: float) -> None:
    prior = spatial_bias(places(PLACED), (4, 5), strength=strength)
    expected = heatmap(recording).values * prior
    np.testing.assert_allclose(heatmap(recording, HeatmapSettings(spatial_bias=strength)), expected, rtol=1e-6)
    assert prior[0, 0] > prior[0, -1]


def test_an_expression_without_a_place_has_no_bias(model: DiffusionModel, picture: np.ndarray) -> None:
    recorded = record(model, picture, "the red circle")
    np.testing.assert_allclose(heatmap(recorded, HeatmapSettings(spatial_bias=1.0)), heatmap(recorded))


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
def test_upsampling_keeps_places_and_means(how: str) -> None:
    """Against the definition, a weighted mean of neighbours at the middles of the finer cells."""
    coarse = np.random.default_rng(0).uniform(0.2, 1.0, (5, 7))
    fine = upsample(torch.from_numpy(coarse)[None], how)[0].numpy()
    assert fine.shape == (5 * UPSAMPLING_FACTOR, 7 * UPSAMPLING_FACTOR)
    rows, columns = ((np.arange(n * UPSAMPLING_FACTOR) + 0.5) / UPSAMPLING_FACTOR - 0.5 for n in coarse.shape)
    if how == "bilinear":
        grid = np.meshgrid(rows, columns, indexing="ij")
        np.testing.assert_allclose(fine, ndimage.map_coordinates(coarse, grid, order=1, mode="nearest"), rtol=1e-6)
    else:
        weights = [cubic(at, n) for at, n in ((rows, 5), (columns, 7))]
        np.testing.assert_allclose(fine, np.clip(weights[0] @ coarse @ weights[1].T, 0, None), rtol=1e-6)


def cubic(at: np.ndarray, number: int) -> np.ndarray:
    """(place, cell): Keys' cubic convolution with a = -0.75, cells beyond the edge like the last one."""
    weights = np.zeros((len(at), number))
    for row, x in zip(weights, at, strict=True):
        for cell in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            d, a = abs(x - cell), -0.75
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            far = a * (d**3 - 5 * d**2 + 8 * d - 4)
            row[np.clip(cell, 0, number - 1)] += near if d <= 1 else far
    return weights


@pytest.mark.parametrize("how", ["none", "bilinear", "bicubic"])
def test_a_single_bright_patch_has_its_peak_where_it_is(how: str) -> None:
    coarse = np.full((4, 6), 0.1)
    coarse[2, 3] = 1.0
    fine = upsample(torch.from_numpy(coarse)[None], how)[0]
    x, y = peak(fine.numpy(), (40, 60))
    assert abs(x - 34.5) <= 10 / 8 and abs(y - 24.5) <= 10 / 8


def test_cubic_undershoot_is_no_negative_attention() -> None:
    coarse = torch.zeros(1, 4, 4)
    coarse[0, 1, 1] = 1.0
    assert upsample(coarse, "bicubic").min() == 0.0


def test_two_bright_patches_have_their_cubic_peak_between_them() -> None:
    coarse = np.full((5, 6), 0.1)
    coarse[2, 2:4] = 1.0
    fine = upsample(torch.from_numpy(coarse)[None], "bicubic")[0].numpy()
    x, _ = peak(fine, (50, 60))
    assert x == pytest.approx(29.5)


def test_every_stage_of_the_switches_follows_from_the_one_before(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    settings = HeatmapSettings(noun_phrase=True, spatial_bias=0.5, upsampling="bicubic", aggregation="product")
    found = segment(model, picture, PLACED, segmenter=segmenter, magnets=(".",), settings=settings)
    stages = found.stages
    order = list(stages)
    assert order.index("noun_phrase") < order.index("recordings") < order.index("patch_heatmap")
    assert order[-8:] == [
        "heatmap_before_bias", "spatial_bias", "heatmap", "point", "masks", "scores", "chosen", "mask"
    ]  # fmt: skip
    assert stages["noun_phrase"].text == "the red circle"
    assert [place.text for place in stages["places"]] == ["on the left"]
    assert stages["word_maps"]["text"].values.tolist() == ["red", "circle"]
    np.testing.assert_allclose(stages["patch_heatmap"], patch_heatmap(stages["recordings"], settings))
    finer = (4 * UPSAMPLING_FACTOR, 5 * UPSAMPLING_FACTOR)
    before = upsample(torch.from_numpy(stages["patch_heatmap"].values)[None].double(), "bicubic")[0].numpy()
    np.testing.assert_allclose(stages["heatmap_before_bias"], before)
    np.testing.assert_allclose(stages["spatial_bias"], spatial_bias(places(PLACED), finer, strength=0.5))
    np.testing.assert_allclose(stages["heatmap"], before * stages["spatial_bias"].values)
    np.testing.assert_allclose(found.heatmap, heatmap(stages["recordings"], settings))
    assert found.point == peak(found.heatmap, (60, 90))


def test_without_switches_their_stages_say_so(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    stages = segment(model, picture, PLACED, segmenter=segmenter, magnets=()).stages
    assert stages["noun_phrase"] is None and stages["places"] == ()
    np.testing.assert_array_equal(stages["spatial_bias"], np.ones((4, 5)))
    for name in ("patch_heatmap", "heatmap_before_bias"):
        np.testing.assert_array_equal(stages[name], stages["heatmap"])


OWN = HeatmapSettings(noun_phrase=True, spatial_bias=0.3, gas="suppress")
ASKED = [
    ({}, OWN),
    ({"noun_phrase": False}, dataclasses.replace(OWN, noun_phrase=False)),
    ({"spatial_bias": True}, OWN),
    ({"spatial_bias": False}, dataclasses.replace(OWN, spatial_bias=0.0)),
    ({"spatial_bias": 0.8}, dataclasses.replace(OWN, spatial_bias=0.8)),
    ({"gas": "none"}, dataclasses.replace(OWN, gas="none")),
]


@pytest.mark.parametrize(("asked", "expected"), ASKED, ids=[str(asked) for asked, _ in ASKED])
def test_an_argument_stands_over_the_settings(model: DiffusionModel, asked: dict, expected: HeatmapSettings) -> None:
    assert chosen_settings(model, OWN, **asked) == expected


def test_the_bias_switched_on_has_the_default_strength_where_the_settings_have_none(model: DiffusionModel) -> None:
    assert chosen_settings(model, HeatmapSettings(), spatial_bias=True).spatial_bias == 1.0


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_outside_its_range_is_refused(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter, strength: float
) -> None:
    with pytest.raises((HeatmapSettingsError, SpatialBiasError), match="from 0"):
        segment(model, picture, PLACED, magnets=(), segmenter=segmenter, spatial_bias=strength)


def test_a_model_folder_may_switch_everything_on(
    tiny_flux_folder: Path, picture: np.ndarray, segmenter: SamSegmenter, tmp_path: Path
) -> None:
    shutil.copytree(tiny_flux_folder, tmp_path / "model")
    about = tmp_path / "model" / "refam.json"
    own = {"noun_phrase": True, "spatial_bias": 0.4, "upsampling": "bilinear", "blocks": "informative"}
    about.write_text(json.dumps({**json.loads(about.read_text()), "grounding": own}))
    switched = load_model(tmp_path / "model")
    settings = default_settings(switched)
    assert isinstance(settings.blocks, tuple)
    assert dataclasses.replace(settings, blocks="informative") == HeatmapSettings(**own)
    found = segment(switched, picture, PLACED, segmenter=segmenter, magnets=())
    assert found.stages["settings"] == settings
    assert found.heatmap.shape == (16, 20)


def test_settings_of_before_the_switches_are_read_as_they_were() -> None:
    old = {"direction": "image_to_text", "normalisation": "raw", "blocks": None, "heads": [[0, 0], [4, 0]],
           "noise_levels": [0.6], "seeds": 4, "aggregation": "product"}  # fmt: skip
    read = HeatmapSettings.from_dict(old)
    assert (read.gas, read.noun_phrase, read.spatial_bias, read.upsampling) == ("none", False, 0.0, "none")
    assert read == read.attention_alone


def test_informative_blocks_are_a_tail_of_the_blocks_and_the_same_each_time(
    model: DiffusionModel, tiny_flux_folder: Path
) -> None:
    found = informative_blocks(model)
    assert found == tuple(range(found[0], 4))
    assert informative_blocks(load_model(tiny_flux_folder)) == found


def test_blocks_before_a_fall_of_entropy_are_not_informative(tiny_flux_folder: Path) -> None:
    """The first two blocks are made to attend evenly, the last two sharply: queries of zeros, and large ones."""
    made = load_model(tiny_flux_folder)
    with torch.no_grad():
        for block in made.transformer.transformer_blocks:
            block.attn.norm_q.weight.zero_()
            block.attn.norm_added_q.weight.zero_()
        for block in made.transformer.single_transformer_blocks:
            block.attn.norm_q.weight.mul_(20)
    assert informative_blocks(made) == (2, 3)
    assert informative_blocks(made, direction="text_to_image", noise_levels=(0.3, 0.8)) == (2, 3)
    settings = with_numbered_blocks(made, HeatmapSettings(blocks="informative", seeds=2))
    assert settings == HeatmapSettings(blocks=(2, 3), seeds=2)


def test_other_weights_are_asked_anew(model: DiffusionModel, tiny_flux_folder: Path) -> None:
    changed = load_model(tiny_flux_folder)
    before = informative_blocks(changed)
    with torch.no_grad():
        for block in changed.transformer.transformer_blocks:
            block.attn.norm_q.weight.zero_()
        for block in changed.transformer.single_transformer_blocks:
            block.attn.norm_q.weight.mul_(20)
    assert before == informative_blocks(model) and informative_blocks(changed) == (2, 3)


def test_reading_without_a_model_asks_for_numbers(recording: Recording) -> None:
    with pytest.raises(HeatmapSettingsError, match="with_numbered_blocks"):
        heatmap(recording, HeatmapSettings(blocks="informative"))
