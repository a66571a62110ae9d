"""Small random models, and a small data set in memory, so that hundreds of expressions take seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from refam_analysis.evaluation.datasets import ReferringExpression, ReferringImage, encode_mask
from refam_analysis.evaluation.datasets.problems import DatasetItemError
from refam_analysis.evaluation.runner import GroupTask, LoadedModels, RunConfiguration
from refam_analysis.models import DiffusionModel
from refam_analysis.segmentation import HeatmapSettings
from refam_analysis.segmentation.segmenters.embedded import SamConfig, small_sam
from refam_analysis.segmentation.segmenters.sam import SamSegmenter


@dataclass(frozen=True)
class NoisePicture:
    """A picture of noise, or one that cannot be read."""

    seed: int
    size: tuple[int, int] = (40, 50)
    broken: bool = False

    def load(self) -> np.ndarray:
        if self.broken:
            raise DatasetItemError("picture.jpg", "image 7", "it is cut")
        return np.random.default_rng(self.seed).integers(0, 256, (*self.size, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def loaded(model: DiffusionModel) -> LoadedModels:
    torch.manual_seed(0)
    config = SamConfig(image_size=48, patch_size=8, width=24, depth=1, heads=2)
    return LoadedModels(model, SamSegmenter(small_sam(config)), HeatmapSettings())


@pytest.fixture(scope="session")
def image() -> Callable[..., ReferringImage]:
    """``image(number, "a text", ..., broken=False, none=())``: the texts' targets are boxes; of ``none``, nothing."""

    def make(number: int, *texts: str, broken: bool = False, none: tuple[str, ...] = ()) -> ReferringImage:
        picture = NoisePicture(number, broken=broken)
        expressions = []
        for place, text in enumerate(texts):
            mask = np.zeros(picture.size, bool)
            mask[5 : 20 + number, 10 + place : 30] = True
            key = f"image-{number}/{place}"
            rle = None if text in none else encode_mask(mask)
            expressions.append(ReferringExpression(key, text, rle, "place", {"words": 2}))
        return ReferringImage(f"image-{number}", tuple(expressions), picture)

    return make


@pytest.fixture(scope="session")
def task() -> Callable[..., GroupTask]:
    """``task(item, on_error="stop", **configuration)``."""

    def make(item: ReferringImage, *, on_error: str = "stop", empty: str = "right", **entries: object) -> GroupTask:
        configuration = RunConfiguration("scenes", "test", **{"magnets": (".",), **entries})
        return GroupTask(3, item, configuration, empty, on_error)

    return make
