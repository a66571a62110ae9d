"""Clips, and small random models of the real classes, saved and loaded as the published ones are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    Sam2ImageProcessor,
    Sam2VideoConfig,
    Sam2VideoMaskDecoderConfig,
    Sam2VideoModel,
    Sam2VideoProcessor,
    Sam2VideoVideoProcessor,
)

from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.scenes import MovingSample, MovingScenes
from refam_analysis.segmentation.segmenters import Segmenter, load_segmenter

SIDE = 64
SAM2_PARTS = {
    "image_size": SIDE,
    "vision_config": {
        "backbone_config": {
            "hidden_size": 16, "image_size": [SIDE, SIDE], "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 1, 2, 4],
            "window_size_per_stage": [4, 2, 4, 2], "global_attention_blocks": [3],
            "window_positional_embedding_background_size": [4, 4], "model_type": "sam2_hiera_det_model",
        },
        "backbone_channel_list": [128, 64, 32, 16], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 128, "model_type": "sam2_vision_model",
    },
    "prompt_encoder_config": {"hidden_size": 128, "image_size": SIDE, "patch_size": 16},
    # Every setting, as published repositories have them: transformers up to 5.16 fills in none for the video model.
    "mask_decoder_config": Sam2VideoMaskDecoderConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=4, mlp_dim=64, iou_head_hidden_dim=32
    ).to_dict(),
    "memory_attention_hidden_size": 128, "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 32, "memory_encoder_hidden_size": 128,
    "memory_encoder_output_channels": 64, "mask_downsampler_embed_dim": 128, "memory_fuser_embed_dim": 128,
    "memory_fuser_intermediate_dim": 32, "memory_attention_rope_feat_sizes": [4, 4],
}  # fmt: skip


def save_tiny_sam2_video(folder: Path) -> None:
    """A SAM 2 video model of the real classes, with random weights, written as the published ones are."""
    torch.manual_seed(0)
    sizes = {"height": SIDE, "width": SIDE}
    model = Sam2VideoModel(Sam2VideoConfig(**SAM2_PARTS))
    with torch.no_grad():  # random weights hardly react to a picture; these do, and their object stays in sight
        for name, weights in model.named_parameters():
            if weights.ndim > 1:
                weights.normal_(std=0.2)
            if name.startswith("mask_decoder.pred_obj_score_head") and name.endswith("proj_out.bias"):
                weights.fill_(5.0)
    model.save_pretrained(folder)
    processor = Sam2VideoProcessor(
        Sam2ImageProcessor(size=sizes, mask_size={"height": 16, "width": 16}), Sam2VideoVideoProcessor(size=sizes)
    )
    processor.save_pretrained(folder)


@pytest.fixture(scope="session")
def sam2_video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam2-video")
    save_tiny_sam2_video(folder)
    return folder


@pytest.fixture(scope="session")
def embedded() -> DiffusionModel:
    return load_model("embedded")


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    return load_segmenter("embedded")


@pytest.fixture(scope="session")
def clips() -> list[MovingSample]:
    """Of the validation split, one of each event, in their order."""
    scenes = MovingScenes("validation", length=24)
    return [scenes[i] for i in (0, 6, 12, 18)]


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    """Thirty frames of noise, (30, 40, 56, 3)."""
    return np.random.default_rng(0).integers(0, 256, (30, 40, 56, 3), dtype=np.uint8)
