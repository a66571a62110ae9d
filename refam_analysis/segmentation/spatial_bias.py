"""The spatial bias: places that an expression names, as a smooth prior over a heatmap.

What the places are is found out in :mod:`refam_analysis.prompts.places`. Here they become one number a cell, by which
a heatmap is multiplied; nothing is read from a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from refam_analysis.errors import RefamError
from refam_analysis.prompts.places import Along, Place

DEFAULT_STRENGTH = 1.0
"""Of the spatial bias where it is switched on and nobody says how strong it is."""


class SpatialBiasError(RefamError, ValueError):
    """A strength or a shape that gives no spatial bias."""


def spatial_bias(places: Sequence[Place], shape: tuple[int, int], *, strength: float = 1.0) -> NDArray[np.float64]:
    """How well each cell of a grid agrees with the places that an expression names.

    With u the middle of a cell along an axis, in shares of the picture's side from 0 (left, top) to 1 (right, bottom),
    a place says of every axis that it names

        g(u) = exp(-(u - position)^2 / (2 spread^2)),

    the larger of g(u) and g(1 - u) where the position may be counted from either end. With G the product of g over all
    places and axes,

        bias = 1 - strength + strength * G.

    So the strength is the most that a cell can lose: at 0.5 a cell far from the place still counts half. A place is a
    hint, not a mask: people say "left" of what stands left of the other one.

    Args:
        places: from :func:`refam_analysis.prompts.places`; none of them means no bias.
        shape: (y, x), cells of the heatmap, each at least 1.
        strength: from 0 (ones everywhere) to 1.

    Returns:
        (y, x), in (0, 1], to be multiplied with a heatmap.

    Raises:
        SpatialBiasError: the strength is not in [0, 1], or the shape has no cells.

    Source: the switch SB of RefAM's ablation. The paper does not give its form; this one is ours.

    >>> from refam_analysis.prompts import places
    >>> spatial_bias(places("the dog on the left"), (1, 4)).round(2).tolist()
    [[0.97, 0.75, 0.46, 0.22]]
    >>> spatial_bias(places("the dog"), (1, 4)).tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """
    if not 0.0 <= strength <= 1.0:
        raise SpatialBiasError(f"strength={strength!r} must be a number from 0 (no bias) to 1.")
    if len(shape) != 2 or min(shape) < 1:
        raise SpatialBiasError(f"shape={shape!r} must be (y, x), each at least 1.")
    height, width = shape
    vertical, horizontal = np.ones(height), np.ones(width)
    for place in places:
        vertical *= _along(place.y, height)
        horizontal *= _along(place.x, width)
    agreement = np.outer(vertical, horizontal)
    # Very many places would underflow to nothing, and no cell is impossible.
    return np.maximum(1.0 - strength + strength * agreement, np.finfo(np.float64).tiny)


def _along(axis: Along | None, cells: int) -> NDArray[np.float64]:
    """The curve g of one axis at the middles of its cells."""
    if axis is None:
        return np.ones(cells)
    middles = (np.arange(cells) + 0.5) / cells
    distance = np.abs(middles - axis.position)
    if axis.either_end:
        distance = np.minimum(distance, np.abs(1.0 - middles - axis.position))
    return np.exp(-np.square(distance / axis.spread) / 2)
