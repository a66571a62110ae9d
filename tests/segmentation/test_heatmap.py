"""Heatmaps against loops over the whole attention matrix, and what is never read."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from refam_analysis.models import DiffusionModel
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import Recording, record_batch
from refam_analysis.recording.quantities import QuantityMissingError
from refam_analysis.segmentation.alike import MixedRecordingsError
from refam_analysis.segmentation.heatmap import (
    NoContentWordsError,
    content_words,
    heatmap,
    heatmaps,
    token_maps,
    word_maps,
)
from refam_analysis.segmentation.settings import HeatmapSettings, HeatmapSettingsError

SITES = {
    "all": {},
    "blocks": {"blocks": (1, 3)},
    "heads": {"heads": ((0, 1), (2, 0), (2, 1))},
}
WAYS = list(
    itertools.product(
        ("image_to_text", "text_to_image"), ("raw", "map", "share"), ("mean", "product"), SITES
    )
)  # fmt: skip
READ = {"the red circle on the left": {"red": [1], "circle": [2], "on": [3], "left": [5]}}


def slow_heatmap(group: list[Recording], settings: HeatmapSettings, words: list[list[int]]) -> np.ndarray:
    """In float64, from the full matrix of every block and head, one at a time."""
    text, image, grid = group[0].layout.text, group[0].layout.image, group[0].layout.grid
    maps: list[list[np.ndarray]] = [[] for _ in words]
    for recording in group:
        full = recording["full"]
        for step, block, head in np.ndindex(full.sizes["step"], full.sizes["block"], full.sizes["head"]):
            if settings.blocks is not None and block not in settings.blocks:
                continue
            if settings.heads is not None and (block, head) not in settings.heads:
                continue
            matrix = full.values[step, 0, block, head].astype(np.float64)
            between = matrix[image, text].T if settings.direction == "image_to_text" else matrix[text, image]
            if settings.normalisation == "map":
                between = np.array([row / row.sum() for row in between])
            if settings.normalisation == "share":
                between = np.array([column / column.sum() for column in between.T]).T
            for word, tokens in zip(maps, words, strict=True):
                word.append(np.mean([between[token] for token in tokens], axis=0))
    averages = [np.mean(word, axis=0) for word in maps]
    if settings.aggregation == "mean":
        return np.mean(averages, axis=0).reshape(grid)
    product = math.prod(average / average.sum() for average in averages)
    return (product ** (1 / len(averages))).reshape(grid)


@pytest.mark.parametrize(("direction", "normalisation", "aggregation", "sites"), WAYS, ids=str)
def test_a_heatmap_equals_loops_over_the_full_matrix(
    groups: list[list[Recording]], direction: str, normalisation: str, aggregation: str, sites: str
) -> None:
    settings = HeatmapSettings(direction, normalisation, aggregation=aggregation, **SITES[sites])  # type: ignore[arg-type]
    expected = slow_heatmap(groups[0], settings, list(READ["the red circle on the left"].values()))
    found = heatmap(groups[0], settings)
    assert found.dims == ("y", "x")
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("normalisation", ["raw", "map", "share"])
def test_many_heatmaps_at_once_are_those_of_each(groups: list[list[Recording]], normalisation: str) -> None:
    """Sentences of four words and of two, read with different blocks, heads and aggregations together."""
    settings = [
        HeatmapSettings(normalisation=normalisation, aggregation=aggregation, **sites)  # type: ignore[arg-type]
        for aggregation, sites in itertools.product(("mean", "product"), SITES.values())
    ]
    together = heatmaps(groups, settings)
    assert together.shape == (2, 6, 20)
    for item, group in enumerate(groups):
        for choice, one in enumerate(settings):
            alone = heatmap(group, one).values.ravel()
            np.testing.assert_allclose(together[item, choice].numpy(), alone, rtol=1e-5, atol=1e-9)


def test_only_content_words_are_read(groups: list[list[Recording]]) -> None:
    assert word_maps(groups[0])["text"].values.tolist() == ["red", "circle", "on", "left"]
    assert word_maps(groups[0])["word"].values.tolist() == [1, 2, 3, 5]
    assert word_maps(groups[1])["text"].values.tolist() == ["small", "ring"]


def test_what_magnets_and_stop_words_attend_to_does_not_reach_the_heatmap(groups: list[list[Recording]]) -> None:
    """Their rows and columns are replaced by noise; raw maps and maps of each token know no other token."""
    before = groups[0][0]
    kinds = [token.kind for token in before.tokens]
    never = np.array([kind != "content" for kind in kinds])
    assert {"magnet", "stop", "padding", "special", "punctuation"} >= set(np.array(kinds)[never]) >= {"magnet", "stop"}
    dataset = before.dataset.copy(deep=True)
    dataset["image_to_text"].values[..., never] = np.random.default_rng(0).random(never.sum())
    for normalisation in ("raw", "map"):
        settings = HeatmapSettings(normalisation=normalisation)  # type: ignore[arg-type]
        assert not np.allclose(token_maps(Recording(dataset), settings), token_maps(before, settings))
        np.testing.assert_array_equal(heatmap(Recording(dataset), settings), heatmap(before, settings))


def test_a_word_of_several_pieces_is_one_word(model: DiffusionModel, picture: np.ndarray) -> None:
    (recording,) = record_batch(model, [picture], [make_prompt("the oval ring")], keep=["image_to_text"])
    oval, ring = content_words(recording.tokens)
    assert (oval.text, ring.text) == ("oval", "ring")
    assert len(oval.tokens) > 1 and len(ring.tokens) == 1
    settings = HeatmapSettings(normalisation="raw")
    pieces = token_maps(recording, settings).isel(token=list(oval.tokens))
    np.testing.assert_allclose(word_maps(recording, settings)[0], pieces.mean("token"), rtol=1e-5)


def test_maps_sum_to_1_over_the_image_or_over_the_text(groups: list[list[Recording]]) -> None:
    maps = token_maps(groups[0], HeatmapSettings(normalisation="map"))
    np.testing.assert_allclose(maps.sum(["y", "x"]), 1.0, rtol=1e-5)
    shares = token_maps(groups[0], HeatmapSettings(normalisation="share"))
    np.testing.assert_allclose(shares.sum("token"), 1.0, rtol=1e-5)
    assert shares["kind"].values.tolist() == [token.kind for token in groups[0][0].tokens]


def test_a_word_that_nothing_attends_to_has_an_empty_map(groups: list[list[Recording]]) -> None:
    dataset = groups[0][0].dataset.copy(deep=True)
    dataset["image_to_text"].values[..., 2] = 0.0
    for normalisation in ("raw", "map", "share"):
        settings = HeatmapSettings(normalisation=normalisation)  # type: ignore[arg-type]
        assert not word_maps(Recording(dataset), settings).sel(word=2).values.any()
        assert np.isfinite(heatmap(Recording(dataset), settings)).all()


def test_a_recording_read_from_disk_gives_the_same_heatmap(groups: list[list[Recording]], tmp_path: object) -> None:
    from refam_analysis.recording import load_recording

    path = groups[0][0].save(f"{tmp_path}/one.zarr")
    np.testing.assert_array_equal(heatmap(load_recording(path)), heatmap(groups[0][0]))


def test_a_sentence_of_stop_words_has_nothing_to_read(model: DiffusionModel, picture: np.ndarray) -> None:
    (recording,) = record_batch(model, [picture], [make_prompt("the , is it", ("red",))], keep=["image_to_text"])
    with pytest.raises(NoContentWordsError, match=r"'the , is it' holds only stop words"):
        heatmap(recording)


def test_recordings_of_two_sentences_are_not_averaged(groups: list[list[Recording]]) -> None:
    with pytest.raises(MixedRecordingsError, match="different prompts"):
        heatmap([groups[0][0], groups[1][0]])


@pytest.mark.parametrize("narrowed", [{"blocks": [1, 2]}, {"heads": "mean"}], ids=lambda options: next(iter(options)))
def test_recordings_of_other_blocks_or_heads_are_not_averaged(
    model: DiffusionModel, picture: np.ndarray, narrowed: dict[str, Any]
) -> None:
    """Blocks are found by their place, so that others would be read without a word."""
    prompt = make_prompt("the red circle")
    whole, part = (
        record_batch(model, [picture], [prompt], keep=["image_to_text"], **options)[0] for options in ({}, narrowed)
    )
    with pytest.raises(MixedRecordingsError, match=f"different {next(iter(narrowed))}"):
        heatmap([whole, part], HeatmapSettings(blocks=(1,)))


def test_no_recording_is_no_heatmap() -> None:
    with pytest.raises(MixedRecordingsError, match="no recording"):
        heatmap([])


def test_a_direction_that_was_not_recorded_is_named(model: DiffusionModel, picture: np.ndarray) -> None:
    (recording,) = record_batch(model, [picture], [make_prompt("a ring")], keep=["text_to_image"])
    with pytest.raises(QuantityMissingError, match="image_to_text"):
        heatmap(recording, HeatmapSettings(direction="image_to_text"))


@pytest.mark.parametrize("sites", [{"blocks": (0, 4)}, {"heads": ((4, 0),)}], ids=["blocks", "heads"])
def test_blocks_that_were_not_recorded_are_named(groups: list[list[Recording]], sites: dict[str, tuple]) -> None:
    with pytest.raises(HeatmapSettingsError, match=r"blocks \[4\] were not recorded, only \[0, 1, 2, 3\]"):
        heatmap(groups[0], HeatmapSettings(**sites))


def test_heads_that_were_not_recorded_are_named(
    groups: list[list[Recording]], model: DiffusionModel, picture: np.ndarray
) -> None:
    with pytest.raises(HeatmapSettingsError, match=r"heads \[2\] were not recorded, only \[0, 1\]"):
        heatmap(groups[0], HeatmapSettings(heads=((0, 2),)))
    (mean,) = record_batch(model, [picture], [make_prompt("a ring")], keep=["image_to_text"], heads="mean")
    with pytest.raises(HeatmapSettingsError, match=r"heads \[0\] were not recorded, only their mean"):
        heatmap(mean, HeatmapSettings(heads=((0, 0),)))
    assert heatmap(mean, HeatmapSettings(blocks=(1,))).shape == (4, 5)


def test_shares_need_the_whole_text(groups: list[list[Recording]]) -> None:
    narrowed = groups[0][0].select(words=["red", "circle"])
    raw = heatmap(narrowed, HeatmapSettings(normalisation="raw"))
    assert raw.shape == (4, 5)
    with pytest.raises(HeatmapSettingsError, match="all tokens of the text"):
        heatmap(narrowed, HeatmapSettings(normalisation="share"))


def test_settings_of_two_directions_are_not_read_together(groups: list[list[Recording]]) -> None:
    ways = [HeatmapSettings("image_to_text"), HeatmapSettings("text_to_image")]
    with pytest.raises(HeatmapSettingsError, match="one after the other"):
        heatmaps(groups, ways)
