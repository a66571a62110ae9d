"""Places where data is written, each with a small real job: started again on its folder, it goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from families.parts import TINY_IMAGE_SIZE, make_tiny_flux
from PIL import Image

from refam_analysis.evaluation.runner import LoadedModels
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.segmentation import HeatmapSettings
from refam_analysis.segmentation.segmenters.embedded import SamConfig, save_embedded_sam, small_sam
from refam_analysis.segmentation.segmenters.sam import SamSegmenter

Digests = Mapping[str, str]
"""By the name of a part of the final data: what it holds, or a digest of that."""


@dataclass(frozen=True)
class Place:
    """A job and its result.

    Attributes:
        says: what is written, for the table.
        run: does the job in a folder, or goes on with it.
        data: what a finished folder holds, without what differs from run to run, such as dates.
        needs: makes, once, what the job starts from; before the fault, and out of its reach.
    """

    says: str
    run: Callable[[Tools, Path], Any]
    data: Callable[[Tools, Path], Digests]
    needs: Callable[[Tools], Any] | None = None


class Tools:
    """What the jobs work with: small random models, made before any process is forked.

    Args:
        folder: for what jobs start from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        torch.set_num_threads(1)
        make_tiny_flux().save_pretrained(self.model_folder)
        defaults = {"image_size": TINY_IMAGE_SIZE, "text_length": 160, "steps": 2, "guidance": 1.0}
        (self.model_folder / "refam.json").write_text(json.dumps(defaults))
        torch.manual_seed(0)
        save_embedded_sam(small_sam(SAM), SAM, self.segmenter_folder)
        self.pictures = [folder / f"picture-{number}.png" for number in range(2)]
        for number, path in enumerate(self.pictures):
            Image.fromarray(noise(number, 40, 50, 3)).save(path)

    @property
    def model_folder(self) -> Path:
        """Of a FLUX pipeline."""
        return self.folder / "tiny-flux"

    @property
    def segmenter_folder(self) -> Path:
        """Of a Sam."""
        return self.folder / "tiny-sam"

    @cached_property
    def model(self) -> DiffusionModel:
        """A tiny FLUX with a prompt long enough for the scenes' sentences."""
        return load_model(self.model_folder)

    @cached_property
    def loaded(self) -> LoadedModels:
        """The same with a segmenter."""
        torch.manual_seed(0)
        return LoadedModels(self.model, SamSegmenter(small_sam(SAM)), HeatmapSettings())


SAM = SamConfig(image_size=48, patch_size=8, width=24, depth=1, heads=2)


def noise(seed: int, *shape: int) -> np.ndarray:
    """Pixels, uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def digest(*contents: bytes | str) -> str:
    """Of some contents in a row."""
    total = hashlib.sha256()
    for content in contents:
        total.update(content.encode() if isinstance(content, str) else content)
    return total.hexdigest()[:20]


def file_digest(path: Path) -> str:
    """Of a file's bytes."""
    return digest(path.read_bytes())


def array_digest(array: Any) -> str:
    """Of values, their type and their shape."""
    values = np.ascontiguousarray(array)
    return digest(str(values.dtype), str(values.shape), values.tobytes())


def table_digest(table: pd.DataFrame) -> str:
    """Of every cell, exactly."""
    columns = [json.dumps(table[name].tolist(), default=str) for name in table]
    return digest(json.dumps([*map(str, table.columns)]), *columns)


def pixels_digest(path: Path) -> str:
    """Of a picture's pixels."""
    with Image.open(path) as picture:
        return array_digest(np.asarray(picture))
