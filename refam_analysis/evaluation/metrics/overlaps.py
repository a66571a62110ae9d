"""Pixels that a mask shares with its truth: what every measure of regions is made of, and the checks of masks.

Masks of one size are counted together, eight pixels a byte; two masks in COCO's run lengths are never decoded.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.evaluation.datasets.rle import Rle

EmptyRule = Literal["right", "wrong", "skip"]
"""What an empty prediction for an empty truth is worth: 1 ("right"), 0 ("wrong"), or nothing at all ("skip")."""

Masks = Sequence["ArrayLike | Rle"] | NDArray[Any]
"""Masks of any sizes: each an array (height, width), or COCO's run lengths (size and counts)."""

EMPTY_VALUE: dict[EmptyRule, float] = {"right": 1.0, "wrong": 0.0, "skip": math.nan}
_PIXELS = 1 << 22  # at most so many of one size are counted at once: 4 MB


class MaskError(RefamError, ValueError):
    """Masks that cannot be compared."""


class MaskShapeError(MaskError):
    """A predicted mask and its truth, or their numbers, differ in size."""

    def __init__(self, what: str, predicted: object, true: object) -> None:
        super().__init__(f"{what} differ: {predicted} predicted, {true} true. Bring both to the image's size first.")


def mask_overlaps(predicted: Masks, true: Masks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels in both masks and in either, one number an item.

    Args:
        predicted: masks, each (height, width), bool or 0 and 1, or in COCO's run lengths; their sizes may differ from
            item to item. Where a mask and its truth are both in run lengths, they are counted as such.
        true: as many, of the same sizes.

    Returns:
        Intersections (masks,) and unions (masks,), in pixels.

    Raises:
        MaskShapeError: the numbers or sizes differ.
        MaskError: a mask holds something else than truth values.
        BadMaskError: run lengths make up no mask.

    >>> mask_overlaps([[[1, 1, 0]]], [[[0, 1, 1]]])
    (array([1]), array([3]))
    """
    if len(predicted) != len(true):
        raise MaskShapeError("The numbers of masks", len(predicted), len(true))
    counts = np.zeros((len(predicted), 2), dtype=np.int64)
    arrays: dict[tuple[int, ...], list[_Pair]] = defaultdict(list)
    for index, (ours, truth) in enumerate(zip(predicted, true, strict=True)):
        if isinstance(ours, Mapping) and isinstance(truth, Mapping):
            counts[index] = _run_length_overlap(ours, truth)
            continue
        pair = _Pair(index, as_mask(ours), as_mask(truth))
        if pair.predicted.shape != pair.true.shape:
            raise MaskShapeError("The sizes of a mask and its truth", pair.predicted.shape, pair.true.shape)
        arrays[pair.true.shape].append(pair)
    for pairs in arrays.values():
        for part in _parts(pairs):
            first = np.packbits(_flat([pair.predicted for pair in part]), axis=1)
            second = np.packbits(_flat([pair.true for pair in part]), axis=1)
            places = [pair.place for pair in part]
            counts[places, 0] = np.bitwise_count(first & second).sum(axis=1)
            counts[places, 1] = np.bitwise_count(first | second).sum(axis=1)
    return counts[:, 0], counts[:, 1]


def ious_of(intersections: ArrayLike, unions: ArrayLike, *, empty: EmptyRule = "right") -> NDArray[np.float64]:
    """Intersection over union from counted pixels.

    Args:
        intersections: (items,), in pixels.
        unions: (items,); 0 where both masks are empty.
        empty: what such an item counts: see :data:`EmptyRule`. NaN stands for "skip".

    Returns:
        (items,), in [0, 1].

    >>> ious_of([1, 0], [4, 0], empty="wrong").tolist()
    [0.25, 0.0]
    """
    either = np.asarray(unions, dtype=np.float64)
    both = np.asarray(intersections, dtype=np.float64)
    return np.divide(both, either, out=np.full(len(either), EMPTY_VALUE[empty]), where=either > 0)


def pixel_counts(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many pixels of each mask are set.

    Args:
        masks: (masks, height, width).

    >>> pixel_counts(np.ones((2, 3, 3), bool)).tolist()
    [9, 9]
    """
    return np.bitwise_count(np.packbits(masks.reshape(len(masks), -1), axis=1)).sum(axis=1, dtype=np.int64)


def as_mask(mask: ArrayLike | Rle) -> NDArray[np.bool_]:
    """One mask as an array of truth values, (height, width).

    Raises:
        MaskError: it is not of two axes, or holds something else than truth values.
        BadMaskError: run lengths make up no mask.
    """
    if isinstance(mask, Mapping):
        from refam_analysis.evaluation.datasets.rle import decode_mask  # here, since the data sets import this file

        return decode_mask(mask)
    array = np.asarray(mask)
    if array.ndim != 2 or 0 in array.shape:
        raise MaskError(f"A mask of the shape {array.shape} is none: give (height, width), each at least 1.")
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise MaskError(f"A mask holds values from {array.min()} to {array.max()}: give truth values, or 0 and 1.")
    return array.astype(bool, copy=False)


def stacked_frames(predicted: ArrayLike, true: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both as bool (frames, height, width).

    Args:
        predicted: (..., height, width); leading axes are frames.
        true: the same shape.

    Raises:
        MaskShapeError: the shapes differ, or have fewer than two axes.
        MaskError: a mask holds something else than truth values.
    """
    ours, truth = np.asarray(predicted), np.asarray(true)
    if ours.shape != truth.shape or ours.ndim < 2:
        raise MaskShapeError("The shapes of the masks", ours.shape, truth.shape)
    height, width = ours.shape[-2:]
    tall = (as_mask(masks.reshape(-1, width)) if masks.size else masks.astype(bool) for masks in (ours, truth))
    first, second = (masks.reshape(-1, height, width) for masks in tall)
    return first, second


def _run_length_overlap(predicted: Any, true: Any) -> tuple[int, int]:
    from pycocotools import mask as coco

    if list(predicted["size"]) != list(true["size"]):
        raise MaskShapeError("The sizes of a mask and its truth", tuple(predicted["size"]), tuple(true["size"]))
    from refam_analysis.evaluation.datasets.rle import checked_rle

    pair = [dict(checked_rle(rle)) for rle in (predicted, true)]
    both = int(coco.area(coco.merge(pair, intersect=True)))
    return both, int(coco.area(pair[0])) + int(coco.area(pair[1])) - both


class _Pair(NamedTuple):
    """A mask and its truth, with their place among the pairs."""

    place: int
    predicted: NDArray[np.bool_]
    true: NDArray[np.bool_]


def _parts(pairs: Sequence[_Pair]) -> Iterator[Sequence[_Pair]]:
    step = max(1, _PIXELS // pairs[0].true.size)
    for start in range(0, len(pairs), step):
        yield pairs[start : start + step]


def _flat(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """(masks, pixels), without a copy where there is one mask."""
    return masks[0].reshape(1, -1) if len(masks) == 1 else np.stack(masks).reshape(len(masks), -1)
