"""Points of many sentences, read in many ways: what a search and an evaluation ask for.

They are the points that :func:`refam_analysis.segment` gives, found for all maps at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refam_analysis.recording.recording import Recording
from refam_analysis.segmentation.finish import finished_values
from refam_analysis.segmentation.heatmap import heatmaps
from refam_analysis.segmentation.point import peaks
from refam_analysis.segmentation.settings import HeatmapSettings


def sentence_points(
    groups: Sequence[Sequence[Recording]], settings: Sequence[HeatmapSettings], sizes: Sequence[tuple[int, int]]
) -> NDArray[np.float64]:
    """The point of every sentence, for every way to read it.

    Args:
        groups: for each item, its recordings of one prompt, which all of the settings are read from.
        settings: of any kind; noise levels, seeds and gas are those of the recordings.
        sizes: for each item, (height, width) of its image in pixels.

    Returns:
        (item, setting, 2): x and y in pixels of the item's image; in a video, of its first frame.

    Raises:
        NoContentWordsError, UnknownExpressionError: see :func:`~refam_analysis.segmentation.heatmap.words_to_read`.
        HeatmapSettingsError: blocks or heads that were not recorded.
        HeatmapValueError: a map has no peak.
    """
    maps = _patch_maps(groups, settings)
    points = np.empty((len(groups), len(settings), 2))
    order = sorted(range(len(settings)), key=lambda i: _finish(settings[i]))
    for _, alike in groupby(order, key=lambda i: _finish(settings[i])):
        chosen = list(alike)
        for item, (group, size) in enumerate(zip(groups, sizes, strict=True)):
            values = finished_values(maps[item, chosen], settings[chosen[0]], group[0])
            points[item, chosen] = peaks(values, size)
    return points


def _patch_maps(groups: Sequence[Sequence[Recording]], settings: Sequence[HeatmapSettings]) -> NDArray[np.float32]:
    """(item, setting, y, x), of the first frame."""
    *_, height, width = groups[0][0].layout.grid
    maps = torch.empty(len(groups), len(settings), height, width)
    order = sorted(range(len(settings)), key=lambda i: _reading(settings[i]))
    for _, alike in groupby(order, key=lambda i: _reading(settings[i])):
        chosen = list(alike)
        read = heatmaps(groups, [settings[i] for i in chosen])
        maps[:, chosen] = read[..., : height * width].reshape(len(groups), len(chosen), height, width)
    return maps.numpy()


def _reading(settings: HeatmapSettings) -> tuple[Any, ...]:
    """What must be equal for heatmaps to be read together."""
    return settings.direction, settings.normalisation


def _finish(settings: HeatmapSettings) -> tuple[Any, ...]:
    """What must be equal for them to be finished together."""
    return settings.upsampling, settings.spatial_bias
