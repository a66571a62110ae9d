"""A result as JSON: nothing is missing, and what is written can be read back."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from refam_analysis.models import DiffusionModel
from refam_analysis.segmentation import HeatmapSettings, SegmentationResult, from_run_lengths, run_lengths, segment
from refam_analysis.segmentation.segmenters.sam import SamSegmenter

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))


@pytest.fixture(scope="module", params=["none", "suppress"])
def result(
    request: pytest.FixtureRequest, model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> SegmentationResult:
    settings = HeatmapSettings(noun_phrase=True, spatial_bias=0.5, upsampling="bilinear", gas=request.param, seeds=2)
    return segment(
        model, picture, "the red circle on the left", magnets=("blue",), segmenter=segmenter, settings=settings
    )


@pytest.fixture(scope="module")
def read(result: SegmentationResult) -> dict:
    return json.loads(json.dumps(result.to_dict(), allow_nan=False))


def test_every_stage_is_there_in_order(result: SegmentationResult, read: dict) -> None:
    assert list(read) == list(result.stages)


def test_maps_have_their_axes_and_values(result: SegmentationResult, read: dict) -> None:
    for name in ("token_maps", "word_maps", "patch_heatmap", "heatmap_before_bias", "spatial_bias", "heatmap"):
        written = read[name]
        assert written["dims"] == list(result.stages[name].dims)
        np.testing.assert_allclose(written["values"], result.stages[name], rtol=1e-6)
    assert read["word_maps"]["coords"]["text"] == ["red", "circle"]


def test_settings_can_be_read_again(result: SegmentationResult, read: dict) -> None:
    assert HeatmapSettings.from_dict(read["settings"]) == result.stages["settings"]


def test_words_and_places_are_told(read: dict) -> None:
    assert read["prompt"] == {
        "expression": "the red circle on the left", "magnets": ["blue"], "magnets_first": False,
        "text": "the red circle on the left blue",
    }  # fmt: skip
    assert read["noun_phrase"]["text"] == "the red circle" and read["places"][0]["x"]["position"] == 0.0


def test_masks_can_be_read_again(result: SegmentationResult, read: dict) -> None:
    np.testing.assert_array_equal(from_run_lengths(read["mask"]), result.mask)
    for written, mask in zip(read["masks"], result.stages["masks"], strict=True):
        np.testing.assert_array_equal(from_run_lengths(written), mask)
    np.testing.assert_array_equal(from_run_lengths(read["masks"][read["chosen"]]), result.mask)


def test_image_and_recordings_are_told_by_what_repeats_them(result: SegmentationResult, read: dict) -> None:
    pixels = result.stages["image"].tobytes()
    assert read["image"] == {"height": 60, "width": 90, "sha256": hashlib.sha256(pixels).hexdigest()}
    assert [one["attributes"]["seed"] for one in read["recordings"]] == [0, 1]
    assert read["recordings"][0]["noise_levels"] == [0.6] and read["recordings"][0]["blocks"] == [0, 1, 2, 3]


def test_sinks_are_a_list_of_rows(result: SegmentationResult, read: dict) -> None:
    assert len(read["sinks"]) == len(result.stages["sinks"])
    assert [row["position"] for row in read["sinks"]] == list(result.stages["sinks"].get("position", []))


@given(MASKS)
def test_run_lengths_are_those_that_coco_reads(mask: np.ndarray) -> None:
    runs = run_lengths(mask)
    assert coco.frPyObjects(runs, *runs["size"]) == coco.encode(np.asfortranarray(mask.astype(np.uint8)))


@given(MASKS)
def test_run_lengths_survive(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(from_run_lengths(run_lengths(mask)), mask)


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_of_one_value_is_one_run(value: bool) -> None:
    assert run_lengths(np.full((2, 3), value))["counts"] == ([0, 6] if value else [6])
