"""Measures of regions: intersection over union a mask, its mean, the cumulative one, precision, and J of DAVIS."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refam_analysis.evaluation.metrics.overlaps import (
    EMPTY_VALUE,
    EmptyRule,
    Masks,
    ious_of,
    mask_overlaps,
    pixel_counts,
    stacked_frames,
)

PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def mask_ious(predicted: Masks, true: Masks, *, empty: EmptyRule = "right") -> NDArray[np.float64]:
    """Intersection over union of each mask with its truth.

    Args:
        predicted: masks, each (height, width), bool or 0 and 1, or in COCO's run lengths; their sizes may differ from
            item to item.
        true: as many, of the same sizes.
        empty: what a pair of two empty masks counts: see :data:`EmptyRule`. NaN stands for "skip". A data set knows
            its benchmark's own rule (``ReferringDataset.empty``).

    Returns:
        (masks,), in [0, 1]. One empty mask of the two gives 0.

    Raises:
        MaskShapeError: the numbers or sizes differ.
        MaskError: a mask holds something else than truth values.

    >>> mask_ious([[[1, 1, 0]]], [[[0, 1, 1]]]).round(3).tolist()
    [0.333]
    """
    return ious_of(*mask_overlaps(predicted, true), empty=empty)


def mean_iou(predicted: Masks, true: Masks, *, empty: EmptyRule = "right") -> float:
    """Mean over items of intersection over union (mIoU): every item counts alike, however small its object.

    Args and errors are those of :func:`mask_ious`. No item at all, or none that is not skipped, gives NaN. With
    ``empty="right"`` this is gIoU of gRefCOCO.

    Args:
        predicted: masks, bool (height, width), one an item.
        true: masks of the same shapes.
        empty: what two empty masks count.

    Returns:
        In [0, 1]; NaN without any mask.

    >>> mean_iou([[[1, 1]], [[0, 1]]], [[[1, 1]], [[1, 0]]])
    0.5
    """
    return _mean(mask_ious(predicted, true, empty=empty))


def overall_iou(predicted: Masks, true: Masks) -> float:
    """Sum of all intersections over the sum of all unions (oIoU, cumulative IoU): large objects count more.

    Args and errors are those of :func:`mask_ious`; pairs of empty masks add nothing. NaN where all are empty.

    Args:
        predicted: masks, bool (height, width), one an item.
        true: masks of the same shapes.

    Returns:
        In [0, 1]; NaN where there is nothing in any mask.

    Source: the measure of the RefCOCO tables, from Hu et al., "Segmentation from Natural Language Expressions", 2016.

    >>> overall_iou([[[1, 1]], [[0, 1]]], [[[1, 1]], [[1, 0]]])
    0.5
    """
    intersections, unions = mask_overlaps(predicted, true)
    total = int(unions.sum())
    return float(intersections.sum() / total) if total else math.nan


def precision_at(
    predicted: Masks,
    true: Masks,
    thresholds: Sequence[float] = PRECISION_THRESHOLDS,
    *,
    empty: EmptyRule = "right",
) -> NDArray[np.float64]:
    """Share of items whose intersection over union reaches each threshold (P@0.5 to P@0.9).

    Args:
        predicted, true, empty: as for :func:`mask_ious`.
        thresholds: in [0, 1]; an IoU equal to one reaches it.

    Returns:
        (thresholds,), in [0, 1]; NaN without any item that is not skipped.

    Source: Hu et al., 2016; reached means "at least", as in the evaluation of LAVT (Yang et al., 2022).

    >>> precision_at([[[1, 1]], [[0, 1]]], [[[1, 1]], [[1, 1]]], (0.5, 0.9)).tolist()
    [1.0, 0.5]
    """
    ious = mask_ious(predicted, true, empty=empty)
    ious = ious[~np.isnan(ious)]
    if not len(ious):
        return np.full(len(thresholds), math.nan)
    return np.array([(ious >= threshold).mean() for threshold in thresholds], dtype=np.float64)


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
    ours, truth = stacked_frames(predicted, true)
    return _mean(ious_of(pixel_counts(ours & truth), pixel_counts(ours | truth), empty=empty))


def _mean(values: NDArray[np.float64]) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else EMPTY_VALUE["skip"]
