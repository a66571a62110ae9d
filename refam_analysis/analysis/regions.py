"""Target, distractors and background among the image tokens, from the masks of a scene.

A token is coarse, and an object may cover a part of it. For accounts of mass every token is shared out by its pixels
(:func:`region_shares`), so that nothing depends on a threshold and small objects do not vanish. Where a token has to be
one or the other, the pixel in its middle decides (:func:`tokens_on`), as it does for points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from refam_analysis.analysis.localisation import MaskError, token_of_each_pixel

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

REGIONS: tuple[str, ...] = ("target", "distractors", "background")
"""The parts of the picture, in the order of every table."""


def region_shares(target: ArrayLike, distractors: Iterable[ArrayLike], grid: Sequence[int]) -> xr.DataArray:
    """Which share of each image token's pixels lies on the target, on another object, and on nothing.

    Where masks overlap, the target counts first.

    Args:
        target: bool (height, width), or (frame, height, width): the object that the sentence means.
        distractors: the masks of the other objects, of the same shape; may be empty.
        grid: image tokens along the same axes, such as ``recording.layout.grid``. A token finer than a pixel takes
            the pixel that its middle lies in.

    Returns:
        Axes (region, y, x), with ``frame`` before y for a clip; ``region`` as in :data:`REGIONS`; sums to 1 over them.

    Raises:
        MaskError: an empty target, masks of several shapes, or of other axes than the grid.

    >>> region_shares([[True, True, False, False]], [[[False, False, True, False]]], (1, 2)).values[:, 0].tolist()
    [[1.0, 0.0], [0.0, 0.5], [0.0, 0.5]]
    """
    meant = np.asarray(target, dtype=bool)
    others = [np.asarray(mask, dtype=bool) for mask in distractors]
    _check(meant, others, grid)
    other = np.logical_or.reduce([np.zeros_like(meant), *others]) & ~meant
    parts = np.stack([_covered_share(mask, grid) for mask in (meant, other, ~(meant | other))])
    axes = ("frame", "y", "x")[-meant.ndim :]
    return xr.DataArray(parts, dims=("region", *axes), coords={"region": list(REGIONS)})


def tokens_on(mask: ArrayLike, grid: Sequence[int]) -> Bools:
    """Which image tokens have the pixel in their middle on a mask.

    Args:
        mask: bool, (height, width) or (frame, height, width).
        grid: image tokens along the same axes.

    Returns:
        bool, of the shape of the grid.

    Raises:
        MaskError: the mask has other axes than the grid.

    >>> tokens_on([[True, False], [True, False]], (1, 2)).tolist()
    [[True, False]]
    """
    truth = np.asarray(mask, dtype=bool)
    _check_axes(truth, grid)
    middles = [
        ((np.arange(tokens) + 0.5) * pixels / tokens).astype(int)
        for tokens, pixels in zip(grid, truth.shape, strict=True)
    ]
    chosen: Bools = truth[np.ix_(*middles)]
    return chosen


def _covered_share(mask: Bools, grid: Sequence[int]) -> Floats:
    """Of each token the share of its pixels that lie on the mask."""
    owner = token_of_each_pixel(mask.shape, grid)
    pixels = np.bincount(owner, minlength=int(np.prod(grid)))
    inside = np.bincount(owner[mask.ravel()], minlength=len(pixels))
    share = np.where(pixels > 0, inside / np.maximum(pixels, 1), tokens_on(mask, grid).ravel())
    return np.asarray(share, dtype=np.float64).reshape(tuple(grid))


def _check(target: Bools, distractors: Sequence[Bools], grid: Sequence[int]) -> None:
    _check_axes(target, grid)
    if not target.any():
        raise MaskError("The target's mask is empty: the object is not in the picture, so it has no region.")
    for mask in distractors:
        if mask.shape != target.shape:
            raise MaskError(
                f"The target's mask has the shape {target.shape}, a distractor's {mask.shape}: give masks of one "
                "picture."
            )


def _check_axes(mask: Bools, grid: Sequence[int]) -> None:
    if mask.ndim != len(grid):
        raise MaskError(
            f"The mask has the shape {mask.shape}, the grid of image tokens is {tuple(grid)}: give both (y, x) or both "
            "(frame, y, x)."
        )
