"""Plain scenes are those that the committed results were made with, word for word and number for number."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from refam_analysis.scenes import KINDS, SceneOptions, Scenes, describe, expressions, render

FIELDS = ("shape", "colour", "size", "x", "y", "radius", "rotation", "brightness", "stripes", "stripe_angle")
BACKGROUND = ("background", "gradient", "gradient_angle", "light_angle", "noise", "grain")
SPLITS = {
    "train": SceneOptions(objects=(1, 4), occlusion=0.2),
    "validation": SceneOptions(objects=(2, 4), shared_attribute=True),
    "test": SceneOptions(),
}
TEXTS = {"train": "4d5d1d09e2b13eb5", "validation": "ab685831c0b2494a", "test": "2ae8d173bd8ec072"}
PIXELS = {
    "train": (130551.800260, 29443),
    "validation": (131634.749871, 35559),
    "test": (124371.233164, 24727),
}
"""Taken before rich scenes were added: weighted sum of 64 pictures, and the number of their masks' pixels."""


@pytest.mark.parametrize("split", SPLITS)
def test_plain_scenes_captions_and_expressions_are_what_they_were(split: str) -> None:
    scenes = Scenes(split, length=200, options=SPLITS[split])
    digest, rng = hashlib.sha256(), np.random.default_rng(0)
    for i in range(200):
        scene, chosen = scenes.draw(i)
        for item in scene.objects:
            digest.update(repr(tuple(getattr(item, name) for name in FIELDS)).encode())
        digest.update(repr(tuple(getattr(scene, name) for name in BACKGROUND)).encode())
        digest.update(describe(scene, rng).encode())
        for kind in KINDS:
            for offer in expressions(scene, kind):
                digest.update(f"{offer.text}|{offer.target}".encode())
        for expression in chosen:
            digest.update(expression.text.encode())
    assert digest.hexdigest()[:16] == TEXTS[split]


@pytest.mark.parametrize("split", SPLITS)
def test_plain_pictures_and_masks_are_what_they_were(split: str) -> None:
    scenes = Scenes(split, length=64, options=SPLITS[split], kinds=())
    images, masks = render([scenes.draw(i)[0] for i in range(64)], size=64)
    weights = torch.linspace(0, 1, 64 * 64).view(64, 64).double()
    total, pixels = PIXELS[split]
    assert (images.double() * weights).sum().item() == pytest.approx(total, rel=1e-8)
    assert masks.sum().item() == pixels
