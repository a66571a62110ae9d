"""The judge of colours on pictures whose colour is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from refam_analysis.evaluation.colour_judge import fit_background, judge_colour, nearest_colours
from refam_analysis.scenes import BACKGROUNDS, COLOURS, TEXTURES, Scene, SceneObject, SceneOptions, Scenes, render


def picture(background: str, *, size: int = 64) -> np.ndarray:
    """A background that grows lighter to the right, with a little noise."""
    light = np.linspace(0.8, 1.2, size)[None, :, None]
    noise = 0.02 * np.random.default_rng(0).standard_normal((size, size, 3))
    return (np.array(BACKGROUNDS[background]) * light + noise).clip(0, 1)


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 255).round().astype(np.uint8)


def test_true_scenes_are_judged_right() -> None:
    samples = Scenes("test", length=80, options=SceneOptions(objects=(1, 1)), kinds=())
    judged = [(judge_colour(sample.image), sample) for sample in samples]
    right = [seen.colour == sample.scene.objects[0].colour for seen, sample in judged]
    overlap = [(seen.mask & s.masks[0]).sum() / (seen.mask | s.masks[0]).sum() for seen, s in judged]
    assert np.mean(right) >= 0.95
    assert np.mean(overlap) > 0.85


def test_centre_is_where_the_object_stands() -> None:
    samples = Scenes("validation", length=10, options=SceneOptions(objects=(1, 1)), kinds=())
    for sample in samples:
        thing = sample.scene.objects[0]
        np.testing.assert_allclose(judge_colour(sample.image).centre, (thing.x, thing.y), atol=0.05)


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_an_empty_picture_has_no_colour(background: str) -> None:
    seen = judge_colour(as_bytes(picture(background)))
    assert seen.colour is None and not seen.mask.any() and sum(seen.shares.values()) == 0
    assert np.isnan(seen.centre).all()


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_shadow_is_no_object(background: str) -> None:
    pixels = picture(background)
    pixels[20:40, 20:40] *= 0.65
    assert judge_colour(as_bytes(pixels)).colour is None


@pytest.mark.parametrize("light", [0.65, 0.85, 1.0, 1.2])
@pytest.mark.parametrize("name", COLOURS)
def test_a_colour_keeps_its_name_in_the_shade(name: str, light: float) -> None:
    lit = (np.array(COLOURS[name]) * light).clip(0, 1)
    assert list(COLOURS)[int(nearest_colours(lit))] == name


@pytest.mark.parametrize("corner", [(0, 0), (0, 48), (48, 48)], ids=str)
def test_an_object_may_reach_the_edge(corner: tuple[int, int]) -> None:
    pixels, (row, column) = picture("navy"), corner
    pixels[row : row + 16, column : column + 16] = COLOURS["pink"]
    seen = judge_colour(as_bytes(pixels))
    assert seen.colour == "pink" and 200 < seen.mask.sum() < 290


def test_an_object_of_two_colours_is_shared_between_them() -> None:
    pixels = picture("gray")
    pixels[10:50, 10:40] = COLOURS["green"]
    pixels[10:50, 40:50] = COLOURS["yellow"]
    shares = judge_colour(as_bytes(pixels)).shares
    assert shares["green"] == pytest.approx(0.75, abs=0.03) and shares["yellow"] == pytest.approx(0.25, abs=0.03)


def test_of_two_objects_the_larger_counts() -> None:
    pixels = picture("brown")
    pixels[5:15, 5:15] = COLOURS["red"]
    pixels[30:55, 30:55] = COLOURS["blue"]
    assert judge_colour(as_bytes(pixels)).shares["blue"] == pytest.approx(1.0)


def test_background_behind_an_object_is_continued() -> None:
    true = picture("teal")
    pixels = true.copy()
    pixels[20:44, 20:44] = COLOURS["white"]
    np.testing.assert_allclose(fit_background(pixels)[20:44, 20:44], true[20:44, 20:44], atol=0.12)
    assert np.abs(fit_background(pixels)[20:44, 20:44] - true[20:44, 20:44]).mean() < 0.03


def test_true_rich_scenes_are_judged_right_although_their_background_has_a_texture() -> None:
    samples = Scenes("test", length=60, options=SceneOptions(objects=(1, 1), style="rich"), kinds=())
    judged = [(judge_colour(sample.image, style="rich"), sample) for sample in samples]
    overlap = [(seen.mask & s.masks[0]).sum() / (seen.mask | s.masks[0]).sum() for seen, s in judged]
    assert np.mean([seen.colour == sample.scene.objects[0].colour for seen, sample in judged]) >= 0.95
    assert np.mean(overlap) > 0.85


@pytest.mark.parametrize("texture", list(TEXTURES))
def test_a_texture_alone_has_no_colour(texture: str) -> None:
    red = SceneObject("circle", "red", "small", 0.5, 0.5, 0.1)
    bare = replace(red, x=9.0)
    pictures = [render([Scene((item,), texture, grain=7)], size=64).pictures()[0] for item in (bare, red)]
    shares = [judge_colour(one, style="rich").mask.mean() for one in pictures]
    assert shares[0] < 0.02 < shares[1]
