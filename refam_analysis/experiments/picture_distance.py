"""How far apart two pictures of the same size are: pixel by pixel, and in structure.

Both distances are 0 for equal pictures. Neither knows what is in them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from refam_analysis.errors import RefamError

Floats = NDArray[np.float64]

_WINDOW = {"sigma": 1.5, "truncate": 3.5}  # 11 x 11, as published
_C1, _C2 = 0.01**2, 0.03**2


class PictureSizeError(RefamError, ValueError):
    """Two pictures that differ in size, or are none."""

    def __init__(self, one: tuple[int, ...], other: tuple[int, ...]) -> None:
        super().__init__(
            f"Pictures of the shapes {one} and {other} have no distance: give both as (height, width, channel), or "
            "both as (frame, height, width, channel), of the same size."
        )


def root_mean_square(one: ArrayLike, other: ArrayLike) -> float:
    """Root mean square difference over pixels and channels.

    Args:
        one: uint8 (height, width, channel), of a clip with ``frame`` before.
        other: the same shape.

    Returns:
        In [0, 1]: 0 for equal pictures, 1 for black against white.

    Raises:
        PictureSizeError: the shapes differ.

    >>> round(root_mean_square([[[0], [255]]], [[[0], [0]]]), 4)
    0.7071
    """
    first, second = _pair(one, other)
    return float(np.sqrt(np.mean((first - second) ** 2)))


def structural_dissimilarity(one: ArrayLike, other: ArrayLike) -> float:
    """1 minus the structural similarity (SSIM) of two pictures.

    With local means mu, variances s^2 and covariance s_xy in a Gaussian window (standard deviation 1.5 pixels, 11 x
    11), for values in [0, 1],

        SSIM = (2 mu_x mu_y + 0.01^2) (2 s_xy + 0.03^2) / ((mu_x^2 + mu_y^2 + 0.01^2) (s_x^2 + s_y^2 + 0.03^2))

    averaged over pixels, channels and frames; pictures are mirrored at their edges.

    Args:
        one: uint8 (height, width, channel), of a clip with ``frame`` before.
        other: the same shape.

    Returns:
        In [0, 2]: 0 for equal pictures, about 1 for unrelated ones.

    Raises:
        PictureSizeError: the shapes differ.

    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004.

    >>> structural_dissimilarity([[[9], [200]]], [[[9], [200]]])
    0.0
    """
    first, second = _pair(one, other)
    mean_one, mean_other = _local_mean(first), _local_mean(second)
    variance = _local_mean(first**2) - mean_one**2 + _local_mean(second**2) - mean_other**2
    covariance = _local_mean(first * second) - mean_one * mean_other
    luminance = (2 * mean_one * mean_other + _C1) / (mean_one**2 + mean_other**2 + _C1)
    return float(1.0 - np.mean(luminance * (2 * covariance + _C2) / (variance + _C2)))


def _pair(one: ArrayLike, other: ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(one), np.asarray(other)
    if first.shape != second.shape or first.ndim not in (3, 4):
        raise PictureSizeError(first.shape, second.shape)
    return first.astype(np.float64) / 255.0, second.astype(np.float64) / 255.0


def _local_mean(values: Floats) -> Floats:
    """Along height and width alone."""
    smoothed: Floats = gaussian_filter(values, axes=(-3, -2), mode="reflect", **_WINDOW)
    return smoothed
