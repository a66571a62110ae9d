"""SAM 2 on small random models of the real classes, saved and loaded as the published ones are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Sam2Config,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
    Sam2VideoConfig,
    Sam2VideoMaskDecoderConfig,
    Sam2VideoModel,
)

from refam_analysis.segmentation.segmenters import Segmenter, SegmenterInputError, load_segmenter
from refam_analysis.segmentation.segmenters.base import NoImageError
from refam_analysis.segmentation.segmenters.sam2 import Sam2Segmenter, Sam2SourceError, load_sam2

SIDE = 128
PARTS = {
    "vision_config": {
        "backbone_config": {
            "hidden_size": 16, "image_size": [SIDE, SIDE], "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 1, 2, 4],
            "window_size_per_stage": [4, 2, 4, 2], "global_attention_blocks": [3],
            "window_positional_embedding_background_size": [4, 4],
            "model_type": "sam2_hiera_det_model",
        },
        "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 32,
        "model_type": "sam2_vision_model",
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": SIDE, "patch_size": 16},
    # Every setting, as published repositories have them: transformers up to 5.16 fills in none for the video model.
    "mask_decoder_config": Sam2VideoMaskDecoderConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_dim=64, iou_head_hidden_dim=32
    ).to_dict(),
}  # fmt: skip
VIDEO_PARTS = {
    "image_size": SIDE, "memory_attention_hidden_size": 32, "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 32, "memory_encoder_hidden_size": 32,
    "memory_encoder_output_channels": 16, "mask_downsampler_embed_dim": 32, "memory_fuser_embed_dim": 32,
    "memory_fuser_intermediate_dim": 32, "memory_attention_rope_feat_sizes": [8, 8],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("sam2")
    Sam2Model(Sam2Config(**PARTS)).save_pretrained(place)
    sizes = {"height": SIDE, "width": SIDE}
    Sam2Processor(Sam2ImageProcessor(size=sizes, mask_size={"height": 32, "width": 32})).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def segmenter(folder: Path) -> Sam2Segmenter:
    return load_sam2(folder)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


POINTS = [(10.0, 20.0), (80.5, 5.0), (44.0, 59.0)]


def test_a_folder_is_recognised_and_loaded(folder: Path) -> None:
    for source in (folder, str(folder)):
        loaded = load_segmenter(source)
        assert isinstance(loaded, Sam2Segmenter) and isinstance(loaded, Segmenter)


def test_masks_are_those_of_the_model_called_with_the_image(segmenter: Sam2Segmenter, image: np.ndarray) -> None:
    segmenter.set_image(image)
    masks, scores = segmenter.predict(POINTS)
    assert masks.shape == (3, 3, 60, 90) and masks.dtype == bool and scores.shape == (3, 3)
    assert masks.any() and not masks.all()
    for point, ours, guess in zip(POINTS, masks, scores, strict=True):
        given = segmenter.processor(
            images=image, input_points=[[[list(point)]]], input_labels=[[[1]]], return_tensors="pt"
        )
        with torch.no_grad():
            answer = segmenter.model(**given, multimask_output=True)
        (expected,) = segmenter.processor.post_process_masks(answer.pred_masks, given["original_sizes"])
        np.testing.assert_allclose(guess, answer.iou_scores[0, 0].numpy(), rtol=1e-4, atol=1e-5)
        assert (ours == expected[0].numpy()).mean() > 0.999


def test_asking_twice_answers_alike(segmenter: Sam2Segmenter, image: np.ndarray) -> None:
    segmenter.set_image(image)
    first, second = segmenter.predict(POINTS), segmenter.predict(POINTS)
    np.testing.assert_array_equal(first[0], second[0])


def test_the_same_image_is_encoded_once(segmenter: Sam2Segmenter, image: np.ndarray) -> None:
    seen: list[int] = []
    hook = segmenter.model.vision_encoder.register_forward_hook(lambda *_: seen.append(1))
    try:
        for picture in (image[::-1], image, image.copy(), image[::-1]):
            segmenter.set_image(np.ascontiguousarray(picture))
    finally:
        hook.remove()
    assert len(seen) == 3


def test_half_precision_answers_nearly_alike(folder: Path, segmenter: Sam2Segmenter, image: np.ndarray) -> None:
    half = load_sam2(folder, dtype=torch.bfloat16)
    for one in (half, segmenter):
        one.set_image(image)
    masks, scores = half.predict(POINTS)
    expected, guesses = segmenter.predict(POINTS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, guesses, atol=0.05)
    assert (masks == expected).mean() > 0.8


def test_a_repository_of_the_video_model_is_taken(tmp_path: Path, folder: Path, image: np.ndarray) -> None:
    torch.manual_seed(1)
    Sam2VideoModel(Sam2VideoConfig(**PARTS, **VIDEO_PARTS)).save_pretrained(tmp_path)
    load_sam2(folder).processor.save_pretrained(tmp_path)
    segmenter = load_segmenter(tmp_path)
    segmenter.set_image(image)
    assert segmenter.predict([(3, 3)])[0].shape == (1, 3, 60, 90)


def test_predict_before_set_image_names_the_missing_call(folder: Path) -> None:
    with pytest.raises(NoImageError, match="set_image"):
        load_sam2(folder).predict([(0, 0)])


def test_a_point_outside_the_image_is_refused(segmenter: Sam2Segmenter, image: np.ndarray) -> None:
    segmenter.set_image(image)
    with pytest.raises(SegmenterInputError, match="90 x 60"):
        segmenter.predict([(95, 3)])


@pytest.mark.parametrize("source", ["cat", "/nowhere/sam2", "a/b/c"])
def test_what_is_neither_folder_nor_id_is_said(source: str) -> None:
    with pytest.raises(Sam2SourceError, match="neither a folder nor an id"):
        load_sam2(source)


def test_an_id_that_cannot_be_had_is_said() -> None:
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        pytest.skip("HF_HUB_OFFLINE is not set")
    with pytest.raises(Sam2SourceError, match="nobody/nothing"):
        load_segmenter("nobody/nothing")


def test_weights_that_lack_a_tensor_are_refused(folder: Path, tmp_path: Path) -> None:
    """transformers would take random numbers for it, and the masks would be wrong without a word."""
    shutil.copytree(folder, tmp_path / "less")
    weights = load_file(folder / "model.safetensors")
    del weights["mask_decoder.iou_token.weight"]
    save_file(weights, tmp_path / "less" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Sam2SourceError, match=r"lack 1 tensors, such as mask_decoder\.iou_token\.weight"):
        load_sam2(tmp_path / "less")


def test_a_folder_without_weights_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(Sam2SourceError, match="model.safetensors"):
        load_segmenter(tmp_path)
