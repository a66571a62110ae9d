"""Contour accuracy F of DAVIS, and J&F: outlines that match within a small distance.

A disk is a stack of rows. So an outline is dilated by it with windows along each row, whose widths come from windows
half as long, and each window is laid on the rows above and below: no distance is computed, and the cost does not
depend on how many pixels the outline has.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refam_analysis.evaluation.metrics.overlaps import (
    EMPTY_VALUE,
    EmptyRule,
    as_mask,
    pixel_counts,
    stacked_frames,
)
from refam_analysis.evaluation.metrics.regions import region_similarity

TOLERANCE = 0.008
"""Of DAVIS, as a share of the diagonal: 8 pixels in a frame of 480 x 854."""

_PIXELS = 1 << 18  # frames are taken together up to here, so that what is worked on stays in the processor's cache


def contour_accuracies(
    predicted: ArrayLike, true: ArrayLike, *, tolerance: float = TOLERANCE, empty: EmptyRule = "right"
) -> NDArray[np.float64]:
    """Contour accuracy F of each frame: how well two outlines match within a small distance.

    The outline of a mask is the set of pixels that differ from their right, lower or lower right neighbour. With r
    the tolerance times the image's diagonal, rounded up, precision is the share of the predicted outline within r
    (Euclidean) of the true one, recall the reverse, and F = 2 P R / (P + R).

    Args:
        predicted: (..., height, width), bool or 0 and 1; leading axes are frames.
        true: the same shape.
        tolerance: share of the diagonal, if below 1; otherwise pixels.
        empty: what a frame counts in which neither mask has an outline; DAVIS counts it as right. An outline on one
            side only is 0. (A mask that fills the frame has no outline either: DAVIS sees none at the frame's edge.)

    Returns:
        (frames,), in [0, 1]; NaN for a frame that is skipped.

    Raises:
        MaskShapeError: the shapes differ.
        MaskError: a mask holds something else than truth values.

    Source: ``db_eval_boundary`` of the DAVIS 2017 evaluation; Perazzi et al., 2016.

    >>> contour_accuracies([[[0, 1, 0]], [[0, 0, 0]]], [[[0, 1, 0]], [[0, 0, 0]]], empty="wrong").tolist()
    [1.0, 0.0]
    """
    ours, truth = stacked_frames(predicted, true)
    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*truth.shape[1:]))
    step = max(1, _PIXELS // max(1, truth[0].size)) if len(truth) else 1
    parts = [_f(ours[i : i + step], truth[i : i + step], radius, empty) for i in range(0, len(truth), step)]
    return np.concatenate(parts) if parts else np.empty(0)


def contour_accuracy(
    predicted: ArrayLike, true: ArrayLike, *, tolerance: float = TOLERANCE, empty: EmptyRule = "right"
) -> float:
    """Contour accuracy F of DAVIS, averaged over the frames; arguments as for :func:`contour_accuracies`.

    Args:
        predicted: (..., height, width), bool or 0 and 1; leading axes are frames.
        true: the same shape.
        tolerance: share of the diagonal, if below 1; otherwise pixels.
        empty: what a frame without any outline counts.

    Returns:
        In [0, 1]; NaN where every frame is skipped.

    >>> contour_accuracy([[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    1.0
    """
    values = contour_accuracies(predicted, true, tolerance=tolerance, empty=empty)
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else math.nan


def region_and_contour(
    predicted: ArrayLike, true: ArrayLike, *, tolerance: float = TOLERANCE, empty: EmptyRule = "right"
) -> float:
    """J&F of DAVIS: the mean of region similarity and contour accuracy; arguments as for :func:`contour_accuracies`.

    Args:
        predicted: (..., height, width), bool or 0 and 1; leading axes are frames.
        true: the same shape.
        tolerance: share of the diagonal, if below 1; otherwise pixels.
        empty: what a frame counts in which both masks are empty, or have no outline.

    Returns:
        In [0, 1]; NaN where every frame is skipped.

    >>> region_and_contour([[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    1.0
    """
    region = region_similarity(predicted, true, empty=empty)
    return (region + contour_accuracy(predicted, true, tolerance=tolerance, empty=empty)) / 2


def outline(mask: ArrayLike) -> NDArray[np.bool_]:
    """The outline of a mask as DAVIS draws it: pixels unlike their right, lower or lower right neighbour.

    >>> outline([[0, 0, 0], [0, 1, 0], [0, 0, 0]]).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    return _outlines(as_mask(mask))


def _f(predicted: NDArray[np.bool_], true: NDArray[np.bool_], radius: float, empty: EmptyRule) -> NDArray[np.float64]:
    ours, truth = _cropped(_outlines(predicted), _outlines(true))
    ours_size, truth_size = pixel_counts(ours), pixel_counts(truth)
    both, either = (ours_size > 0) & (truth_size > 0), (ours_size > 0) | (truth_size > 0)
    near_ours = pixel_counts(ours & _dilated(truth, radius)) / np.maximum(ours_size, 1)
    near_truth = pixel_counts(truth & _dilated(ours, radius)) / np.maximum(truth_size, 1)
    total = near_ours + near_truth
    f = np.divide(2 * near_ours * near_truth, total, out=np.zeros(len(total)), where=both & (total > 0))
    return np.where(either, f, EMPTY_VALUE[empty])


def _outlines(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    drawn = np.zeros_like(masks)
    drawn[..., :-1] = masks[..., :-1] ^ masks[..., 1:]
    drawn[..., :-1, :] |= masks[..., :-1, :] ^ masks[..., 1:, :]
    drawn[..., :-1, :-1] |= masks[..., :-1, :-1] ^ masks[..., 1:, 1:]
    return drawn


def _cropped(ours: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both without the margin in which no frame has an outline: nothing is looked up there."""
    any_frame = np.any(ours | truth, axis=0)
    rows, columns = (np.flatnonzero(np.any(any_frame, axis=axis)) for axis in (1, 0))
    if not len(rows):
        return ours[:, :1, :1], truth[:, :1, :1]
    box = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return ours[box], truth[box]


def _dilated(pixels: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Every pixel within ``radius`` (Euclidean) of a pixel that is set; (frames, height, width)."""
    frames, height, width = pixels.shape
    reach = math.floor(radius)
    wide = np.zeros((frames, height, width + 2 * reach), dtype=bool)
    wide[..., reach : reach + width] = pixels
    windows = [wide]  # windows[k][x]: whether one of the 2^k pixels from x on is set
    while 2 ** len(windows) <= 2 * reach + 1:
        half = 2 ** (len(windows) - 1)
        windows.append(windows[-1][..., :-half] | windows[-1][..., half:])
    near = np.zeros_like(pixels)
    for distance in range(min(reach, height - 1) + 1):
        side = math.floor(math.sqrt(radius * radius - distance * distance))
        k = (2 * side + 1).bit_length() - 1
        first, last = reach - side, reach + side + 1 - 2**k
        row = windows[k][..., first : first + width] | windows[k][..., last : last + width]
        near[:, distance:] |= row[:, : height - distance]
        near[:, : height - distance] |= row[:, distance:]
    return near
