"""Beyond the grid: which heads together, how many noise levels and draws to average over, and the method's switches.

The search (:mod:`refam_analysis.evaluation.search`) tries one noise level and one run of blocks at a time. Here its
winner is varied further, still on validation scenes: heads are added one by one, noise levels are averaged in pairs,
each is read from one or more draws of the noise, and the switches are thrown in every combination. Settings that
average over more cost more forward passes.

Settings are compared by their margin, the share of points on the target minus that on the likelier distractor: a
reading that finds objects, whatever the words say, has the first of these but not the second.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import combinations, product
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
from refam_analysis.segmentation.informative import with_numbered_blocks
from refam_analysis.segmentation.pipeline import record_for_heatmaps
from refam_analysis.segmentation.points import sentence_points
from refam_analysis.segmentation.remembering import remembering
from refam_analysis.segmentation.settings import UPSAMPLINGS, Gas, HeatmapSettings

Draw = tuple[Gas, tuple[float, ...]]
"""What is recorded together: how sinks are handled, and the noise levels that this is decided at; without handling each
noise level by itself, so that settings share it."""


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
    """Where the points of several settings fall, with all their switches, read from the same draws of the noise.

    Args:
        model: from ``load_model``.
        items: of the validation split.
        settings: any; every noise level that one of them needs is recorded once for all that do the same to sinks.
        magnets: appended to every expression.
        batch_size: items a forward pass.
        seed: item i has the noise of seed + i times the largest number of draws among the settings.
        progress: show a bar.

    Returns:
        A row a setting, in the given order: ``target``, the share of points on the target, ``likelier_distractor``,
        their difference ``margin``, and the columns of :func:`settings_columns`.

    Raises:
        NoItemsError: there is no item.
        NoMagnetsError: settings redirect the mass of sinks, and a prompt has no magnets.
    """
    if not items:
        raise NoItemsError
    settings = [with_numbered_blocks(model, one) for one in settings]
    total = np.zeros((len(settings), max(len(item.distractors) for item in items) + 2))
    most = max(one.seeds for one in settings)
    for first in tqdm(range(0, len(items), batch_size), desc=f"{len(settings)} settings", disable=not progress):
        batch = items[first : first + batch_size]
        seeds = [seed + (first + i) * most for i in range(len(batch))]
        points = _points(model, batch, settings, magnets, seeds)
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


def switched(
    start: HeatmapSettings, *, gas: Gas = "none", strengths: Sequence[float] = (0.25, 0.5, 0.75, 1.0)
) -> list[HeatmapSettings]:
    """The switches of reading in every combination: noun phrase, spatial bias, upsampling, and informative blocks.

    Args:
        start: everything else.
        gas: what is done to sinks in all of them.
        strengths: of the spatial bias, beside none.

    >>> len(switched(HeatmapSettings(), strengths=[1.0])), switched(HeatmapSettings(), gas="suppress")[0].gas
    (24, 'suppress')
    """
    sites = (start, dataclasses.replace(start, blocks="informative", heads=None))
    return [
        dataclasses.replace(site, gas=gas, noun_phrase=phrase, upsampling=how, spatial_bias=strength)
        for site, phrase, how, strength in product(sites, (False, True), UPSAMPLINGS, (0.0, *strengths))
    ]


def passes(settings: HeatmapSettings) -> int:
    """Forward passes that one heatmap takes, with those that look for sinks.

    >>> passes(HeatmapSettings(noise_levels=(0.5, 0.6), seeds=2)), passes(HeatmapSettings(seeds=2, gas="suppress"))
    (4, 3)
    """
    looks = 0 if settings.gas == "none" else 1
    return len(settings.noise_levels) * (settings.seeds + looks)


_SHOWN = (
    "direction", "normalisation", "aggregation", "seeds", "gas", "noun_phrase", "spatial_bias", "upsampling"
)  # fmt: skip


def settings_columns(settings: HeatmapSettings) -> dict[str, Any]:
    """Settings as a row of a table: what differs by name, and all of it as JSON in ``settings``."""
    entries = settings.to_dict()
    row: dict[str, Any] = {name: entries[name] for name in _SHOWN}
    row["noise_levels"] = json.dumps(entries["noise_levels"])
    for name in ("blocks", "heads"):
        row[name] = "all" if entries[name] is None else json.dumps(entries[name])
    return {**row, "settings": json.dumps(entries)}


def _heads(model: DiffusionModel, items: Sequence[GroundingItem], settings: HeatmapSettings) -> list[tuple[int, int]]:
    """Every (block, head) pair of a model."""
    image, prompt = items[0].shown, make_prompt(items[0].expression)
    (recorded,) = record_batch(model, [image], [prompt], keep=[settings.direction])
    attention = recorded[settings.direction]
    return [(int(b), int(h)) for b, h in product(attention["block"].values, attention["head"].values)]


def _points(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    settings: Sequence[HeatmapSettings],
    magnets: Sequence[str],
    seeds: Sequence[int],
) -> NDArray[np.float64]:
    """(item, setting, 2): each setting's point."""
    encoding, draws = remembering(model), {}
    # All draws hold the same blocks, since settings read several of them together.
    recorded = [one.recorded_blocks for one in settings]
    blocks = None if None in recorded else tuple(sorted({block for some in recorded for block in some or ()}))
    for draw in dict.fromkeys(draw for one in settings for draw in _draws(one)):
        needed = [one for one in settings if draw in _draws(one)]
        draws[draw] = _record(encoding, items, draw, needed, blocks, magnets, seeds)
    points = np.zeros((len(items), len(settings), 2))
    sizes = [item.image.shape[:2] for item in items]
    alike: dict[Any, list[int]] = {}
    for i, one in enumerate(settings):
        alike.setdefault((_draws(one), one.seeds), []).append(i)
    for (used, number), chosen in alike.items():
        groups = [[draws[draw][item][n] for n in range(number) for draw in used] for item in range(len(items))]
        points[:, chosen] = sentence_points(groups, [settings[i] for i in chosen], sizes)
    return points


def _draws(settings: HeatmapSettings) -> tuple[Draw, ...]:
    if settings.gas == "none":
        return tuple(("none", (level,)) for level in settings.noise_levels)
    return ((settings.gas, settings.noise_levels),)


def _record(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    draw: Draw,
    settings: Sequence[HeatmapSettings],
    blocks: tuple[int, ...] | None,
    magnets: Sequence[str],
    seeds: Sequence[int],
) -> list[list[Recording]]:
    """For each item, as many noise draws as one of the settings needs, in all directions that any of them reads."""
    gas, levels = draw
    seeds_needed = max(one.seeds for one in settings)
    whole = HeatmapSettings(gas=gas, noise_levels=levels, seeds=seeds_needed, blocks=blocks)
    return record_for_heatmaps(
        model,
        [item.shown for item in items],
        [make_prompt(item.expression, magnets) for item in items],
        whole,
        seeds=seeds,
        keep=sorted({one.direction for one in settings}),
    )
