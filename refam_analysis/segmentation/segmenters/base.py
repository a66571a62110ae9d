"""What every segmenter offers, and nothing of how it does it."""

from __future__ import annotations

import hashlib
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refam_analysis.errors import RefamError


class NoImageError(RefamError, RuntimeError):
    """A segmenter was asked about points before it was given an image."""

    def __init__(self) -> None:
        super().__init__("No image is set: call set_image(image) first, then predict(points) as often as you like.")


class SegmenterInputError(RefamError, ValueError):
    """An image or points of a form that no segmenter takes."""


@runtime_checkable
class Segmenter(Protocol):
    """A model that turns points into masks: ``set_image`` pays once, ``predict`` is cheap."""

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Encode the image that the next points are about. To set the same image again costs next to nothing.

        Args:
            image: uint8 (height, width, 3), RGB.
        """

    def predict(self, points: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Masks of the objects under points of the image.

        Args:
            points: (points, 2), x and y in pixels of the image, whole numbers in the middles of pixels. Each point is
                a question of its own, answered independently of the others.

        Returns:
            masks, bool (points, candidates, height, width), and scores (points, candidates): the model's own guess of
            each candidate's IoU with the object.
        """


def check_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image, if it is uint8 (height, width, 3); otherwise a SegmenterInputError.

    >>> check_image(np.zeros((2, 3, 3), np.uint8)).shape
    (2, 3, 3)
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise SegmenterInputError(
            f"A segmenter takes uint8 images of the shape (height, width, 3), RGB; this one is "
            f"{array.dtype} {array.shape}. load_image(...) brings a picture into that form."
        )
    return array


def image_key(image: NDArray[np.uint8]) -> bytes:
    """A sum over size and pixels: images with the same one are encoded alike.

    >>> image_key(np.zeros((2, 3, 3), np.uint8)) == image_key(np.zeros((3, 2, 3), np.uint8))
    False
    """
    summed = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    summed.update(np.ascontiguousarray(image).data)
    return summed.digest()


def check_points(points: ArrayLike, size: tuple[int, int]) -> NDArray[np.float64]:
    """The points as float (points, 2), if they lie in an image of (height, width); otherwise a SegmenterInputError.

    >>> check_points([(0, 1)], size=(2, 1)).tolist()
    [[0.0, 1.0]]
    """
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise SegmenterInputError(f"Points are rows of (x, y), so their shape is (points, 2); given {array.shape}.")
    height, width = size
    inside = (array >= -0.5) & (array <= np.array([width - 0.5, height - 0.5]))
    if not inside.all():
        bad = tuple(array[~inside.all(axis=1)][0].tolist())
        raise SegmenterInputError(f"The point {bad} lies outside the image of {width} x {height} pixels (x, y).")
    return array
