"""Whether points lie on their masks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refam_analysis.evaluation.metrics.overlaps import Masks, MaskShapeError, as_mask
from refam_analysis.segmentation.point import pixel_of


def points_on(points: ArrayLike, true: Masks) -> NDArray[np.bool_]:
    """Whether each point lies on its mask.

    Args:
        points: (points, 2): x and y in pixels, SAM's convention (whole numbers are the middles of pixels).
        true: as many masks, each (height, width), or in COCO's run lengths.

    Returns:
        (points,); False on an empty mask.

    >>> points_on([(1.0, 0.0)], [[[0, 1]]]).tolist()
    [True]
    """
    positions = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if len(positions) != len(true):
        raise MaskShapeError("The numbers of points and masks", len(positions), len(true))
    masks = (as_mask(mask) for mask in true)
    return np.array([mask[tuple(pixel_of(xy, mask.shape))] for xy, mask in zip(positions, masks, strict=True)], bool)


def point_accuracy(points: ArrayLike, true: Masks) -> float:
    """Share of points that lie on their masks (PA); args as in :func:`points_on`. NaN without any point.

    Args:
        points: (item, 2), as x and y in pixels.
        true: masks, bool (height, width), one a point.

    Returns:
        In [0, 1].

    >>> point_accuracy([(1.0, 0.0), (0.0, 0.0)], [[[0, 1]], [[0, 1]]])
    0.5
    """
    hits = points_on(points, true)
    return float(hits.mean()) if len(hits) else math.nan
