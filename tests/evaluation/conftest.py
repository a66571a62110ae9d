"""A small random model, and items whose sentences fit its short prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.scenes import SceneOptions, Scenes


@pytest.fixture(scope="session")
def model(tiny_flux_folder: Path) -> DiffusionModel:
    return load_model(tiny_flux_folder)


@pytest.fixture(scope="session")
def items() -> list[GroundingItem]:
    """Seven scenes of one to three large-looking things, asked for in a few words; two items share a scene."""
    scenes = Scenes("validation", length=6, size=40, options=SceneOptions(objects=(2, 3)))
    sentences = ["the red circle", "a ring", "the small square", "blue", "the green ring on the left", "left"]
    made = []
    for number, (sample, sentence) in enumerate(zip(scenes, sentences, strict=True)):
        others = tuple(range(1, len(sample.masks)))
        kind = "attribute" if number % 2 else "location"
        made.append(GroundingItem(sample.image, sample.masks, sentence, kind, 0, others, number))
    last = made[-1]
    swapped = GroundingItem(last.image, last.masks, "right", "location", 1, (0, *last.distractors[1:]), last.scene)
    return [*made, swapped]


def disc(size: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
