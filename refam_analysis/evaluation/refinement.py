"""Beyond the grid: which heads together, and how many noise levels and noise draws to average over.

The search (:mod:`refam_analysis.evaluation.search`) tries one noise level and one run of blocks at a time. Here its
winner is varied further, still on validation scenes: heads are added one by one, noise levels are averaged in pairs,
and each is read from one or more draws of the noise. Settings that average over more cost more forward passes.

Settings are compared by their margin, the share of points on the target minus that on the likelier distractor: a
reading that finds objects, whatever the words say, has the first of these but not the second.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import combinations, groupby, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from refam_analysis.evaluation.grounding import NoItemsError, hits
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import Recording, record_batch
from refam_analysis.segmentation.heatmap import heatmaps
from refam_analysis.segmentation.point import peaks
from refam_analysis.segmentation.settings import HeatmapSettings

Draws = dict[tuple[float, int], list[Recording]]
"""The recordings of a batch at every (noise level, draw), one an item."""


def score_settings(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    settings: Sequence[HeatmapSettings],
    *,
    magnets: Sequence[str] = (),
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Where the points of several settings fall, all read from the same draws of the noise.

    Args:
        model: from ``load_model``.
        items: of the validation split.
        settings: any; every noise level that one of them needs is recorded once for all.
        magnets: appended to every expression.
        batch_size: items a forward pass.
        seed: item i has the noise of seed + i times the largest number of draws among the settings.
        progress: show a bar.

    Returns:
        A row a setting, in the given order: ``target``, the share of points on the target, ``likelier_distractor``,
        their difference ``margin``, and the columns of :func:`settings_columns`.

    Raises:
        NoItemsError: there is no item.
    """
    if not items:
        raise NoItemsError
    total = np.zeros((len(settings), max(len(item.distractors) for item in items) + 2))
    most = max(one.seeds for one in settings)
    for first in tqdm(range(0, len(items), batch_size), desc=f"{len(settings)} settings", disable=not progress):
        batch = items[first : first + batch_size]
        seeds = [seed + (first + i) * most for i in range(len(batch))]
        draws = _record(model, batch, settings, magnets, seeds)
        points = _points(batch, draws, settings)
        total += hits(batch, points, distractors=total.shape[1] - 2).sum(axis=0)
    shares = total / len(items)
    table = pd.DataFrame({"target": shares[:, 0], "likelier_distractor": shares[:, 1:-1].max(axis=1, initial=0.0)})
    table["margin"] = table["target"] - table["likelier_distractor"]
    return table.join(pd.DataFrame([settings_columns(one) for one in settings]))


def add_heads(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    start: HeatmapSettings,
    *,
    most: int = 6,
    **options: Any,
) -> pd.DataFrame:
    """Greedy choice of heads: from none on, add the one that helps the margin most, while any helps.

    Args:
        model: from ``load_model``.
        items: of the validation split.
        start: everything but blocks and heads.
        most: heads at the end, at most.
        options: of :func:`score_settings`.

    Returns:
        What :func:`score_settings` gives of everything that was tried, in that order.
    """
    tables: list[pd.DataFrame] = []
    pairs, chosen, reached = _heads(model, items, start), list[tuple[int, int]](), -np.inf
    while len(chosen) < min(most, len(pairs)):
        offers = [pair for pair in pairs if pair not in chosen]
        tried = [dataclasses.replace(start, blocks=None, heads=(*chosen, pair)) for pair in offers]
        tables.append(score_settings(model, items, tried, **options))
        best = int(tables[-1]["margin"].to_numpy().argmax())
        if tables[-1]["margin"][best] <= reached:
            break
        chosen, reached = [*chosen, offers[best]], float(tables[-1]["margin"][best])
    return pd.concat(tables, ignore_index=True)


def more_draws(
    start: HeatmapSettings, noise_levels: Sequence[float], seeds: Sequence[int] = (1, 2, 4)
) -> list[HeatmapSettings]:
    """One setting for each noise level and each pair of them, with each number of noise draws; the cheapest first.

    >>> [one.noise_levels for one in more_draws(HeatmapSettings(), [0.5, 0.6], seeds=[2])]
    [(0.5,), (0.6,), (0.5, 0.6)]
    """
    levels = [chosen for size in (1, 2) for chosen in combinations(sorted(noise_levels), size)]
    made = [dataclasses.replace(start, noise_levels=chosen, seeds=n) for chosen, n in product(levels, seeds)]
    return sorted(made, key=passes)


def passes(settings: HeatmapSettings) -> int:
    """Forward passes that one heatmap takes.

    >>> passes(HeatmapSettings(noise_levels=(0.5, 0.6), seeds=2))
    4
    """
    return len(settings.noise_levels) * settings.seeds


def settings_columns(settings: HeatmapSettings) -> dict[str, Any]:
    """Settings as a row of a table: what differs by name, and all of it as JSON in ``settings``."""
    entries = settings.to_dict()
    row: dict[str, Any] = {name: entries[name] for name in ("direction", "normalisation", "aggregation", "seeds")}
    row["noise_levels"] = json.dumps(entries["noise_levels"])
    for name in ("blocks", "heads"):
        row[name] = "all" if entries[name] is None else json.dumps(entries[name])
    return {**row, "settings": json.dumps(entries)}


def _record(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    settings: Sequence[HeatmapSettings],
    magnets: Sequence[str],
    seeds: Sequence[int],
) -> Draws:
    """Every draw that one of the settings needs, with the blocks and directions that any of them reads."""
    wanted = sorted({(level, n) for one in settings for level in one.noise_levels for n in range(one.seeds)})
    recorded = [one.recorded_blocks for one in settings]
    some = sorted({block for blocks in recorded for block in blocks or ()})
    images, prompts = [item.image for item in items], [make_prompt(item.expression, magnets) for item in items]
    return {
        (level, draw): record_batch(
            model,
            images,
            prompts,
            noise_level=level,
            seeds=[seed + draw for seed in seeds],
            keep=sorted({one.direction for one in settings}),
            blocks=None if None in recorded else some,
        )
        for level, draw in wanted
    }


def _heads(model: DiffusionModel, items: Sequence[GroundingItem], settings: HeatmapSettings) -> list[tuple[int, int]]:
    """Every (block, head) pair of a model."""
    image, prompt = items[0].image, make_prompt(items[0].expression)
    (recorded,) = record_batch(model, [image], [prompt], keep=[settings.direction])
    attention = recorded[settings.direction]
    return [(int(b), int(h)) for b, h in product(attention["block"].values, attention["head"].values)]


def _points(items: Sequence[GroundingItem], draws: Draws, settings: Sequence[HeatmapSettings]) -> NDArray[np.float64]:
    """(item, setting, 2): each setting's point."""
    found = np.zeros((len(items), len(settings), 2))
    order = sorted(range(len(settings)), key=lambda i: _alike(settings[i]))
    for _, group in groupby(order, key=lambda i: _alike(settings[i])):
        chosen = list(group)
        one = settings[chosen[0]]
        used = [draws[level, n] for n in range(one.seeds) for level in one.noise_levels]
        recordings = [[recorded[i] for recorded in used] for i in range(len(items))]
        maps = heatmaps(recordings, [settings[i] for i in chosen])
        values = maps.reshape(*maps.shape[:2], *recordings[0][0].layout.grid).numpy()
        for i, item in enumerate(items):
            found[i, chosen] = peaks(values[i], item.image.shape[:2])
    return found


def _alike(settings: HeatmapSettings) -> tuple[Any, ...]:
    """What must be equal for settings to be read together."""
    return settings.direction, settings.normalisation, settings.noise_levels, settings.seeds
