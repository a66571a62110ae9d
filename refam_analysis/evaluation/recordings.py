"""Recordings of items, and points read from them in several ways.

Here items become recordings, batch by batch, with noise that depends on the item alone: two calls with other magnets
differ in nothing else. What recordings say is the business of `analysis`; the test of grounding with its controls is
in :mod:`refam_analysis.evaluation.grounding`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.analysis.statistics import bootstrap_interval
from refam_analysis.evaluation.grounding import NoItemsError, hits
from refam_analysis.evaluation.items import GroundingItem, ItemsError
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import Recording, record_batch
from refam_analysis.segmentation.points import sentence_points
from refam_analysis.segmentation.settings import HeatmapSettings


def record_items(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    *,
    magnets: Sequence[str] = (),
    noise_level: float | Sequence[float] = 0.6,
    keep: Iterable[str] | None = None,
    blocks: Iterable[int] | None = None,
    batch_size: int = 8,
    seed: int = 0,
) -> list[Recording]:
    """Record the picture, or the clip, and the sentence of every item.

    Args:
        model: from ``load_model``.
        items: from :func:`~refam_analysis.evaluation.items.scene_items` or ``hard_items``.
        magnets: appended to every expression.
        noise_level: one, or several for a step each.
        keep, blocks: as for :func:`refam_analysis.record`.
        batch_size: items a forward pass.
        seed: item i has the noise of seed + i.

    Returns:
        One recording an item, in their order.

    Raises:
        NoItemsError: there is no item.
    """
    if not items:
        raise NoItemsError
    names = None if keep is None else list(keep)
    numbers = None if blocks is None else list(blocks)
    recordings: list[Recording] = []
    for start in range(0, len(items), batch_size):
        part = items[start : start + batch_size]
        recordings += record_batch(
            model,
            [item.shown for item in part],
            [make_prompt(item.expression, magnets) for item in part],
            noise_level=noise_level,
            seeds=range(seed + start, seed + start + len(part)),
            keep=names,
            blocks=numbers,
        )
    return recordings


def read_points(
    recordings: Sequence[Recording], items: Sequence[GroundingItem], settings: HeatmapSettings
) -> NDArray[np.float64]:
    """The point of every item's heatmap.

    Args:
        recordings: one an item.
        items: in the same order.
        settings: how the heatmaps are read; the direction must have been kept.

    Returns:
        (item, 2): x and y in pixels of each item's image.

    Raises:
        ItemsError: not as many items as recordings.
        HeatmapSettingsError: blocks or heads that were not recorded.
    """
    if len(recordings) != len(items):
        raise ItemsError(f"There are {len(recordings)} recordings of {len(items)} items: give one an item.")
    groups = [[recording] for recording in recordings]
    return sentence_points(groups, [settings], [item.image.shape[:2] for item in items])[:, 0]


def accuracy_by_reading(
    recordings: Sequence[Recording],
    items: Sequence[GroundingItem],
    readings: Mapping[str, HeatmapSettings],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Point accuracy of several ways to read the same recordings.

    Args:
        recordings: one an item, with every direction kept that a reading asks for.
        items: in the same order.
        readings: settings by name.
        confidence: of the intervals.
        seed: of the bootstrap over scenes.

    Returns:
        A row a reading, in their order: ``reading``, ``accuracy`` (share of points on the target), ``accuracy_low``,
        ``accuracy_high``, ``scenes``.

    The errors are those of :func:`read_points`.
    """
    on_target = [hits(items, read_points(recordings, items, settings))[:, 0] for settings in readings.values()]
    by_scene = pd.DataFrame(np.stack(on_target, axis=1)).groupby([item.scene for item in items]).mean()
    low, high = bootstrap_interval(by_scene.to_numpy(), confidence=confidence, seed=seed)
    table = pd.DataFrame({"reading": list(readings), "accuracy": by_scene.mean().to_numpy()})
    table["accuracy_low"], table["accuracy_high"], table["scenes"] = low, high, len(by_scene)
    table.attrs["confidence"] = confidence
    return table
