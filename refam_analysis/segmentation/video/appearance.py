"""What an object looks like in a frame, and where else that is seen: colours against their surroundings, an outline.

Nothing here knows of a segmenter; how the answers are used to follow an object is in `reprompting`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_BINS = 16
"""Of each of the three colours, 16 values each: fine enough for shading to stay within a few, blurred over one more."""
_BLUR = 1.0
_UNSEEN = 1e-4
"""Share that a colour has in the surroundings at least, so that what was never seen is not taken for the object's."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Colours:
    """How likely a pixel of each colour belongs to an object.

    Attributes:
        table: float32 (16, 16, 16), in [0, 1], by red, green and blue.
    """

    table: NDArray[np.float32]

    @classmethod
    def learn(cls, frame: NDArray[np.uint8], mask: Mask) -> Colours:
        """From a frame in which the object is marked.

        Args:
            frame: uint8 (height, width, 3), RGB.
            mask: bool (height, width), not empty.
        """
        inside, outside = _histogram(frame[mask]), _histogram(frame[~mask])
        return cls((inside / (inside + np.maximum(outside, _UNSEEN))).astype(np.float32))

    def likelihood(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(height, width): for each pixel of a frame, in [0, 1].

        >>> red, blue = np.uint8([220, 0, 0]), np.uint8([0, 0, 220])
        >>> frame = np.stack([np.tile(red, (8, 1)), np.tile(blue, (8, 1))])
        >>> colours = Colours.learn(frame, np.array([[True] * 8, [False] * 8]))
        >>> colours.likelihood(frame).mean(axis=1).round(2).tolist()
        [1.0, 0.0]
        """
        cell = frame // (256 // _BINS)
        found: NDArray[np.float32] = self.table[cell[..., 0], cell[..., 1], cell[..., 2]]
        return found


def deepest(region: Mask) -> tuple[int, int]:
    """Row and column of the pixel farthest from the edge of a region; the frame's edge counts as one.

    >>> deepest(np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0]], bool))
    (2, 2)
    """
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), region.shape)
    return int(row), int(column)


def pieces(region: Mask, *, least: float, most: int) -> list[Mask]:
    """The connected pieces of a region, the largest first.

    Args:
        region: bool (height, width).
        least: pixels; smaller pieces are left out.
        most: how many at most.
    """
    labels, number = ndimage.label(region)
    if not number:
        return []
    sizes = np.bincount(labels.ravel())[1:]
    order = [index for index in np.argsort(-sizes, kind="stable") if sizes[index] >= least]
    return [labels == index + 1 for index in order[:most]]


def overlap(one: Mask, other: Mask) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def centre(mask: Mask) -> NDArray[np.float64]:
    """(2,): x and y of the centre of mass of a mask that is not empty."""
    rows, columns = mask.nonzero()
    return np.array([columns.mean(), rows.mean()])


def shifted(mask: Mask, by: NDArray[np.float64]) -> Mask:
    """A mask moved by whole pixels; what leaves the frame is gone.

    Args:
        mask: bool (height, width).
        by: (2,): in x and y, rounded.

    >>> shifted(np.array([[1, 0, 1]], bool), np.array([1.0, 0.0])).astype(int).tolist()
    [[0, 1, 0]]
    """
    dx, dy = (math.floor(value + 0.5) for value in by)
    height, width = mask.shape
    moved = np.zeros_like(mask)
    if abs(dx) < width and abs(dy) < height:
        target = moved[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
        target[:] = mask[max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
    return moved


def same_outline(one: Mask, other: Mask) -> float:
    """Intersection over union of two masks when the second is moved so that their centres meet; 0 for an empty one."""
    if not one.any() or not other.any():
        return 0.0
    return overlap(one, shifted(other, centre(one) - centre(other)))


def _histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Shares of the colours among pixels (pixel, 3), blurred over neighbouring cells."""
    cell = (pixels // (256 // _BINS)).astype(np.intp)
    flat = (cell[:, 0] * _BINS + cell[:, 1]) * _BINS + cell[:, 2]
    counts = np.bincount(flat, minlength=_BINS**3).reshape((_BINS,) * 3)
    shares: NDArray[np.float64] = ndimage.gaussian_filter(counts / max(len(pixels), 1), _BLUR)
    return shares
