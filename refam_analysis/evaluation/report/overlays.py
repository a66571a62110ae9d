"""Pictures of answers: the predicted mask tinted, the true one outlined, the point marked. Arrays in, arrays out."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from refam_analysis.evaluation.metrics import outline

PREDICTED, TRUE = (0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)
"""Vermilion and blue of Okabe and Ito, as in the figures: told apart with any common colour deficiency."""

SIDE = 320
"""Longest side of a picture in the gallery, in pixels."""


def draw_answer(
    image: NDArray[np.uint8],
    *,
    predicted: NDArray[np.bool_] | None,
    true: NDArray[np.bool_] | None,
    point: tuple[float, float] | None = None,
    side: int = SIDE,
) -> NDArray[np.uint8]:
    """One answer over its picture.

    Args:
        image: uint8 (height, width, 3).
        predicted: bool (height, width): tinted and outlined in vermilion, with a white rim; None for none.
        true: the same, outlined in blue.
        point: (x, y) in pixels of the image.
        side: the longest side of what is drawn. Small pictures are enlarged by whole pixels.

    Returns:
        uint8 (height, width, 3).

    >>> draw_answer(np.zeros((4, 8, 3), np.uint8), predicted=None, true=None, side=32).shape
    (16, 32, 3)
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    scale = float(math.floor(scale)) if scale >= 1 else scale
    size = max(1, round(width * scale)), max(1, round(height * scale))
    resample = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    canvas = np.asarray(Image.fromarray(image).resize(size, resample)).astype(np.float64)
    for mask, colour, tint in ((predicted, PREDICTED, 0.45), (true, TRUE, 0.0)):
        if mask is None or not mask.any():
            continue
        shown = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), dtype=bool)
        canvas[shown] = (1 - tint) * canvas[shown] + tint * np.array(colour)
        line = _thick(outline(shown))
        canvas[_thick(line)] = 255
        canvas[line] = colour
    picture = Image.fromarray(canvas.round().astype(np.uint8))
    if point is not None:
        x, y = ((value + 0.5) * scale for value in point)
        drawing = ImageDraw.Draw(picture)
        drawing.ellipse((x - 5, y - 5, x + 5, y + 5), fill=(20, 20, 20))
        drawing.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(255, 255, 255))
    return np.asarray(picture)


def data_address(picture: NDArray[np.uint8], *, quality: int = 85) -> str:
    """A picture as an address that holds it, JPEG.

    >>> data_address(np.zeros((2, 2, 3), np.uint8))[:23]
    'data:image/jpeg;base64,'
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _thick(line: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A pixel wider to the right and below."""
    thick = line.copy()
    thick[1:] |= line[:-1]
    thick[:, 1:] |= line[:, :-1]
    return thick
