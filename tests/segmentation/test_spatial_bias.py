"""The spatial bias: bounded, smooth, and larger where the expression says."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.prompts import Along, Place, places
from refam_analysis.segmentation import SpatialBiasError, spatial_bias

SHAPES = st.tuples(st.integers(1, 17), st.integers(1, 17))
STRENGTHS = st.floats(0.0, 1.0)
PHRASES = (
    "on the left", "at the top", "in the middle", "top left corner", "in the corner", "second from the left",
    "leftmost", "in front", "the end one", "third from the bottom", "middle row", "back left",
)  # fmt: skip
NAMED = st.lists(st.sampled_from(PHRASES), max_size=4).map(", ".join).map(lambda text: places(text or "the dog"))
MIRROR = {"left": "right", "right": "left", "leftmost": "rightmost"}
FLIP = {"top": "bottom", "bottom": "top", "front": "back", "back": "front"}


def swapped(expression: str, words: dict[str, str]) -> str:
    return " ".join(words.get(word, word) for word in expression.split())


def written_out(place: Place, shape: tuple[int, int]) -> np.ndarray:
    """The bias of one place at full strength, cell by cell."""
    rows = []
    for row in range(shape[0]):
        cells = []
        for column in range(shape[1]):
            value = 1.0
            for axis, at in ((place.x, (column + 0.5) / shape[1]), (place.y, (row + 0.5) / shape[0])):
                if axis is None:
                    continue
                curve = exp(-((at - axis.position) ** 2) / (2 * axis.spread**2))
                if axis.either_end:
                    curve = max(curve, exp(-((1 - at - axis.position) ** 2) / (2 * axis.spread**2)))
                value *= curve
            cells.append(value)
        rows.append(cells)
    return np.array(rows)


@pytest.mark.parametrize("phrase", PHRASES)
def test_bias_equals_the_formula_cell_by_cell(phrase: str) -> None:
    (place,) = places(phrase)
    np.testing.assert_allclose(spatial_bias([place], (5, 7)), written_out(place, (5, 7)), rtol=1e-12)


def test_places_multiply() -> None:
    named = places("on the left, at the top, third from the right")
    assert len(named) == 3
    expected = np.prod([written_out(place, (6, 4)) for place in named], axis=0)
    np.testing.assert_allclose(spatial_bias(named, (6, 4)), expected, rtol=1e-12)


@given(named=NAMED, shape=SHAPES, strength=STRENGTHS)
def test_bias_has_the_shape_and_lies_between_what_strength_leaves_and_one(
    named: tuple[Place, ...], shape: tuple[int, int], strength: float
) -> None:
    bias = spatial_bias(named, shape, strength=strength)
    assert bias.shape == shape
    assert (bias > 0).all() and (bias <= 1.0).all()
    assert (bias >= 1.0 - strength).all()


@given(shape=SHAPES, strength=STRENGTHS)
def test_no_place_is_no_bias(shape: tuple[int, int], strength: float) -> None:
    assert (spatial_bias((), shape, strength=strength) == 1.0).all()


@given(named=NAMED, shape=SHAPES)
def test_no_strength_is_no_bias(named: tuple[Place, ...], shape: tuple[int, int]) -> None:
    assert (spatial_bias(named, shape, strength=0.0) == 1.0).all()


@given(phrase=st.sampled_from(PHRASES), shape=SHAPES, strength=STRENGTHS)
def test_left_and_right_mirror(phrase: str, shape: tuple[int, int], strength: float) -> None:
    one = spatial_bias(places(phrase), shape, strength=strength)
    other = spatial_bias(places(swapped(phrase, MIRROR)), shape, strength=strength)
    np.testing.assert_allclose(one, other[:, ::-1], atol=1e-12)


@given(phrase=st.sampled_from(PHRASES), shape=SHAPES, strength=STRENGTHS)
def test_top_and_bottom_mirror(phrase: str, shape: tuple[int, int], strength: float) -> None:
    one = spatial_bias(places(phrase), shape, strength=strength)
    other = spatial_bias(places(swapped(phrase, FLIP)), shape, strength=strength)
    np.testing.assert_allclose(one, other[::-1], atol=1e-12)


@given(cells=st.integers(2, 40), strength=st.floats(0.01, 1.0))
@pytest.mark.parametrize("phrase", ["on the left", "leftmost", "far left", "closest to the left"])
def test_left_falls_all_the_way_to_the_right(phrase: str, cells: int, strength: float) -> None:
    (row,) = spatial_bias(places(phrase), (1, cells), strength=strength)
    assert (np.diff(row) < 0).all()


@given(cells=st.integers(3, 40))
def test_middle_falls_from_the_middle_to_both_sides(cells: int) -> None:
    (row,) = spatial_bias(places("middle column"), (1, cells))
    half = (cells + 1) // 2
    assert (np.diff(row[:half]) > 0).all() and (np.diff(row[cells - half :]) < 0).all()


@given(named=NAMED.filter(len), shape=SHAPES, weaker=STRENGTHS, stronger=STRENGTHS)
def test_more_strength_takes_more(
    named: tuple[Place, ...], shape: tuple[int, int], weaker: float, stronger: float
) -> None:
    weaker, stronger = sorted((weaker, stronger))
    less = spatial_bias(named, shape, strength=stronger)
    assert (less <= spatial_bias(named, shape, strength=weaker) + 1e-12).all()


@pytest.mark.parametrize("phrase", PHRASES)
def test_neighbouring_cells_differ_little(phrase: str) -> None:
    bias = spatial_bias(places(phrase), (64, 64))
    assert max(np.abs(np.diff(bias, axis=axis)).max() for axis in (0, 1)) < 0.05


def test_counted_places_peak_further_from_their_end() -> None:
    peaks = [spatial_bias(places(f"{rank} from the left"), (1, 64)).argmax() for rank in ("first", "second", "third")]
    assert peaks == sorted(peaks) and len(set(peaks)) == 3


def test_a_corner_without_a_side_favours_all_four_alike() -> None:
    bias = spatial_bias(places("in the corner"), (8, 8))
    corners = bias[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, bias.max())
    assert bias[4, 4] < corners[0]


def test_very_many_places_leave_every_cell_possible() -> None:
    narrow = Place("left", (0,), Along(0.0, 0.05), None)
    assert spatial_bias([narrow] * 50, (3, 9)).min() > 0


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")], ids=str)
def test_strength_outside_its_range_is_refused(strength: float) -> None:
    with pytest.raises(SpatialBiasError, match="strength="):
        spatial_bias(places("left"), (4, 4), strength=strength)


@pytest.mark.parametrize("shape", [(0, 4), (4, -1), (4,), (2, 3, 4)], ids=str)
def test_a_shape_without_cells_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(SpatialBiasError, match="shape="):
        spatial_bias(places("left"), shape)
