"""Pixels and masks agree with the geometry, alone and in a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.scenes import COLOURS, SHAPES, Scene, SceneObject, SceneOptions, render, sample_scene

AREAS = {
    # Exact areas in units of radius squared.
    "circle": math.pi,
    "square": 1.72**2,
    "triangle": 3 * math.sqrt(3) * 0.6**2,
    "cross": 2 * (2 * 0.68) - 0.68**2,
    "ring": math.pi * (1.02**2 - 0.46**2),
    "star": 5 * 1.12 * 0.54 * math.sin(math.pi / 5),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rotation", [0.0, 0.2], ids=["upright", "turned"])
def test_mask_has_the_exact_area(shape: str, rotation: float) -> None:
    scene = Scene((SceneObject(shape, "red", "large", 0.5, 0.5, 0.17, rotation=rotation),), "navy")
    mask = render([scene], size=1024).masks[0, 0]
    assert mask.float().mean().item() / 0.17**2 == pytest.approx(AREAS[shape], rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_mask_is_centred_on_the_object(shape: str) -> None:
    scene = Scene((SceneObject(shape, "red", "large", 0.3, 0.6, 0.15),), "navy")
    mask = render([scene], size=200).masks[0, 0].numpy()
    rows, columns = mask.nonzero()
    assert columns.mean() / 200 == pytest.approx(0.3, abs=0.01)
    assert rows.mean() / 200 == pytest.approx(0.6, abs=0.03)


@given(seed=st.integers(0, 2**32 - 1))
def test_a_scene_looks_the_same_alone_and_in_a_batch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, SceneOptions(occlusion=0.5)) for _ in range(3)]
    together = render(scenes, size=48)
    for i, scene in enumerate(scenes):
        alone = render([scene], size=48)
        torch.testing.assert_close(alone.images[0], together.images[i], atol=1e-6, rtol=0)
        assert torch.equal(alone.masks[0], together.masks[i, : len(scene.objects)])


@given(seed=st.integers(0, 2**32 - 1))
def test_masks_never_overlap_and_the_front_object_wins(seed: int) -> None:
    scene = sample_scene(np.random.default_rng(seed), SceneOptions(objects=(3, 4), occlusion=1.0))
    masks = render([scene], size=96).masks[0]
    assert masks.sum(0).max() <= 1
    front = Scene((scene.objects[-1],), scene.background)
    assert torch.equal(render([front], size=96).masks[0, 0], masks[-1])


def test_later_objects_cover_earlier_ones() -> None:
    behind = SceneObject("circle", "red", "large", 0.45, 0.5, 0.17)
    before = SceneObject("circle", "blue", "large", 0.60, 0.5, 0.17)
    image, masks = render([Scene((behind, before), "navy")], size=96)
    shared = render([Scene((behind,), "navy")], size=96).masks[0, 0] & masks[0, 1]
    assert shared.sum() > 50
    red, _, blue = image[0][:, shared].mean(1)
    assert blue > red and not (masks[0, 0] & shared).any()


@pytest.mark.parametrize("colour", COLOURS)
def test_the_named_colour_is_the_nearest_to_the_pixels(colour: str) -> None:
    scene = Scene((SceneObject("square", colour, "large", 0.5, 0.5, 0.17),), "brown", noise=0.02, grain=7)
    image, masks = render([scene], size=96)
    mean = image[0][:, masks[0, 0]].mean(1)
    distances = {name: (mean - torch.tensor(rgb)).norm().item() for name, rgb in COLOURS.items()}
    assert min(distances, key=distances.__getitem__) == colour


@pytest.mark.parametrize("size", [32, 96, 97], ids=lambda n: f"{n}-pixels")
def test_pictures_have_the_asked_size_and_range(size: int) -> None:
    images, masks = render([sample_scene(np.random.default_rng(1))], size=size)
    assert images.shape[-2:] == masks.shape[-2:] == (size, size)
    assert 0 <= images.min() and images.max() <= 1


def test_noise_has_the_stated_strength() -> None:
    plain = Scene((SceneObject("circle", "red", "small", 0.1, 0.1, 0.05),), "gray")
    noisy = Scene(plain.objects, "gray", noise=0.03, grain=5)
    # The clouds of the background depend on the grain too: compare the spread of neighbouring pixels only.
    image = render([noisy], size=96).images[0][:, 40:, 40:]
    spread = (image[:, :, 1:] - image[:, :, :-1]).std() / math.sqrt(2)
    assert spread.item() == pytest.approx(0.03, rel=0.05)


def test_no_scene_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one scene"):
        render([])
