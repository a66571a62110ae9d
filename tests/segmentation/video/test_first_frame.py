"""Heatmaps of clips by video models, on small random models of the real classes, saved and loaded like real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from families import cogvideox, mochi, wan
from families.case import FamilyCase
from families.running import loaded

import refam_analysis as ra
from refam_analysis.models import DiffusionModel
from refam_analysis.models.family import ClipLengthError
from refam_analysis.prompts import make_prompt
from refam_analysis.segmentation import HeatmapSettings
from refam_analysis.segmentation.video import open_frames
from refam_analysis.segmentation.video.first_frame import chosen_frames, clip_numbers, first_frames_of, look

SETTINGS = HeatmapSettings(noise_levels=(0.5,))
PROMPT = make_prompt("the red ring", ["."])
CASES = [mochi.CASE, wan.CASE, cogvideox.CASE]


@pytest.fixture(scope="module", params=CASES, ids=str)
def case_and_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FamilyCase, DiffusionModel]:
    return request.param, loaded(request.param, tmp_path_factory.mktemp(request.param.name))


def clip(frames: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (frames, 32, 48, 3), dtype=np.uint8)


def test_there_is_a_map_for_every_latent_frame(case_and_model: tuple[FamilyCase, DiffusionModel]) -> None:
    case, model = case_and_model
    stages = look(model, list(clip(case.frames)), PROMPT, SETTINGS, numbers=range(case.frames))
    maps = stages["frame_heatmaps"]
    assert maps.dims == ("frame", "y", "x") and maps.shape == case.grid
    assert maps["frame"].values.tolist() == [0, 1][: case.grid[0]]
    assert np.array_equal(stages["heatmap"], maps[0]) and np.isfinite(maps).all()
    row, column = np.unravel_index(int(maps.values[0].argmax()), case.grid[1:])
    x, y = stages["point"]
    assert (round((x + 0.5) / 16 - 0.5), round((y + 0.5) / 16 - 0.5)) == (column, row)


def test_the_maps_are_those_of_a_direct_recording(case_and_model: tuple[FamilyCase, DiffusionModel]) -> None:
    case, model = case_and_model
    frames = list(clip(case.frames))
    recorded = ra.record(model, frames, "the red ring", magnets=["."], noise_level=0.5, seed=3)
    stages = look(model, frames, PROMPT, SETTINGS, numbers=range(case.frames), seed=3)
    np.testing.assert_allclose(stages["frame_heatmaps"], ra.heatmap(recorded, SETTINGS), rtol=1e-5)


def test_frames_stay_in_order(case_and_model: tuple[FamilyCase, DiffusionModel]) -> None:
    """Another first frame, and other frames after it, change different maps.

    Mochi's and Wan's autoencoders look back only, so the first latent frame is the first frame's alone; what changes
    after it reaches the first map through the transformer, and the second map more.
    """
    case, model = case_and_model
    plain = np.full((case.frames, 32, 48, 3), 90, np.uint8)
    first, later = plain.copy(), plain.copy()
    first[0, :, ::2] = 255
    later[1:, :, ::2] = 255
    frames = range(case.frames)
    maps = [
        look(model, list(clip), PROMPT, SETTINGS, numbers=frames)["frame_heatmaps"].values
        for clip in (plain, first, later)
    ]
    of_first, of_later = (np.abs(other - maps[0]).mean((1, 2)) for other in maps[1:])
    assert min(*of_first, *of_later) > 0
    if case.name in ("mochi", "wan"):
        latents = [model.encode_images([list(clip)]) for clip in (plain, later)]
        assert (latents[0] == latents[1])[:, :, 0].all() and not (latents[0] == latents[1])[:, :, 1].any()
        assert of_first[0] / of_first[1] > of_later[0] / of_later[1]


def test_the_first_frame_alone_is_what_an_image_would_be(case_and_model: tuple[FamilyCase, DiffusionModel]) -> None:
    _, model = case_and_model
    frame = clip(1)[0]
    stages = look(model, [frame], PROMPT, SETTINGS)
    result = ra.segment(model, frame, "the red ring", magnets=["."], settings=SETTINGS)
    assert stages["frame_heatmaps"].sizes["frame"] == 1
    np.testing.assert_allclose(stages["heatmap"], result.heatmap, rtol=1e-5)
    assert stages["point"] == result.point
    assert set(result.stages) - set(stages) == {"masks", "scores", "chosen", "mask"}


def test_the_prior_of_a_clip_is_that_of_an_image(case_and_model: tuple[FamilyCase, DiffusionModel]) -> None:
    _, model = case_and_model
    frame, settings = clip(1)[0], replace(SETTINGS, noun_phrase=True, upsampling="bilinear", spatial_bias=0.5)
    stages = look(model, [frame], make_prompt("the red ring on the left", ["."]), settings)
    result = ra.segment(model, frame, "the red ring on the left", magnets=["."], settings=settings)
    for name in ("heatmap_before_bias", "spatial_bias", "heatmap"):
        np.testing.assert_allclose(stages[name], result.stages[name], rtol=1e-5)
    assert stages["places"] == result.stages["places"] and stages["noun_phrase"] == result.stages["noun_phrase"]


def test_the_same_seed_gives_the_same_maps(case_and_model: tuple[FamilyCase, DiffusionModel]) -> None:
    case, model = case_and_model
    frames = list(clip(case.frames))
    one, same, other = (
        look(model, frames, PROMPT, SETTINGS, numbers=range(case.frames), seed=seed)["heatmap"].values
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_a_number_of_frames_that_does_not_fit_is_refused(case_and_model: tuple[FamilyCase, DiffusionModel]) -> None:
    case, model = case_and_model
    with pytest.raises(ClipLengthError, match=f"a clip of {case.frames - 1} frames"):
        look(model, list(clip(case.frames - 1)), PROMPT, SETTINGS, numbers=range(case.frames - 1))


def test_all_that_a_model_takes_fits_its_autoencoder(case_and_model: tuple[FamilyCase, DiffusionModel]) -> None:
    case, model = case_and_model
    for length in (1, 2, case.frames, 50, 1000):
        numbers = clip_numbers(model, length, None)
        assert len(numbers) <= min(length, case.frames)
        assert (len(numbers) - 1) % model.frames_per_latent == 0
        assert numbers[0] == 0 and (len(numbers) == 1 or numbers[-1] == length - 1)


def test_a_model_of_images_sees_one_frame(tiny_flux_folder: Path) -> None:
    model = ra.load_model(tiny_flux_folder)
    assert clip_numbers(model, 30, None) == clip_numbers(model, 30, 1) == [0]
    with pytest.raises(ClipLengthError, match="a clip of 3 frames"):
        look(model, list(clip(3)), PROMPT, SETTINGS, numbers=[0, 1, 2])


@pytest.mark.parametrize("wanted", [0, -1])
def test_a_clip_of_no_frames_is_refused(tiny_flux_folder: Path, wanted: int) -> None:
    with pytest.raises(ClipLengthError, match=f"a clip of {wanted} frames"):
        clip_numbers(ra.load_model(tiny_flux_folder), 30, wanted)


def test_chosen_frames_are_those_of_their_numbers() -> None:
    frames = clip(9)
    chosen = chosen_frames(open_frames(frames), [0, 4, 8])
    assert all(np.array_equal(one, frames[number]) for one, number in zip(chosen, (0, 4, 8), strict=True))


@pytest.mark.parametrize(
    ("frames", "maps", "per_latent", "expected"),
    [(1, 1, 6, [0]), (7, 2, 6, [0, 1]), (13, 3, 6, [0, 1, 7]), (9, 2, 4, [0, 1]), (81, 11, 8, [0, *range(1, 81, 8)])],
    ids=["one", "mochi", "three", "two-a-token", "wan-like"],
)
def test_maps_stand_for_the_frames_that_they_were_made_of(
    frames: int, maps: int, per_latent: int, expected: list[int]
) -> None:
    assert first_frames_of(frames, maps, per_latent) == expected
