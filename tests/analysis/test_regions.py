"""Target, distractors and background among the image tokens, by their pixels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.analysis.localisation import MaskError
from refam_analysis.analysis.regions import REGIONS, region_shares, tokens_on


def masks(seed: int, shape: tuple[int, ...], number: int) -> np.ndarray:
    """Objects that may overlap; the first is never empty."""
    drawn = np.random.default_rng(seed).random((number, *shape)) < 0.4
    drawn[0].flat[0] = True
    return drawn


@given(seed=st.integers(0, 500), height=st.integers(1, 13), width=st.integers(1, 13), others=st.integers(0, 3))
def test_shares_are_those_of_the_pixels_that_a_token_covers(seed: int, height: int, width: int, others: int) -> None:
    target, *distractors = masks(seed, (height, width), 1 + others)
    grid = (1 + seed % 3, 1 + seed % 4)
    found = region_shares(target, distractors, grid)
    counted = np.zeros((3, *grid))
    for y, x in product(range(height), range(width)):
        token = int((y + 0.5) * grid[0] / height), int((x + 0.5) * grid[1] / width)
        region = 0 if target[y, x] else 1 if any(mask[y, x] for mask in distractors) else 2
        counted[(region, *token)] += 1
    covered = counted.sum(axis=0) > 0
    np.testing.assert_allclose(found.values[:, covered], (counted / counted.sum(axis=0).clip(1))[:, covered])
    np.testing.assert_allclose(found.sum("region"), 1.0)
    assert found["region"].values.tolist() == list(REGIONS)


def test_a_token_finer_than_a_pixel_takes_the_pixel_of_its_middle() -> None:
    found = region_shares([[True, False]], [[[False, True]]], (2, 4))
    assert found.sel(region="target").values.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]
    assert found.sel(region="distractors").values.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]


def test_a_clip_has_frames() -> None:
    target = masks(3, (4, 6, 6), 1)[0]
    found = region_shares(target, [], (2, 3, 3))
    assert found.dims == ("region", "frame", "y", "x")
    assert found.sel(region="target").values[1, 2, 0] == pytest.approx(target[2:, 4:, :2].mean())
    assert not found.sel(region="distractors").values.any()


def test_the_pixel_in_the_middle_decides_where_a_token_has_to_be_one_thing() -> None:
    mask = np.zeros((9, 9), bool)
    mask[4, 1] = mask[7, 7] = True
    assert np.argwhere(tokens_on(mask, (3, 3))).tolist() == [[1, 0], [2, 2]]


@pytest.mark.parametrize(
    ("target", "distractors", "grid", "said"),
    [
        ([[False, False]], [], (1, 2), "empty"),
        ([[True, False]], [[[True]]], (1, 2), "distractor"),
        ([[True, False]], [], (1, 1, 2), "frame"),
    ],
    ids=["empty-target", "other-picture", "clip-of-a-picture"],
)
def test_masks_that_make_no_regions_are_refused(target: list, distractors: list, grid: tuple, said: str) -> None:
    with pytest.raises(MaskError, match=said):
        region_shares(target, distractors, grid)
