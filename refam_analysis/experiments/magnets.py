"""Magnets and their controls (C5, C6, C12): the same scenes and noise under many ways of asking and reading.

What is appended and what is read, is in :mod:`refam_analysis.experiments.magnet_conditions`. Here every scene is
measured under every condition, by the heatmap that the model's settings read and by the attention that image tokens put
on the words, and conditions are compared scene by scene. The settings were chosen on validation scenes without magnets;
the scenes here are of the test split, behind those that judge the claims.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from refam_analysis.analysis.paired import two_sided_p
from refam_analysis.analysis.sharpness import MAP_MEASURES, map_measures
from refam_analysis.analysis.statistics import benjamini_hochberg, bootstrap_interval, scene_mean
from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.evaluation.metrics import points_on
from refam_analysis.experiments.magnet_conditions import (
    BASELINE,
    CONTRASTS,
    CONTROLS,
    Condition,
    appended,
    dose_conditions,
    prompt_of,
)
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import items_in, model_option, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import Prompt
from refam_analysis.recording import Recording
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.heatmap import content_words, heatmaps
from refam_analysis.segmentation.pipeline import default_settings, record_for_heatmaps
from refam_analysis.segmentation.point import peaks
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.weights import embedded_folder

NAME = "magnets"
FIRST_SCENE = 1500
"""The test items before this one chose the embedded model and its reading, or judge the claims."""

MASSES = ("appended", "padding", "content", "stop")
MEASURES: tuple[str, ...] = (*MAP_MEASURES, *(f"mass_{name}" for name in MASSES))
"""What is measured: of the heatmap, and the share of the attention of image tokens that each kind of token holds."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MagnetTest:
    """What is tested.

    Attributes:
        scenes: items of the test split, attribute and location expressions in turn.
        doses: numbers of words appended in the dose response.
        seed: of the noise and of words drawn at random.
        batch_size: scenes a part that is kept, and a forward pass.
        style: of the scenes; None for those that the model knows.
    """

    scenes: int = 300
    doses: tuple[int, ...] = (1, 2, 3, 4, 6, 9, 12)
    seed: int = 0
    batch_size: int = 32
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        return f"refam experiment {NAME} --items {self.scenes} --seed {self.seed}{style_option(self.style)}"

    @property
    def conditions(self) -> list[Condition]:
        """Controls, then the dose response."""
        return [*CONTROLS, *dose_conditions(self.doses)]


def run(
    test: MagnetTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Measure every scene under every condition, compare, and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the model; None for the embedded one.
        results: the folder of all results.
        progress: show a bar over scenes and conditions.

    Returns:
        The tables ``scenes`` (a row a (scene, condition), see :func:`measure`), ``summary`` (:func:`summary`) and
        ``contrasts`` (:func:`contrasts`).
    """
    test, folder = test or MagnetTest(), folder or embedded_folder("embedded-dit")
    watch, weights = Stopwatch(), weights_sha256(folder, also=["refam.json"])
    model = load_model(folder)
    settings = default_settings(model).attention_alone
    configuration = {
        **dataclasses.asdict(test),
        "style": test.style or model.scene_style,
        "first_scene": FIRST_SCENE,
        "settings": settings.to_dict(),
        "conditions": [dataclasses.asdict(condition) for condition in test.conditions],
    }
    parts = Parts(results.parent / ".cache", NAME, {**configuration, **weights})
    scenes = pd.concat(_parts(model, test, settings, parts, progress=progress), ignore_index=True)
    tables = {
        "scenes": scenes,
        "summary": summary(scenes, seed=test.seed),
        "contrasts": contrasts(scenes, seed=test.seed),
    }
    result = write_result(
        NAME, tables, watch.provenance(test.command + model_option(folder), configuration, weights), results=results
    )
    parts.forget()
    return result


def measure(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    conditions: Sequence[Condition],
    settings: HeatmapSettings | None = None,
    *,
    first: int = 0,
    seed: int = 0,
    bar: tqdm | None = None,
) -> pd.DataFrame:
    """Measure scenes under conditions; sinks are not acted on.

    Args:
        model: from ``load_model``.
        items: the scenes, one forward pass for each asking and noise draw.
        conditions: such as :data:`~refam_analysis.experiments.magnet_conditions.CONTROLS`.
        settings: how heatmaps are read, by their attention alone; None for the model's own.
        first: number of the first scene; scene i has the noise of seed + i times settings.seeds, whatever is appended.
        seed: of noise and of words drawn at random.
        bar: moved on by one for each scene and condition.

    Returns:
        A row a (scene, condition): ``item`` (number of the scene), ``scene``, ``kind`` (of its sentence),
        ``condition``, ``words`` (how many were appended), ``pieces`` (how many tokens they are) and the columns of
        :data:`MEASURES`: those of :func:`~refam_analysis.analysis.sharpness.map_measures` of the heatmap, with the
        point of the pipeline; and ``mass_...``, the probability that an average image token puts on the tokens that
        were appended, on padding, and on content and stop words of the sentence, mean over blocks, heads and noise.
        A scene that cannot have a condition has no row there.
    """
    settings = dataclasses.replace((settings or default_settings(model)).attention_alone, gas="none")
    rows: list[dict[str, Any]] = []
    for same in _by_asking(conditions):
        prompts = {
            place: prompt
            for place, item in enumerate(items)
            if (prompt := prompt_of(model, item, same[0], seed=(seed, first + place))) is not None
        }
        if prompts:
            chosen = [items[place] for place in prompts]
            seeds = [seed + (first + place) * settings.seeds for place in prompts]
            groups = _record(model, chosen, list(prompts.values()), settings, seeds)
            masses = [_masses(group, prompt) for group, prompt in zip(groups, prompts.values(), strict=True)]
        for condition in same if prompts else ():
            read = _read(groups, chosen, condition, settings)
            for place, mass, found in zip(prompts, masses, read, strict=True):
                item = items[place]
                labels = {"item": first + place, "scene": item.scene, "kind": item.kind, "condition": condition.name}
                rows.append({**labels, **mass, **found})
        if bar is not None:
            bar.update(len(items) * len(same))
    return pd.DataFrame(rows, columns=[*_LABELS, *MEASURES])


_LABELS = ["item", "scene", "kind", "condition", "words", "pieces"]


def scene_values(scenes: pd.DataFrame, condition: str, *, baseline: str = BASELINE) -> pd.DataFrame:
    """The values of each scene under one condition and under the baseline: what a test over scenes pairs.

    Args:
        scenes: rows of :func:`measure`.
        condition: its name.
        baseline: what it is compared with.

    Returns:
        Index ``item``, of the scenes that have both; columns (side, measure), with the sides ``without`` (the
        baseline), ``with_magnets`` (the condition) and ``change``.
    """
    without, with_magnets = (_of(scenes, name) for name in (baseline, condition))
    both = without.index.intersection(with_magnets.index)
    sides = {"without": without.loc[both], "with_magnets": with_magnets.loc[both]}
    sides["change"] = sides["with_magnets"] - sides["without"]
    return pd.concat(sides, axis=1, names=["side", "measure"])


def summary(
    scenes: pd.DataFrame,
    *,
    baseline: str = BASELINE,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every condition beside the baseline, paired over scenes.

    Args:
        scenes: rows of :func:`measure`.
        baseline: the condition that the others are compared with.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random sign flips of scenes.
        seed: of draws and flips.

    Returns:
        A row a (condition, measure), in their order: ``condition``, ``measure``, ``series`` and ``number`` of the dose
        response (empty and 0 for controls), ``words`` and ``pieces`` (means); ``value`` (mean over the scenes that have
        both conditions) with ``value_low``, ``value_high``; ``change`` from the baseline with ``change_low``,
        ``change_high``, ``p`` (two-sided, by sign flips; NaN for the baseline), ``q`` (over all rows), ``scenes``.
    """
    names = list(dict.fromkeys(scenes["condition"]))
    rows = pd.MultiIndex.from_product([names, MEASURES], names=["condition", "measure"]).to_frame(index=False)
    number = rows["condition"].str.extract(r"^(.*) x (\d+)$")
    rows["series"], rows["number"] = number[0].fillna(""), number[1].fillna("0").astype(int)
    means = scenes.groupby("condition")[["words", "pieces"]].mean()
    rows = rows.join(means, on="condition")
    found = [scene_values(scenes, name, baseline=baseline) for name in names]
    items = sorted(set(scenes["item"]))
    for side, name in (("with_magnets", "value"), ("change", "change")):
        values = np.concatenate([_columns(each[side], items) for each in found], axis=1)
        ends = bootstrap_interval(values, confidence=confidence, resamples=resamples, seed=seed)
        rows[name], rows[f"{name}_low"], rows[f"{name}_high"] = scene_mean(values), *ends
    p = two_sided_p(values, flips=flips, seed=seed)  # of the changes, which came last
    rows["p"] = np.where(rows["condition"] == baseline, np.nan, p)
    rows["q"] = benjamini_hochberg(rows["p"].to_numpy(dtype=np.float64))
    rows["scenes"] = np.isfinite(values).sum(axis=0)
    rows.attrs["confidence"] = confidence
    return rows


def contrasts(
    scenes: pd.DataFrame,
    pairs: Mapping[str, tuple[str, str]] = CONTRASTS,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Pairs of conditions of which neither need be the baseline: filtering by itself, magnets against other words...

    Args:
        scenes: rows of :func:`measure`.
        pairs: contrast -> the two conditions; the second is taken from the first.
        confidence, resamples, flips, seed: as for :func:`summary`.

    Returns:
        A row a (contrast, measure): ``contrast``, ``condition``, ``against``, ``measure``, ``change`` (mean of the
        paired differences) with ``change_low``, ``change_high``, ``p``, ``q`` (over all rows), ``scenes``.
    """
    there = set(scenes["condition"])
    kept = {name: pair for name, pair in pairs.items() if set(pair) <= there}
    rows = pd.DataFrame(
        [(name, *pair, measured) for name, pair in kept.items() for measured in MEASURES],
        columns=["contrast", "condition", "against", "measure"],
    )
    found = [scene_values(scenes, one, baseline=other)["change"] for one, other in kept.values()]
    items = sorted(set(scenes["item"]))
    values = np.concatenate([_columns(each, items) for each in found], axis=1)
    ends = bootstrap_interval(values, confidence=confidence, resamples=resamples, seed=seed)
    rows["change"], rows["change_low"], rows["change_high"] = scene_mean(values), *ends
    rows["p"] = two_sided_p(values, flips=flips, seed=seed)
    rows["q"] = benjamini_hochberg(rows["p"].to_numpy(dtype=np.float64))
    rows["scenes"] = np.isfinite(values).sum(axis=0)
    rows.attrs["confidence"] = confidence
    return rows


def repeat(result: Result, model: DiffusionModel, *, first: int, number: int) -> pd.DataFrame:
    """Measure some of the scenes again, as the result's configuration says.

    Args:
        result: from :func:`run`.
        model: the one that it was made with.
        first: number of the first scene of the result.
        number: of scenes.

    Returns:
        Rows as in ``result["scenes"]``.
    """
    configuration = result.provenance.configuration
    test = MagnetTest(doses=tuple(configuration["doses"]), seed=configuration["seed"])
    settings = HeatmapSettings.from_dict(configuration["settings"])
    items = items_in(configuration, number, first=first)
    return measure(model, items, test.conditions, settings, first=first, seed=test.seed)


def _parts(
    model: DiffusionModel, test: MagnetTest, settings: HeatmapSettings, parts: Parts, *, progress: bool
) -> Iterator[pd.DataFrame]:
    """The rows of all scenes, a part a batch."""
    items = hard_items("test", test.scenes, skip=FIRST_SCENE, style=test.style or model.scene_style)
    conditions = test.conditions
    with tqdm(total=len(items) * len(conditions), desc="scenes x conditions", disable=not progress) as bar:
        for start in range(0, len(items), test.batch_size):
            batch = items[start : start + test.batch_size]
            make = partial(measure, model, batch, conditions, settings, first=start, seed=test.seed, bar=bar)
            yield parts.keep(f"{start:06d}", make)
            bar.update((start + len(batch)) * len(conditions) - bar.n)  # where the part was there already


def _by_asking(conditions: Sequence[Condition]) -> list[list[Condition]]:
    """Conditions put together that ask the same, so that they share forward passes."""
    groups: dict[object, list[Condition]] = {}
    for condition in conditions:
        groups.setdefault(condition.asking, []).append(condition)
    return list(groups.values())


def _record(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    prompts: Sequence[Prompt],
    settings: HeatmapSettings,
    seeds: Sequence[int],
) -> list[list[Recording]]:
    """All blocks, of what the heatmap is read from and of what image tokens attend to."""
    every = dataclasses.replace(settings, blocks=None, heads=None)
    keep = list(dict.fromkeys([settings.direction, "image_to_text"]))
    return record_for_heatmaps(model, [item.image for item in items], prompts, every, seeds=seeds, keep=keep)


def _masses(group: Sequence[Recording], prompt: Prompt) -> dict[str, float]:
    """How many words and pieces were appended, and what they and the kinds of tokens hold."""
    attention = [recording["image_to_text"].isel(branch=0).values for recording in group]
    share = np.mean([each.reshape(-1, each.shape[-1]).mean(axis=0, dtype=np.float64) for each in attention], axis=0)
    tokens = group[0].tokens
    places = {"appended": appended(tokens, prompt)}
    places |= {kind: [i for i, token in enumerate(tokens) if token.kind == kind] for kind in MASSES[1:]}
    masses = {f"mass_{name}": float(share[places[name]].sum()) for name in MASSES}
    return {"words": len(prompt.magnets), "pieces": len(places["appended"]), **masses}


def _read(
    groups: Sequence[Sequence[Recording]],
    items: Sequence[GroundingItem],
    condition: Condition,
    settings: HeatmapSettings,
) -> list[dict[str, float]]:
    """The measures of each scene's heatmap, with the pipeline's point."""
    words = [content_words(group[0].tokens, kinds=condition.reads) for group in groups]
    maps = heatmaps(groups, [settings], words)[:, 0].double().numpy().reshape(len(groups), *groups[0][0].layout.grid)
    found = []
    for heat, item in zip(maps, items, strict=True):
        target = item.masks[item.target]
        point = points_on(peaks(heat[None], item.image.shape[:2]), [target])
        found.append(map_measures(heat, target) | {"point_accuracy": float(point[0])})
    return found


def _of(scenes: pd.DataFrame, condition: str) -> pd.DataFrame:
    return scenes[scenes["condition"] == condition].set_index("item")[list(MEASURES)]


def _columns(values: pd.DataFrame, items: Sequence[int]) -> Floats:
    """(scene, measure); NaN where the scene lacks the condition, or the measure is not finite."""
    table = values.reindex(items).to_numpy(dtype=np.float64)
    return np.where(np.isfinite(table), table, np.nan)
