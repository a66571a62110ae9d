"""Masks as COCO stores them: run lengths down the columns, and polygons; to and from arrays.

pycocotools draws polygons, compresses and merges. It trusts what it is given (run lengths that do not add up to the
picture decode to whatever was in memory), so run lengths are read and counted here before it sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco

from refam_analysis.errors import RefamError


class Rle(TypedDict):
    """A mask in COCO's run-length encoding.

    Attributes:
        size: height and width in pixels.
        counts: lengths of the runs, 0 first, down the columns; COCO's compressed string.
    """

    size: list[int]
    counts: bytes | str


class BadMaskError(RefamError, ValueError):
    """Run lengths or polygons that are no mask."""


def encode_mask(mask: ArrayLike) -> Rle:
    """Encode a mask.

    Args:
        mask: (height, width), bool or 0 and 1.

    Returns:
        Its run lengths, counts as bytes.

    >>> encode_mask([[0, 1], [0, 1]])
    {'size': [2, 2], 'counts': b'22'}
    """
    array = np.asarray(mask)
    if array.ndim != 2 or 0 in array.shape:
        raise BadMaskError(f"A mask of the shape {array.shape} is none: give (height, width), each at least 1.")
    encoded = coco.encode(np.asfortranarray(array.astype(bool), dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"]}


def decode_mask(rle: Rle) -> NDArray[np.bool_]:
    """Decode a mask.

    Args:
        rle: run lengths, compressed (bytes or str).

    Returns:
        bool (height, width).

    Raises:
        BadMaskError: the run lengths do not make up a mask of that size.

    >>> decode_mask({"size": [2, 2], "counts": "22"}).astype(int).tolist()
    [[0, 1], [0, 1]]
    """
    height, width = _checked_size(rle["size"])
    runs = _checked_runs(rle["counts"], height, width)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def mask_area(rle: Rle) -> int:
    """Number of pixels on the mask.

    >>> mask_area({"size": [2, 2], "counts": b"22"})
    2
    """
    return int(coco.area(_native(rle)))


def union(masks: Sequence[Rle]) -> Rle:
    """Every pixel that lies on one of the masks.

    Args:
        masks: at least one, all of one size.

    Raises:
        BadMaskError: sizes differ.
    """
    sizes = {tuple(mask["size"]) for mask in masks}
    if len(sizes) != 1:
        raise BadMaskError(f"masks of the sizes {sorted(sizes)} belong to one picture")
    merged = coco.merge([_native(mask) for mask in masks])
    return {"size": [int(side) for side in merged["size"]], "counts": merged["counts"]}


def from_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> Rle:
    """The union of polygons, as pycocotools draws them.

    Args:
        polygons: each x1, y1, x2, y2, ... in pixels; those of less than three corners enclose nothing.
        height: of the picture.
        width: of the picture.

    Raises:
        BadMaskError: a polygon is none, or lies far outside the picture (which would be of another size), or none
            encloses anything.

    >>> mask_area(from_polygons([[1, 1, 4, 1, 4, 3, 1, 3]], 5, 6))
    6
    """
    kept = []
    for polygon in polygons:
        try:
            corners = np.asarray(polygon, dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise BadMaskError(f"a polygon has corners that are no numbers ({error})") from error
        if corners.ndim != 1 or len(corners) % 2:
            raise BadMaskError(f"a polygon of the shape {corners.shape} is no list x1, y1, x2, y2, ...")
        x, y = corners[::2], corners[1::2]
        inside = (x >= -width) & (x <= 2 * width) & (y >= -height) & (y <= 2 * height)
        if not inside.all():
            raise BadMaskError(f"a polygon leaves the picture of {height} x {width} pixels (height x width) by far")
        # Two corners enclose nothing, and pycocotools would take their four numbers for a box.
        if len(corners) >= 6:
            kept.append(corners.tolist())
    if not kept:
        raise BadMaskError("its segmentation has no polygon of three corners or more")
    return union(coco.frPyObjects(kept, height, width))


def from_segmentation(segmentation: Any, height: int, width: int) -> Rle:
    """A mask from any of the ways in which COCO's ``instances.json`` writes a segmentation.

    Args:
        segmentation: a list of polygons; or a dictionary of size and counts, where counts are a list of numbers (as
            of crowds), or COCO's compressed string.
        height: of the picture.
        width: of the picture.

    Raises:
        BadMaskError: it is none of them, broken, or of another size than the picture.

    Source: "Data format" of the COCO web site, and ``annToRLE`` of pycocotools.

    >>> from_segmentation({"size": [2, 2], "counts": [2, 2]}, 2, 2)
    {'size': [2, 2], 'counts': b'22'}
    """
    if isinstance(segmentation, list):
        return from_polygons(segmentation, height, width)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise BadMaskError("its segmentation is neither a list of polygons nor run lengths with size and counts")
    if isinstance(segmentation["counts"], list):
        rle = _compressed(segmentation["counts"], segmentation["size"])
    else:
        rle = checked_rle(segmentation)
    if list(rle["size"]) != [height, width]:
        raise BadMaskError(
            f"the mask is {_by(rle['size'])} pixels, the picture {_by((height, width))} (height x width)"
        )
    return rle


def checked_rle(rle: Any) -> Rle:
    """The same run lengths, once they are found to add up to a mask of their size.

    Raises:
        BadMaskError: they do not, or are no run lengths.
    """
    height, width = _checked_size(rle["size"])
    _checked_runs(rle["counts"], height, width)
    return {"size": [height, width], "counts": rle["counts"]}


MAX_SIDE = 65_500
"""The largest side of a JPEG; more is taken for a broken file before memory is asked for."""


def _checked_size(size: Any) -> tuple[int, int]:
    sides = list(size) if isinstance(size, (list, tuple)) else []
    if len(sides) != 2 or not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        raise BadMaskError(f"the size of its mask is {size!r}, not height and width in pixels")
    return sides[0], sides[1]


def _checked_runs(counts: Any, height: int, width: int) -> NDArray[np.int64]:
    runs = _runs(counts)
    if runs.sum() != height * width:
        wanted = f"the size {_by((height, width))} makes {height * width}"
        raise BadMaskError(f"the run lengths of its mask add up to {runs.sum()} pixels, {wanted}")
    return runs


def _runs(counts: Any) -> NDArray[np.int64]:
    """Run lengths from COCO's string: groups of 5 bits, 32 marks that more follow, relative to the last run but one.

    Source: ``rleFrString`` of pycocotools.
    """
    if not isinstance(counts, (bytes, str)) or not counts:
        raise BadMaskError("the run lengths of its mask are missing, or not COCO's compressed string")
    text = counts.encode("latin-1", "replace") if isinstance(counts, str) else counts
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise BadMaskError("the run lengths of its mask are cut, or have letters that are none of COCO's")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 8:
        raise BadMaskError("a run length of its mask is beyond any picture")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shifts, starts)
    negative = (codes[ends] & 16) > 0
    runs[negative] -= np.int64(1) << (5 * lengths[negative])
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0:
        raise BadMaskError("a run length of its mask is negative")
    return runs


def _compressed(counts: list[Any], size: Any) -> Rle:
    height, width = _checked_size(size)
    if (
        not all(type(count) is int and 0 <= count <= height * width for count in counts)
        or sum(counts) != height * width
    ):
        raise BadMaskError(f"the run lengths of its mask do not add up to the size {_by((height, width))}")
    encoded = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": encoded["counts"]}


def _native(rle: Rle) -> dict[str, Any]:
    """As pycocotools' C code takes it: str works too, but not with every letter."""
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.encode("ascii") if isinstance(counts, str) else counts}


def _by(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"
