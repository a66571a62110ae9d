"""From a heatmap to the one point that a segmenter is asked about.

Here are the peak of a map, with ties settled, and the coordinates in which it is told. How the map came about is in
:mod:`refam_analysis.segmentation.heatmap`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from refam_analysis.errors import RefamError

PLATEAU_TOLERANCE = 1e-6
"""Cells this close to the maximum, relative to the map's largest magnitude, belong to the peak: float32's rounding."""

_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class HeatmapValueError(RefamError, ValueError):
    """A heatmap has no peak, because it is empty or holds a number that is none."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"This heatmap has no peak: {problem}. Check the recording that it was read from.")


def peak(heatmap: xr.DataArray | ArrayLike, size: tuple[int, int]) -> tuple[float, float]:
    """The point at which a heatmap is largest, in pixels of the image that the heatmap covers.

    The heatmap's grid is laid over the whole image, so a cell is width / columns pixels wide, and the answer is the
    middle of the cell. Where several cells share the maximum, the largest connected region of them is the peak
    (diagonal neighbours are connected; of equal regions the first in reading order), and its centre of mass is the
    point; where the centre lies outside the region (a ring, a crescent) the region's nearest cell is taken.

    Args:
        heatmap: axes (y, x), any unit, finite.
        size: (height, width) of the image in pixels.

    Returns:
        (x, y) in SAM's convention: pixel indices, so that (0, 0) is the middle of the first pixel. Points in the
        middle of an even number of pixels end in .5.

    Raises:
        HeatmapValueError: the map is empty, or holds NaN or infinity.

    >>> peak([[0.0, 0.0], [0.0, 1.0]], size=(16, 16))
    (11.5, 11.5)
    >>> peak([[1.0, 1.0], [1.0, 1.0]], size=(16, 16))
    (7.5, 7.5)
    """
    x, y = peaks(np.asarray(heatmap)[None], size)[0]
    return float(x), float(y)


def peaks(heatmaps: ArrayLike, size: tuple[int, int]) -> NDArray[np.float64]:
    """:func:`peak` of many heatmaps of one size at once.

    Args:
        heatmaps: (maps, y, x).
        size: (height, width) of the images in pixels.

    Returns:
        (maps, 2): x and y of each point.
    """
    maps = np.asarray(heatmaps, dtype=np.float64)
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise HeatmapValueError(f"its axes should be (y, x), each at least 1 long; it has the shape {maps.shape[1:]}")
    flat = maps.reshape(len(maps), -1)
    if not np.isfinite(flat).all():
        raise HeatmapValueError(f"{int((~np.isfinite(flat)).sum())} of its values are NaN or infinite")
    top = flat.max(axis=1, initial=-np.inf)
    tolerance = PLATEAU_TOLERANCE * np.abs(flat).max(axis=1, initial=0.0)
    is_top = flat >= (top - tolerance)[:, None]
    rows, columns = (index.astype(np.float64) for index in np.divmod(is_top.argmax(axis=1), maps.shape[2]))
    for index in np.flatnonzero(is_top.sum(axis=1) > 1):
        rows[index], columns[index] = _centre(is_top[index].reshape(maps.shape[1:]))
    height, width = size
    x = (columns + 0.5) * (width / maps.shape[2]) - 0.5
    y = (rows + 0.5) * (height / maps.shape[1]) - 0.5
    return np.stack([x, y], axis=1)


def pixel_of(points: ArrayLike, size: tuple[int, int]) -> NDArray[np.intp]:
    """The pixel that contains each point, as an index into an array of rows.

    Args:
        points: (..., 2): x and y in SAM's convention. A point on the edge of two pixels belongs to the later one.
        size: (height, width); points outside are moved to the nearest pixel.

    Returns:
        (..., 2): row and column.

    >>> pixel_of((11.5, 3.0), size=(16, 16)).tolist()
    [3, 12]
    """
    xy = np.floor(np.asarray(points, dtype=np.float64) + 0.5).astype(np.intp)
    height, width = size
    return np.stack([xy[..., 1].clip(0, height - 1), xy[..., 0].clip(0, width - 1)], axis=-1)


def _centre(region: NDArray[np.bool_]) -> tuple[float, float]:
    """Row and column of the centre of the largest connected part, moved into it where it lies outside."""
    labels, _ = ndimage.label(region, structure=_NEIGHBOURS)
    cells = np.argwhere(labels == np.bincount(labels[region]).argmax())
    centre = cells.mean(axis=0)
    inside = (cells == np.floor(centre + 0.5)).all(axis=1).any()
    row, column = centre if inside else cells[np.square(cells - centre).sum(axis=1).argmin()]
    return float(row), float(column)
