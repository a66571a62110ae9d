"""Segmenters: models that turn a point in an image into masks.

What they all offer (`base`), the small one that ships (`embedded`), and how any segment-anything model is prompted
(`sam`). :func:`load_segmenter` finds one by name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from refam_analysis.errors import RefamError
from refam_analysis.segmentation.segmenters.base import NoImageError, Segmenter, SegmenterInputError

if TYPE_CHECKING:
    from refam_analysis.segmentation.segmenters.sam import SamSegmenter


class UnknownSegmenterError(RefamError, ValueError):
    """No segmenter goes by this name."""

    def __init__(self, source: object) -> None:
        names = ", ".join(map(repr, SEGMENTERS))
        super().__init__(
            f"There is no segmenter {str(source)!r}: give one of {names}, the folder of a small Sam, or an object with "
            f"set_image and predict."
        )


def load_segmenter(source: str | Path | Segmenter = "embedded") -> Segmenter:
    """Find a segmenter.

    Args:
        source: a name of :data:`SEGMENTERS`; a folder that ``python -m refam_analysis.training.sam`` wrote; or a
            segmenter, which is returned as it is.

    Raises:
        UnknownSegmenterError: no such name or folder, or an object without ``set_image`` and ``predict``.
        SegmenterFolderError: weights are missing or broken.
    """
    if isinstance(source, Segmenter):
        return source
    if isinstance(source, str) and source in SEGMENTERS:
        return SEGMENTERS[source]()
    if isinstance(source, (str, Path)) and Path(source).is_dir():
        return _small_sam(Path(source))
    raise UnknownSegmenterError(source)


def _small_sam(folder: Path | None = None) -> SamSegmenter:
    from refam_analysis.segmentation.segmenters.embedded import load_embedded_sam
    from refam_analysis.segmentation.segmenters.sam import SamSegmenter

    return SamSegmenter(load_embedded_sam(folder))


SEGMENTERS: dict[str, Callable[[], Segmenter]] = {"embedded": _small_sam}
"""What makes each named segmenter. segment-anything is imported only when one is asked for."""

__all__ = ["SEGMENTERS", "NoImageError", "Segmenter", "SegmenterInputError", "UnknownSegmenterError", "load_segmenter"]
