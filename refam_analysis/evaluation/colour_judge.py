"""What colour the object of a picture has: a judge of drawn pictures that knows the palette and nothing else.

It finds the object as what differs from a background, and names each of its pixels by the palette's nearest colour,
whatever the shading. A plain background is smooth and is fitted to the picture; a rich one has a texture, whose colours
are those of the picture's frame. It never sees the caption. How often it is right is measured on true
scenes (:mod:`refam_analysis.experiments.generation`), before it judges anything that a model drew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from refam_analysis.scenes import COLOURS
from refam_analysis.scenes.sampling import Style

Floats = NDArray[np.float64]

_BORDER = 5
"""Width in pixels of the frame that the background is first fitted to."""
_ROUNDS = 4
_LEAST_DIFFERENCE = 0.10
_SPREADS = 4.0
"""A pixel differs from the background by more than both: a distance in [0, 1] units of RGB, and so many spreads."""
_SHADE = (0.55, 1.30)
"""Range of light on one colour: of the objects' shading and stripes, and of shadows on the background."""
_LEAST_PIXELS = 25
_FRAME = 2
"""Width in pixels of the frame of a textured picture; no object of a true scene reaches into it."""
_SAMPLES = 256
"""At most so many pixels of that frame are compared with, at even distances."""
_TEXTURE_SHADE = (0.55, 1.05)
"""Range of light on a texture: shadows, and hardly anything lighter than its frame shows."""
_LEAST_FROM_TEXTURE = 0.07


@dataclass(frozen=True)
class ColourJudgement:
    """What the judge sees in a picture.

    Attributes:
        shares: of the object's pixels, by the name of the palette's colour; they sum to 1. All zero without object.
        mask: bool (height, width), the object; empty where there is none.
    """

    shares: dict[str, float]
    mask: NDArray[np.bool_]

    @property
    def colour(self) -> str | None:
        """The colour of most of the object's pixels; None where there is no object."""
        return max(self.shares, key=lambda name: self.shares[name]) if self.mask.any() else None

    @property
    def centre(self) -> tuple[float, float]:
        """Mean (x, y) of the object's pixels, in shares of the picture's sides; NaN where there is no object."""
        if not self.mask.any():
            return (np.nan, np.nan)
        rows, columns = self.mask.nonzero()
        height, width = self.mask.shape
        return float((columns.mean() + 0.5) / width), float((rows.mean() + 0.5) / height)


def judge_colour(image: NDArray[np.uint8], *, style: Style = "plain") -> ColourJudgement:
    """Find the object of a picture and the colours of its pixels.

    Args:
        image: uint8 (height, width, 3), RGB, at least 24 pixels a side: one object on a background.
        style: of the scenes: a smooth background, or one with a texture.

    Returns:
        Where the object lies, and what its colours are.

    >>> picture = np.full((48, 48, 3), 120, np.uint8)
    >>> picture[10:30, 15:35] = (214, 33, 38)
    >>> judge_colour(picture).colour
    'red'
    """
    pixels = np.asarray(image, dtype=np.float64) / 255.0
    mask = find_object(pixels, style=style)
    inner = ndimage.binary_erosion(mask)
    counted = inner if inner.sum() >= _LEAST_PIXELS else mask
    names = list(COLOURS)
    nearest = np.bincount(nearest_colours(pixels[counted]), minlength=len(names))
    shares = nearest / max(1, nearest.sum())
    return ColourJudgement(dict(zip(names, shares.tolist(), strict=True)), mask)


def find_object(pixels: Floats, *, style: Style = "plain") -> NDArray[np.bool_]:
    """The largest connected region that is neither the background nor its shadow.

    Args:
        pixels: (height, width, 3), RGB in [0, 1].
        style: of the scenes.

    Returns:
        Bool (height, width); empty where no region has 25 pixels.
    """
    differs = _differs_from_frame(pixels) if style == "rich" else _differs(pixels, fit_background(pixels))
    labels, number = ndimage.label(ndimage.binary_opening(differs))
    sizes = np.bincount(labels.ravel(), minlength=number + 1)
    sizes[0] = 0
    if sizes.max() < _LEAST_PIXELS:
        return np.zeros(differs.shape, dtype=bool)
    return np.asarray(labels == sizes.argmax())


def fit_background(pixels: Floats) -> Floats:
    """A smooth background: a polynomial of degree 3 in x and y for each channel.

    It is fitted to the picture's frame first, then, a few times, to every pixel that is like the last fit, so that an
    object which reaches into the frame does not count.

    Args:
        pixels: (height, width, 3), RGB in [0, 1].

    Returns:
        The same shape.
    """
    height, width, _ = pixels.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([x**i * y**j for i in range(4) for j in range(4 - i)], axis=-1).reshape(height * width, -1)
    flat = pixels.reshape(-1, 3)
    frame = np.ones((height, width), dtype=bool)
    frame[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    used = frame.ravel()
    middle = np.median(flat[used], axis=0)
    used = used & (np.linalg.norm(flat - middle, axis=1) < 3 * _LEAST_DIFFERENCE)
    for attempt in range(_ROUNDS):
        # Few terms while little is known: the frame alone says nothing of the middle's curvature.
        kept = terms[:, [0, 1, 4]] if attempt == 0 else terms
        weights, *_ = np.linalg.lstsq(kept[used], flat[used], rcond=None)
        fit = kept @ weights
        alike = np.linalg.norm(flat - fit, axis=1) < 1.5 * _LEAST_DIFFERENCE
        used = alike if alike.sum() > 0.2 * len(flat) else used
    return np.asarray(fit.reshape(pixels.shape))


def nearest_colours(pixels: Floats) -> NDArray[np.intp]:
    """The palette's colour that comes nearest to each pixel under some light.

    Args:
        pixels: (..., 3), RGB in [0, 1].

    Returns:
        (...,): index into the palette's names.

    >>> [list(COLOURS)[i] for i in nearest_colours(np.array([[0.6, 0.1, 0.1], [0.8, 0.8, 0.8]]))]
    ['red', 'white']
    """
    palette = np.array(list(COLOURS.values()))
    light = (pixels @ palette.T) / np.square(palette).sum(axis=1)
    lit = np.clip(light, *_SHADE)[..., None] * palette
    return np.asarray(np.linalg.norm(pixels[..., None, :] - lit, axis=-1).argmin(axis=-1))


def _differs(pixels: Floats, background: Floats) -> NDArray[np.bool_]:
    """Whether a pixel is no shade of the background behind it."""
    light = (pixels * background).sum(axis=-1) / np.maximum(np.square(background).sum(axis=-1), 1e-6)
    residual = np.linalg.norm(pixels - np.clip(light, *_SHADE)[..., None] * background, axis=-1)
    spread = 1.4826 * np.median(residual)
    return np.asarray(residual > max(_LEAST_DIFFERENCE, _SPREADS * spread))


def _differs_from_frame(pixels: Floats) -> NDArray[np.bool_]:
    """Whether a pixel is no shade of any colour that the picture's frame shows."""
    inside = (slice(_FRAME, -_FRAME), slice(_FRAME, -_FRAME))
    around = np.ones(pixels.shape[:2], dtype=bool)
    around[inside] = False
    frame = pixels[around]
    frame = frame[:: max(1, -(-len(frame) // _SAMPLES))].astype(np.float32)
    flat = pixels.reshape(-1, 3).astype(np.float32)
    products, squares = flat @ frame.T, np.maximum(np.square(frame).sum(axis=1), np.float32(1e-6))
    light = np.clip(products / squares, *_TEXTURE_SHADE)
    distances = np.square(flat).sum(axis=1) + ((light * squares - 2 * products) * light).min(axis=1)
    return np.asarray(distances > _LEAST_FROM_TEXTURE**2).reshape(pixels.shape[:2])
