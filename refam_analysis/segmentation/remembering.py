"""A model that encodes each picture and each sentence once, however often it is asked.

Several noise draws, the pass that looks for sinks and several sentences about one picture all ask for the same
encodings. Nothing else about the model changes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import torch

from refam_analysis.models.base import Conditioning, DiffusionModel
from refam_analysis.models.images import load_image
from refam_analysis.prompts import Prompt

_REMEMBERING: WeakSet[DiffusionModel] = WeakSet()


def remembering(model: DiffusionModel) -> DiffusionModel:
    """The same model, with a memory for what it has encoded.

    Args:
        model: from ``load_model``; left unchanged.

    Returns:
        It shares all parts with the model. Of a batch of pictures each that differs is encoded once, and a batch that
        was encoded before is not encoded again. The memory goes when the returned model goes: keep it for one call.
        A model that remembers already is returned as it is, so that no picture is looked at by two memories.
    """
    if model in _REMEMBERING:
        return model
    remembers = copy.copy(model)
    _REMEMBERING.add(remembers)
    latents: dict[Any, torch.Tensor] = {}
    conditionings: dict[tuple[Prompt, ...], Conditioning] = {}

    def encode_images(images: Sequence[Any], *, size: tuple[int, int] | None = None) -> torch.Tensor:
        seen = [_pixels(image) for image in images]
        distinct = list(dict.fromkeys(seen))
        key = (tuple(distinct), size)
        if key not in latents:
            latents[key] = model.encode_images([images[seen.index(one)] for one in distinct], size=size)
        return latents[key][[distinct.index(one) for one in seen]]

    def encode_prompts(prompts: Sequence[Prompt]) -> Conditioning:
        key = tuple(prompts)
        if key not in conditionings:
            conditionings[key] = model.encode_prompts(prompts)
        return conditionings[key]

    remembers.encode_images = encode_images  # type: ignore[method-assign]
    remembers.encode_prompts = encode_prompts  # type: ignore[method-assign]
    return remembers


def _pixels(image: Any) -> tuple[tuple[tuple[int, int], bytes], ...]:
    """Size and pixels of a picture, or of the frames of a clip: what tells one from another."""
    frames = [load_image(frame) for frame in (image if isinstance(image, list | tuple) else [image])]
    return tuple((frame.size, frame.tobytes()) for frame in frames)
