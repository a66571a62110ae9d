"""How well masks and points agree with the truth: the field's measures, by their published definitions.

Each takes (predicted, true). Intervals are in :mod:`refam_analysis.analysis.statistics`; which items to measure on is
in :mod:`refam_analysis.evaluation.grounding`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from refam_analysis.errors import RefamError
from refam_analysis.segmentation.point import pixel_of

EmptyRule = Literal["right", "wrong", "skip"]
"""What an empty prediction for an empty truth is worth: 1 ("right"), 0 ("wrong"), or nothing at all ("skip")."""

Masks = Sequence[ArrayLike] | NDArray[np.bool_]
_EMPTY_VALUE: dict[EmptyRule, float] = {"right": 1.0, "wrong": 0.0, "skip": math.nan}


class MaskError(RefamError, ValueError):
    """Masks that cannot be compared."""


class MaskShapeError(MaskError):
    """A predicted mask and its truth, or their numbers, differ in size."""

    def __init__(self, what: str, predicted: object, true: object) -> None:
        super().__init__(f"{what} differ: {predicted} predicted, {true} true. Bring both to the image's size first.")


def mask_ious(predicted: Masks, true: Masks, *, empty: EmptyRule = "right") -> NDArray[np.float64]:
    """Intersection over union of each mask with its truth.

    Args:
        predicted: masks, each (height, width), bool or 0 and 1; their sizes may differ from item to item.
        true: as many, of the same sizes.
        empty: what a pair of two empty masks counts: see :data:`EmptyRule`. NaN stands for "skip".

    Returns:
        (masks,), in [0, 1]. One empty mask of the two gives 0.

    Raises:
        MaskShapeError: the numbers or sizes differ.
        MaskError: a mask holds something else than truth values.

    >>> mask_ious([[[1, 1, 0]]], [[[0, 1, 1]]]).round(3).tolist()
    [0.333]
    """
    intersections, unions = _overlaps(predicted, true)
    return np.divide(intersections, unions, out=np.full(len(unions), _EMPTY_VALUE[empty]), where=unions > 0)


def mean_iou(predicted: Masks, true: Masks, *, empty: EmptyRule = "right") -> float:
    """Mean over items of intersection over union (mIoU): every item counts alike, however small its object.

    Args and errors are those of :func:`mask_ious`. No item at all, or none that is not skipped, gives NaN.

    >>> mean_iou([[[1, 1]], [[0, 1]]], [[[1, 1]], [[1, 0]]])
    0.5
    """
    ious = mask_ious(predicted, true, empty=empty)
    ious = ious[~np.isnan(ious)]
    return float(ious.mean()) if len(ious) else math.nan


def overall_iou(predicted: Masks, true: Masks) -> float:
    """Sum of all intersections over the sum of all unions (oIoU, cumulative IoU): large objects count more.

    Args and errors are those of :func:`mask_ious`; pairs of empty masks add nothing. NaN where all are empty.

    Source: the measure of the RefCOCO tables, from Hu et al., "Segmentation from Natural Language Expressions", 2016.

    >>> overall_iou([[[1, 1]], [[0, 1]]], [[[1, 1]], [[1, 0]]])
    0.5
    """
    intersections, unions = _overlaps(predicted, true)
    total = unions.sum()
    return float(intersections.sum() / total) if total else math.nan


def points_on(points: ArrayLike, true: Masks) -> NDArray[np.bool_]:
    """Whether each point lies on its mask.

    Args:
        points: (points, 2): x and y in pixels, SAM's convention (whole numbers are the middles of pixels).
        true: as many masks, each (height, width).

    Returns:
        (points,); False on an empty mask.

    >>> points_on([(1.0, 0.0)], [[[0, 1]]]).tolist()
    [True]
    """
    positions = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if len(positions) != len(true):
        raise MaskShapeError("The numbers of points and masks", len(positions), len(true))
    masks = (_as_mask(mask) for mask in true)
    return np.array([mask[tuple(pixel_of(xy, mask.shape))] for xy, mask in zip(positions, masks, strict=True)], bool)


def point_accuracy(points: ArrayLike, true: Masks) -> float:
    """Share of points that lie on their masks (PA); args as in :func:`points_on`. NaN without any point.

    >>> point_accuracy([(1.0, 0.0), (0.0, 0.0)], [[[0, 1]], [[0, 1]]])
    0.5
    """
    hits = points_on(points, true)
    return float(hits.mean()) if len(hits) else math.nan


def region_similarity(predicted: ArrayLike, true: ArrayLike, *, empty: EmptyRule = "right") -> float:
    """Region similarity J of DAVIS: intersection over union, averaged over the frames.

    Args:
        predicted: (..., height, width), bool or 0 and 1; leading axes are frames.
        true: the same shape.
        empty: what a frame counts in which both are empty; DAVIS counts it as right.

    Returns:
        In [0, 1]; NaN where every frame is skipped.

    Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", 2016.

    >>> region_similarity([[1, 1, 0]], [[1, 1, 0]])
    1.0
    """
    return mean_iou(*_frames(predicted, true), empty=empty)


def contour_accuracy(
    predicted: ArrayLike, true: ArrayLike, *, tolerance: float = 0.008, empty: EmptyRule = "right"
) -> float:
    """Contour accuracy F of DAVIS: how well two outlines match within a small distance, averaged over the frames.

    The outline of a mask is the set of pixels that differ from their right, lower or lower right neighbour. With r
    the tolerance times the image's diagonal, rounded up, precision is the share of the predicted outline within r
    (Euclidean) of the true one, recall the reverse, and F = 2 P R / (P + R). The official code dilates one outline
    by a disk of radius r and looks up the other; the distances here give the same answer without a dilation.

    Args:
        predicted: (..., height, width), bool or 0 and 1; leading axes are frames.
        true: the same shape.
        tolerance: share of the diagonal, if below 1; otherwise pixels.
        empty: what a frame counts in which neither mask has an outline; DAVIS counts it as right. An outline on one
            side only is 0. (A mask that fills the frame has no outline either: DAVIS sees none at the frame's edge.)

    Returns:
        In [0, 1]; NaN where every frame is skipped.

    Source: ``db_eval_boundary`` of the DAVIS 2017 evaluation; Perazzi et al., 2016.

    >>> contour_accuracy([[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    1.0
    """
    values = [_contour_f(p, t, tolerance, empty) for p, t in zip(*_frames(predicted, true), strict=True)]
    kept = [value for value in values if not math.isnan(value)]
    return float(np.mean(kept)) if kept else math.nan


def _contour_f(predicted: ArrayLike, true: ArrayLike, tolerance: float, empty: EmptyRule) -> float:
    ours, truth = _as_mask(predicted), _as_mask(true)
    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*truth.shape))
    ours_at, truth_at = np.argwhere(outline(ours)), np.argwhere(outline(truth))
    if not len(ours_at) or not len(truth_at):
        return _EMPTY_VALUE[empty] if len(ours_at) == len(truth_at) else 0.0
    precision, recall = _share_near(ours_at, truth_at, radius), _share_near(truth_at, ours_at, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def outline(mask: ArrayLike) -> NDArray[np.bool_]:
    """The outline of a mask as DAVIS draws it: pixels unlike their right, lower or lower right neighbour.

    >>> outline([[0, 0, 0], [0, 1, 0], [0, 0, 0]]).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    inside = np.pad(_as_mask(mask), ((0, 1), (0, 1)), mode="edge")
    here = inside[:-1, :-1]
    return (here ^ inside[:-1, 1:]) | (here ^ inside[1:, :-1]) | (here ^ inside[1:, 1:])


def _share_near(pixels: NDArray[np.intp], others: NDArray[np.intp], radius: float) -> float:
    """Share of ``pixels`` at most ``radius`` from one of ``others``; half a squared pixel keeps rounding out."""
    reach = math.sqrt(radius**2 + 0.5) if float(radius).is_integer() else radius
    distances, _ = KDTree(others).query(pixels, distance_upper_bound=reach)
    return float(np.isfinite(distances).mean())


def _overlaps(predicted: Masks, true: Masks) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels in both and in either, one number an item."""
    if len(predicted) != len(true):
        raise MaskShapeError("The numbers of masks", len(predicted), len(true))
    counts = [(int((p & t).sum()), int((p | t).sum())) for p, t in _pairs(predicted, true)]
    intersections, unions = np.array(counts, dtype=np.float64).reshape(-1, 2).T
    return intersections, unions


def _pairs(predicted: Masks, true: Masks) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    for ours, truth in zip(predicted, true, strict=True):
        pair = _as_mask(ours), _as_mask(truth)
        if pair[0].shape != pair[1].shape:
            raise MaskShapeError("The sizes of a mask and its truth", pair[0].shape, pair[1].shape)
        yield pair


def _frames(predicted: ArrayLike, true: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both as (frames, height, width)."""
    ours, truth = np.asarray(predicted), np.asarray(true)
    if ours.shape != truth.shape or ours.ndim < 2:
        raise MaskShapeError("The shapes of the masks", ours.shape, truth.shape)
    return ours.reshape(-1, *ours.shape[-2:]), truth.reshape(-1, *truth.shape[-2:])


def _as_mask(mask: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    if array.ndim != 2 or 0 in array.shape:
        raise MaskError(f"A mask of the shape {array.shape} is none: give (height, width), each at least 1.")
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise MaskError(f"A mask holds values from {array.min()} to {array.max()}: give truth values, or 0 and 1.")
    return array.astype(bool)
