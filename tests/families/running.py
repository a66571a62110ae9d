"""A row of the table as a loaded model, and what it is given: two pictures, and two prompts of unequal length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from families.case import FamilyCase
from refam_analysis.models import DiffusionModel, ForwardInputs, load_model
from refam_analysis.prompts import make_prompt

PROMPTS = [make_prompt("the red ring on the left", [".", "a"]), make_prompt("a blue square")]


def loaded(case: FamilyCase, folder: Path) -> DiffusionModel:
    """Built, saved, and loaded by the call that loads a real one."""
    case.build().save_pretrained(folder)
    (folder / "refam.json").write_text(json.dumps(dict(case.settings)))
    model = load_model(folder)
    model.pipeline.set_progress_bar_config(disable=True)
    return model


def pictures(case: FamilyCase, number: int = 2, size: tuple[int, int] = (45, 37)) -> list[Any]:
    """Pictures of an odd size, or clips of them."""
    pixels = np.random.default_rng(0).integers(0, 256, (number, max(1, case.frames), *size, 3), np.uint8)
    clips = [[Image.fromarray(frame) for frame in clip] for clip in pixels]
    return clips if case.frames else [clip[0] for clip in clips]


def inputs_of(model: DiffusionModel, case: FamilyCase, *, number: int = 2, noise_level: float = 0.6) -> ForwardInputs:
    latents = model.encode_images(pictures(case, number))
    conditioning = model.encode_prompts(PROMPTS[:number])
    return model.forward_inputs(latents, conditioning, noise_level=noise_level, seeds=list(range(number)))
