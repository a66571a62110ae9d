"""A model, a segmenter and recordings for the tests of this room, all small and random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import Recording, record_batch
from refam_analysis.segmentation.segmenters.embedded import SamConfig, small_sam
from refam_analysis.segmentation.segmenters.sam import SamSegmenter

SENTENCES = ("the red circle on the left", "a small ring")
MAGNETS = (".", "a", "blue")


@pytest.fixture(scope="session")
def model(tiny_flux_folder: Path) -> DiffusionModel:
    return load_model(tiny_flux_folder)


@pytest.fixture(scope="session")
def segmenter() -> SamSegmenter:
    torch.manual_seed(0)
    return SamSegmenter(small_sam(SamConfig(image_size=48, patch_size=8, width=24, depth=1, heads=2)))


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def groups(model: DiffusionModel, picture: np.ndarray) -> list[list[Recording]]:
    """For two sentences of different lengths: two seeds, two noise levels each."""
    batches = [
        record_batch(
            model,
            [picture, picture[:, ::-1].copy()],
            [make_prompt(sentence, MAGNETS) for sentence in SENTENCES],
            noise_level=[0.3, 0.7],
            seeds=[draw, draw + 5],
            keep=["full", "image_to_text", "text_to_image"],
        )
        for draw in range(2)
    ]
    return [list(group) for group in zip(*batches, strict=True)]
