"""Rich scenes: exact shapes, at least half of every object in sight, colours as named, textures that stay the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path

from refam_analysis.evaluation.colour_judge import nearest_colours
from refam_analysis.scenes import (
    COLOURS,
    MATERIALS,
    RICH_HELD_OUT,
    RICH_SHAPES,
    TEXTURES,
    Scene,
    SceneObject,
    SceneOptions,
    Scenes,
    object_table,
    render,
    sample_scene,
)
from refam_analysis.scenes.rendering import visible_masks

CROWDED = SceneOptions(objects=(5, 6), occlusion=1.0, style="rich")
RICH = SceneOptions(objects=(2, 6), occlusion=0.4, shared_attribute=True, style="rich")


def union_area(*polygons: Sequence[tuple[float, float]]) -> float:
    """By counting points of a fine grid."""
    axis = np.linspace(-1.2, 1.2, 1201)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    inside = np.any([Path(polygon).contains_points(points) for polygon in polygons], axis=0)
    return inside.mean() * 2.4**2


def lens(one: float, two: float, apart: float) -> float:
    """Area common to two discs."""
    first = math.acos((apart**2 + one**2 - two**2) / (2 * apart * one))
    second = math.acos((apart**2 + two**2 - one**2) / (2 * apart * two))
    kite = math.sqrt((one + two - apart) * (apart + one - two) * (apart + two - one) * (one + two + apart))
    return one**2 * first + two**2 * second - kite / 2


AREAS = {
    # In units of radius squared.
    "heart": (0.5 + math.pi / 8) * 1.75**2,
    "diamond": union_area([(0, -1.12), (0.74, 0), (0, 1.12), (-0.74, 0)]),
    "crescent": math.pi - lens(1.0, 0.8, 0.46),
    "arrow": union_area([(-1.05, -0.3), (0, -0.3), (0, 0.3), (-1.05, 0.3)], [(-0.05, -0.9), (1.05, 0), (-0.05, 0.9)]),
    "bolt": union_area([(0.42, -1.08), (0.28, 0.2), (-0.8, 0.2)], [(-0.42, 1.08), (-0.28, -0.2), (0.8, -0.2)]),
    "house": union_area(
        [(-0.66, -0.12), (0.66, -0.12), (0.66, 0.92), (-0.66, 0.92)], [(-1.04, 0.02), (1.04, 0.02), (0, -1.02)]
    ),
}


@pytest.mark.parametrize("shape", AREAS)
@pytest.mark.parametrize("rotation", [0.0, 0.2], ids=["upright", "turned"])
def test_mask_has_the_exact_area(shape: str, rotation: float) -> None:
    item = SceneObject(shape, "red", "large", 0.5, 0.5, 0.17, rotation=rotation, material="matt")
    mask = render([Scene((item,), "sand")], size=768).masks[0, 0]
    assert mask.float().mean().item() / 0.17**2 == pytest.approx(AREAS[shape], rel=0.01)


def test_no_two_silhouettes_are_alike_at_the_smallest_size() -> None:
    """Of small objects in a picture of 64, laid upon each other as well as they can be."""
    masks = {
        shape: render([Scene((SceneObject(shape, "red", "small", 0.5, 0.5, 0.105),), "sand")], size=64).masks[0, 0]
        for shape in RICH_SHAPES
    }
    shifts = list(itertools.product(range(-2, 3), repeat=2))
    for one, two in itertools.combinations(RICH_SHAPES, 2):
        moved = [torch.roll(masks[two], shift, (0, 1)) for shift in shifts]
        overlap = max(((masks[one] & m).sum() / (masks[one] | m).sum()).item() for m in moved)
        assert overlap < 0.85, (one, two)


def test_at_least_half_of_every_object_stays_in_sight() -> None:
    split = Scenes("validation", length=150, size=64, options=CROWDED, kinds=())
    scenes = [split.draw(i)[0] for i in range(150)]
    seen = visible_masks(scenes, size=64).sum((2, 3))
    shares = []
    for scene, pixels in zip(scenes, seen, strict=True):
        whole = visible_masks([Scene((item,), scene.background) for item in scene.objects], size=64).sum((2, 3))[:, 0]
        shares += (pixels[: len(whole)] / whole).tolist()
    assert min(shares) >= 0.5
    assert np.mean([share < 0.9 for share in shares]) > 0.1


def test_nothing_is_hidden_without_occlusion() -> None:
    options = SceneOptions(objects=(4, 4), style="rich")
    visible = object_table(Scenes("validation", length=20, size=64, options=options, kinds=()))["visible"]
    assert (visible == 1.0).all()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_a_scene_looks_the_same_alone_and_among_plain_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, options) for options in (RICH, SceneOptions(), RICH, CROWDED)]
    together = render(scenes, size=48)
    for i, scene in enumerate(scenes):
        alone = render([scene], size=48)
        torch.testing.assert_close(alone.images[0], together.images[i], atol=1e-5, rtol=0)
        assert torch.equal(alone.masks[0], together.masks[i, : len(scene.objects)])
        assert not together.masks[i, len(scene.objects) :].any()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_masks_never_overlap_and_no_two_objects_look_alike(seed: int) -> None:
    scene = sample_scene(np.random.default_rng(seed), CROWDED)
    image, masks = render([scene], size=64)
    assert masks[0].sum(0).max() <= 1
    assert 0 <= image.min() and image.max() <= 1
    assert len({(o.colour, o.shape, o.size, o.material) for o in scene.objects}) == len(scene.objects)


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("colour", COLOURS)
def test_the_named_colour_is_the_nearest_under_some_light(colour: str, material: str) -> None:
    for shape, radius in (("square", 0.17), ("bolt", 0.105)):
        item = SceneObject(shape, colour, "large", 0.5, 0.5, radius, stripe_angle=0.6, material=material)
        image, masks = render([Scene((item,), "pebbles", noise=0.01, grain=7)], size=64)
        mean = image[0][:, masks[0, 0]].mean(1).numpy()
        assert list(COLOURS)[int(nearest_colours(mean))] == colour


def test_materials_differ_in_their_pixels() -> None:
    things = [SceneObject("circle", "blue", "small", 0.5, 0.5, 0.11, material=material) for material in MATERIALS]
    images = render([Scene((item,), "wood", grain=3) for item in things], size=64).images
    mask = render([Scene((things[0],), "wood")], size=64).masks[0, 0]
    for one, two in itertools.combinations(images, 2):
        assert (one - two)[:, mask].abs().amax(0).quantile(0.9) > 0.15
        torch.testing.assert_close(one[:, :10, :10], two[:, :10, :10])


def test_a_fainter_texture_leaves_the_objects_as_they_are() -> None:
    scene = Scene((SceneObject("circle", "red", "small", 0.2, 0.2, 0.1, material="matt"),), "grass", grain=11)
    whole, faint, flat = (render([scene], size=64, texture=texture) for texture in (1.0, 0.2, 0.0))
    assert torch.equal(whole.masks, faint.masks)
    contrast = [float(picture.images[0, :, 40:, 40:].std((1, 2)).mean()) for picture in (whole, faint, flat)]
    assert contrast[1] == pytest.approx(0.2 * contrast[0], rel=1e-3)
    assert contrast[2] < 1e-6
    torch.testing.assert_close(whole.images[0, :, 10:15, 10:15], flat.images[0, :, 10:15, 10:15])


@pytest.mark.parametrize("background", TEXTURES)
def test_a_texture_is_the_same_at_every_size(background: str) -> None:
    scene = Scene((SceneObject("circle", "red", "small", 0.1, 0.1, 0.05, material="matt"),), background, grain=11)
    other = Scene(scene.objects, background, grain=12)
    large, small, different = (render([s], size=n).images for s, n in ((scene, 192), (scene, 64), (other, 64)))
    smaller = torch.nn.functional.interpolate(large, size=64, mode="area")
    assert (smaller - small).abs().mean() < 0.5 * (different - small).abs().mean()


def test_only_the_test_split_shows_held_out_pairs() -> None:
    shown = {
        split: {(o.colour, o.shape) for i in range(500) for o in scenes.draw(i)[0].objects}
        for split in ("train", "validation", "test")
        for scenes in [Scenes(split, length=500, options=RICH, kinds=())]
    }
    assert not (shown["train"] | shown["validation"]) & RICH_HELD_OUT
    assert shown["test"] >= RICH_HELD_OUT


def test_a_scene_depends_on_split_index_and_options_only() -> None:
    first, again = (Scenes("test", length=n, options=RICH, size=48)[3] for n in (5, 50))
    assert first.scene == again.scene and np.array_equal(first.image, again.image)
    assert Scenes("train", length=5, options=RICH, kinds=()).draw(3)[0] != first.scene


def test_two_objects_share_a_colour_more_often_than_a_shape() -> None:
    scenes = [Scenes("train", length=300, options=RICH, kinds=()).draw(i)[0] for i in range(300)]
    pairs = [list(itertools.combinations(scene.objects, 2)) for scene in scenes]
    colours, shapes = (
        np.mean([any(getattr(a, name) == getattr(b, name) for a, b in some) for some in pairs])
        for name in ("colour", "shape")
    )
    assert colours > 0.7 and shapes > 0.4


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of plain, rich"):
        SceneOptions(style="photo")  # type: ignore[arg-type]
