"""The peak of a map: where it is in pixels, and what happens when it is not one cell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refam_analysis.segmentation.point import HeatmapValueError, peak, peaks, pixel_of


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 9), st.data())
def test_the_point_is_the_middle_of_the_pixels_of_the_largest_cell(
    rows: int, columns: int, scale: int, data: st.DataObject
) -> None:
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    grid = np.zeros((rows, columns))
    grid[row, column] = 1.0
    pixels = np.kron(grid, np.ones((scale, scale)))
    ys, xs = np.nonzero(pixels)
    assert peak(grid, pixels.shape) == pytest.approx((xs.mean(), ys.mean()))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["#...", "....", "...."], (0, 0)),
        ([".##.", "....", "...."], (1.5, 0)),
        (["#..#", "...#", "...#"], (3, 1)),
        (["#...", ".#..", "..#."], (1, 1)),
        (["....", "....", "####"], (1.5, 2)),
        (["####", "####", "####"], (1.5, 1)),
    ],
    ids=["cell", "pair", "largest region", "diagonal", "row", "everything"],
)
def test_a_plateau_is_answered_by_its_centre(rows: list[str], expected: tuple[float, float]) -> None:
    grid = np.array([[cell == "#" for cell in row] for row in rows], dtype=float)
    assert peak(grid, grid.shape) == expected


def test_a_point_between_regions_is_never_given() -> None:
    ring = np.ones((5, 5))
    ring[1:4, 1:4] = 0.0
    x, y = peak(ring, (5, 5))
    assert ring[int(y), int(x)] == 1.0


def test_rounding_does_not_break_a_plateau() -> None:
    flat = np.full((3, 3), 0.1, np.float32) + np.float32(1e-9) * np.arange(9, dtype=np.float32).reshape(3, 3)
    assert peak(flat, (3, 3)) == (1.0, 1.0)


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)), elements=st.floats(-9, 9)
    )
)
def test_many_maps_at_once_give_the_points_of_each(maps: np.ndarray) -> None:
    assert [tuple(point) for point in peaks(maps, (30, 50))] == [peak(one, (30, 50)) for one in maps]


@given(hnp.arrays(np.float64, (4, 6), elements=st.floats(0, 1)), st.floats(0.1, 10))
def test_the_unit_of_the_map_does_not_matter(grid: np.ndarray, factor: float) -> None:
    grid[2, 3] = 2.0
    assert peak(grid * factor, (40, 60)) == peak(grid, (40, 60)) == (34.5, 24.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_with_a_number_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(HeatmapValueError, match="1 of its values"):
        peak([[0.0, bad]], (2, 2))


@pytest.mark.parametrize("shape", [(0, 3), (3,), (2, 3, 4)], ids=str)
def test_a_map_of_other_axes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(HeatmapValueError, match="axes"):
        peak(np.zeros(shape), (2, 2))


def test_pixels_contain_their_points_and_points_outside_go_to_the_nearest() -> None:
    points = [(0.49, 0.0), (0.5, 1.0), (-3.0, 9.0)]
    assert pixel_of(points, (4, 6)).tolist() == [[0, 0], [1, 1], [3, 0]]
