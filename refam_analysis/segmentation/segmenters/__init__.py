"""Segmenters: models that turn a point in an image into masks.

What they all offer (`base`), the small one that ships (`embedded`), and how any segment-anything model is prompted
(`sam`). :func:`load_segmenter` finds one by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from refam_analysis.errors import RefamError
from refam_analysis.segmentation.segmenters.base import NoImageError, Segmenter, SegmenterInputError

if TYPE_CHECKING:
    from refam_analysis.segmentation.segmenters.sam import SamSegmenter


class UnknownSegmenterError(RefamError, ValueError):
    """No segmenter goes by this name."""

    def __init__(self, name: object) -> None:
        super().__init__(
            f"There is no segmenter {name!r}: give one of {', '.join(map(repr, SEGMENTERS))}, "
            f"or an object with set_image and predict."
        )


def load_segmenter(source: str | Segmenter = "embedded") -> Segmenter:
    """Find a segmenter.

    Args:
        source: a name of :data:`SEGMENTERS`, or a segmenter, which is returned as it is.

    Raises:
        UnknownSegmenterError: no such name, or an object without ``set_image`` and ``predict``.
        SegmenterFolderError: the embedded weights are missing or broken.
    """
    if isinstance(source, str) and source in SEGMENTERS:
        return SEGMENTERS[source]()
    if isinstance(source, str) or not isinstance(source, Segmenter):
        raise UnknownSegmenterError(source)
    return source


def _embedded() -> SamSegmenter:
    from refam_analysis.segmentation.segmenters.embedded import load_embedded_sam
    from refam_analysis.segmentation.segmenters.sam import SamSegmenter

    return SamSegmenter(load_embedded_sam())


SEGMENTERS: dict[str, Callable[[], Segmenter]] = {"embedded": _embedded}
"""What makes each named segmenter. segment-anything is imported only when one is asked for."""

__all__ = ["SEGMENTERS", "NoImageError", "Segmenter", "SegmenterInputError", "UnknownSegmenterError", "load_segmenter"]
