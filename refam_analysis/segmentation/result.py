"""What a segmentation found, with every intermediate, and how that is written as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from refam_analysis.recording import Recording


@dataclass(frozen=True)
class SegmentationResult:
    """What :func:`~refam_analysis.segmentation.pipeline.segment` found.

    Attributes:
        mask: bool (height, width), of the given image.
        point: (x, y) in pixels of the given image, SAM's convention: whole numbers are the middles of pixels.
        heatmap: axes (y, x), one value a patch of the model, or a part of one where the settings upsample.
        stages: every intermediate, by name, in the order in which they came about:

            - ``image``: uint8 (height, width, 3), as it was read;
            - ``prompt``: :class:`~refam_analysis.prompts.Prompt`, the expression with its magnets;
            - ``settings``: :class:`~refam_analysis.segmentation.settings.HeatmapSettings`, with numbers for blocks that
              were called informative;
            - ``noun_phrase``: :class:`~refam_analysis.prompts.NounPhrase`, None where the switch is off;
            - ``places``: tuple of :class:`~refam_analysis.prompts.Place`, empty where the spatial bias is off;
            - ``sinks``: the table of :class:`~refam_analysis.segmentation.gas.SinkHandling`; empty where sinks are not
              handled;
            - ``recordings``: tuple of Recording, one a seed, each with a step a noise level; where sinks are handled,
              of the passes in which they are;
            - ``token_maps``: axes (token, y, x), all tokens of the text, with their kinds;
            - ``word_maps``: axes (word, y, x), the words that are read alone;
            - ``patch_heatmap``: axes (y, x), the words' maps aggregated, one value a patch;
            - ``heatmap_before_bias``: axes (y, x), the same upsampled, or itself;
            - ``spatial_bias``: axes (y, x), in (0, 1], what that is multiplied with; ones where the switch is off;
            - ``heatmap``, ``point``: as above;
            - ``masks``: bool (candidate, height, width), and ``scores`` (candidate,), the segmenter's guesses of IoU;
            - ``chosen``: the candidate that was taken, from 0;
            - ``mask``: that candidate.
    """

    mask: NDArray[np.bool_]
    point: tuple[float, float]
    heatmap: xr.DataArray
    stages: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Every intermediate as plain values, for JSON.

        Masks are run lengths, see :func:`run_lengths`; heatmaps and maps have ``dims``, ``coords`` and ``values``
        (nested lists in the order of ``dims``); tables are lists of rows. Two stages are told by what repeats them and
        not by their numbers: the image by its size and the sha256 of its pixels, each recording by its attributes and
        what it holds (``Recording.save`` writes a recording itself).

        Returns:
            Stage -> value, in the order of the stages.
        """
        written = {name: _plain(value) for name, value in self.stages.items()}
        written["image"] = _about_image(self.stages["image"])
        written["prompt"]["text"] = self.stages["prompt"].text
        return written


def run_lengths(mask: ArrayLike) -> dict[str, list[int]]:
    """A mask as run lengths, in the form that COCO calls uncompressed and pycocotools reads.

    Args:
        mask: bool (height, width).

    Returns:
        ``size``, [height, width], and ``counts``: lengths of the runs of equal pixels down the columns, from left to
        right; the first is of pixels that are off, and may be 0.

    >>> run_lengths([[False, True], [False, True], [True, True]])
    {'size': [3, 2], 'counts': [2, 4]}
    """
    pixels = np.asarray(mask, dtype=bool)
    column = np.concatenate(([False], pixels.ravel(order="F")))
    starts = np.flatnonzero(np.diff(column))
    counts = np.diff([0, *starts.tolist(), pixels.size])
    return {"size": list(pixels.shape), "counts": counts.tolist()}


def from_run_lengths(runs: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The mask that :func:`run_lengths` wrote.

    Args:
        runs: what it gave: ``size`` and ``counts``.

    Returns:
        bool (height, width).

    >>> from_run_lengths({"size": [2, 2], "counts": [0, 1, 3]}).tolist()
    [[True, False], [False, False]]
    """
    values = np.arange(len(runs["counts"])) % 2 == 1
    return np.repeat(values, runs["counts"]).reshape(runs["size"], order="F")


def _about_image(image: NDArray[np.uint8]) -> dict[str, Any]:
    height, width = image.shape[:2]
    return {"height": height, "width": width, "sha256": hashlib.sha256(image.tobytes()).hexdigest()}


def _about_recording(recording: Recording) -> dict[str, Any]:
    blocks = [int(block) for block in recording.dataset["block"].values]
    return {"kept": list(recording.kept), "noise_levels": list(recording.noise_levels), "blocks": blocks,
            "attributes": _plain(recording.attrs)}  # fmt: skip


def _plain(value: Any) -> Any:
    """A value as JSON knows it."""
    if isinstance(value, Recording):
        return _about_recording(value)
    if isinstance(value, xr.DataArray):
        coordinates = {str(name): value[name].values.tolist() for name in value.coords}
        return {"dims": list(value.dims), "coords": coordinates, "values": value.values.tolist()}
    if isinstance(value, pd.DataFrame):
        return [_plain(row) for row in value.to_dict("records")]
    if isinstance(value, np.ndarray):
        if value.dtype == bool and value.ndim >= 2:
            return run_lengths(value) if value.ndim == 2 else [_plain(one) for one in value]
        return value.tolist()
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
