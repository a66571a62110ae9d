"""Masks and figures that commands write, and the check of their paths before the work starts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refam_analysis.cli.options import OutputError, written_output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from refam_analysis.segmentation import SegmentationResult


def check_picture_path(path: Path | None) -> None:
    """Refuse before the work starts what could not be written after it."""
    from PIL import Image

    if path is None:
        return
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise OutputError(path, "its ending names no picture format, such as .png")
    if path.is_dir():
        raise OutputError(path, "it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(path, f"its folder cannot be made ({error.strerror})") from error


def write_mask(mask: NDArray[np.bool_], path: Path) -> None:
    """Write a mask as a black and white picture."""
    from PIL import Image

    with written_output(path) as place:
        Image.fromarray(mask.astype("uint8") * 255).save(place, Image.registered_extensions()[path.suffix.lower()])


def draw_overlay(result: SegmentationResult, path: Path) -> None:
    """Write the picture with the mask and the point over it."""
    from refam_analysis import figures

    height, width = result.mask.shape
    with drawn_figure(path, (6.0, 6.0 * height / width)) as figure:
        figures.mask_overlay(figure.subplots(), result.stages["image"], result.mask, point=result.point)


def draw_pipeline(result: SegmentationResult, truth: NDArray[np.bool_], path: Path) -> None:
    """Write the figure of the whole path, from the picture to the mask."""
    from refam_analysis import figures

    tokens = result.stages["token_maps"]
    shown = tokens[[kind not in ("special", "padding", "template") for kind in tokens["kind"].values]]
    columns = min(8, len(shown) + 3)
    rows = math.ceil((len(shown) + 3) / columns)
    with drawn_figure(path, (1.7 * columns, 2.2 * rows)) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
        for unused in axes[len(shown) + 3 :]:
            unused.remove()
        figures.pipeline_figure(
            axes[: len(shown) + 3],
            image=result.stages["image"],
            expression=result.stages["prompt"].expression,
            maps=shown,
            words=[str(text) for text in shown["text"].values],
            kinds=[str(kind) for kind in shown["kind"].values],
            heatmap=result.heatmap,
            point=result.point,
            mask=result.mask,
            truth=truth,
        )


@contextmanager
def drawn_figure(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """A figure without a window, of (width, height) in inches, written when it is done."""
    from matplotlib.figure import Figure

    from refam_analysis.figures import figure_style

    with figure_style():
        figure = Figure(figsize=size)
        yield figure
        try:
            with written_output(path) as place:
                figure.savefig(place, format=path.suffix.removeprefix(".") or None)
        except ValueError as error:
            raise OutputError(path, str(error)) from error
