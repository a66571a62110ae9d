"""Which of the segmenter's candidates to take: the one it guesses best, or the one that agrees with the heatmap.

The whole path runs on scenes as a user runs it, and its candidates are compared with the truth: the one chosen by
score, the one chosen by agreement, and the best of them, which nobody can know. The choice is made on validation scenes
and reported on test scenes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from refam_analysis.analysis.statistics import bootstrap_interval, two_sided_sign_flip_p
from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.evaluation.metrics import mask_ious, points_on
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import items_in, model_option, segmenter_of, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS
from refam_analysis.scenes.dataset import Split
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.mask_choice import MASK_CHOICES, choose_mask
from refam_analysis.segmentation.pipeline import default_settings, segment
from refam_analysis.segmentation.segmenters import Segmenter
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.weights import embedded_folder

NAME = "mask-choice"
BEST = "best"
"""The candidate with the highest true IoU: the limit of any choice."""


@dataclass(frozen=True)
class MaskChoiceTest:
    """What is compared.

    Attributes:
        validation: hard items of the validation split, on which the choice is made.
        test: hard items of the test split, on which it is reported.
        magnets: appended to every expression.
        seed: item i has the noise of seed + i times settings.seeds.
        part: items that are kept together, for a stopped run to go on from.
        style: of the scenes; None for those that the model knows.
    """

    validation: int = 300
    test: int = 500
    magnets: tuple[str, ...] = DEFAULT_MAGNETS
    seed: int = 0
    part: int = 25
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        return (
            f"refam experiment {NAME} --validation {self.validation} --items {self.test} --seed {self.seed}"
            f"{style_option(self.style)}"
        )


def run(
    test: MaskChoiceTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Segment every scene once, choose in both ways, compare, and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the model; None for the embedded one. The segmenter is the one that ships for the scenes.
        results: the folder of all results.
        progress: show a bar over scenes.

    Returns:
        The tables ``outcomes`` (:func:`measure`, with ``split``) and ``summary`` (:func:`summary`). The configuration
        says which way is ``chosen`` by :func:`better`.
    """
    test, folder = test or MaskChoiceTest(), folder or embedded_folder("embedded-dit")
    watch = Stopwatch()
    model = load_model(folder)
    settings = default_settings(model)
    style = test.style or model.scene_style
    segmenter, weights = segmenter_of(style)
    weights |= weights_sha256(folder, also=["refam.json"])
    configuration = {**dataclasses.asdict(test), "style": style, "settings": settings.to_dict()}
    parts = Parts(results.parent / ".cache", NAME, {**configuration, **weights})
    splits: dict[Split, int] = {"validation": test.validation, "test": test.test}
    measured = []
    with tqdm(total=sum(splits.values()), desc="scenes", disable=not progress) as bar:
        for split, number in splits.items():
            items = hard_items(split, number, style=style)
            for first in range(0, number, test.part):
                chosen = items[first : first + test.part]
                make = partial(measure, model, segmenter, chosen, settings, test.magnets, first=first, seed=test.seed)
                measured.append(parts.keep(f"{split}-{first}", make).assign(split=split))
                bar.update(len(chosen))
    outcomes = pd.concat(measured, ignore_index=True)
    table = summary(outcomes, seed=test.seed)
    configuration["chosen"] = better(table)
    result = write_result(
        NAME,
        {"outcomes": outcomes, "summary": table},
        watch.provenance(test.command + model_option(folder), configuration, weights),
        results=results,
    )
    parts.forget()
    return result


def measure(
    model: DiffusionModel,
    segmenter: Segmenter,
    items: Sequence[GroundingItem],
    settings: HeatmapSettings,
    magnets: Sequence[str] = (),
    *,
    first: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Segment items and choose among the candidates in every way.

    Args:
        model: from ``load_model``.
        segmenter: from ``load_segmenter``.
        items: with their masks.
        settings: how heatmaps are read.
        magnets: appended to every expression.
        first: number of the first item.
        seed: see :class:`MaskChoiceTest`.

    Returns:
        A row an item: ``item``, ``scene``, ``kind``, ``expression``, ``on_target`` (whether the point is), and for
        each way w of choosing, and for "best", ``candidate_<w>`` and ``iou_<w>``.
    """
    rows: list[dict[str, Any]] = []
    for number, item in enumerate(items, start=first):
        truth, noise = item.masks[item.target], seed + number * settings.seeds
        found = segment(
            model, item.image, item.expression, magnets=magnets, segmenter=segmenter, settings=settings, seed=noise
        )
        masks, scores = found.stages["masks"], found.stages["scores"]
        ious = mask_ious(masks, [truth] * len(masks))
        chosen: dict[str, int] = {way: choose_mask(masks, scores, found.heatmap, by=way) for way in MASK_CHOICES}
        row: dict[str, Any] = {"item": number, "scene": item.scene, "kind": item.kind, "expression": item.expression}
        row["on_target"] = bool(points_on([found.point], [truth])[0])
        for way, candidate in {**chosen, BEST: int(ious.argmax())}.items():
            row |= {f"candidate_{way}": candidate, f"iou_{way}": float(ious[candidate])}
        rows.append(row)
    return pd.DataFrame(rows)


def summary(outcomes: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Mean IoU of each way, and its change from the choice by score, over scenes.

    Args:
        outcomes: rows of :func:`measure` with ``split``.
        confidence: of the intervals.
        seed: of the bootstrap and of the sign flips.

    Returns:
        A row a (split, kind, way), with "all" kinds first: ``mean_iou``, ``change``, each with ``_low`` and ``_high``;
        ``p`` of the change (two-sided, sign flips of scenes; NaN for "score"), ``differs`` (share of scenes in which
        another candidate than by score is taken), ``scenes``.
    """
    ways = [*MASK_CHOICES, BEST]
    rows = []
    for split, of_split in outcomes.groupby("split", sort=False):
        kinds = {"all": of_split, **dict(iter(of_split.groupby("kind", sort=True)))}
        for kind, group in kinds.items():
            ious = group.groupby("scene")[[f"iou_{way}" for way in ways]].mean().to_numpy()
            changes = ious - ious[:, [0]]
            intervals = {
                "mean_iou": (ious, *bootstrap_interval(ious, confidence=confidence, seed=seed)),
                "change": (changes, *bootstrap_interval(changes, confidence=confidence, seed=seed)),
            }
            p = two_sided_sign_flip_p(changes, seed=seed)
            for place, way in enumerate(ways):
                row: dict[str, Any] = {"split": split, "kind": kind, "way": way}
                for name, (values, low, high) in intervals.items():
                    row |= {name: values[:, place].mean(), f"{name}_low": low[place], f"{name}_high": high[place]}
                row["p"] = p[place] if place else np.nan
                row["differs"] = (group[f"candidate_{way}"] != group["candidate_score"]).mean()
                rows.append({**row, "scenes": len(ious)})
    table = pd.DataFrame(rows)
    table.attrs["confidence"] = confidence
    return table


def better(table: pd.DataFrame) -> str:
    """The way that validation scenes speak for: "score", unless another one's change lies above zero for certain.

    Args:
        table: from :func:`summary`.
    """
    rows = table[(table["split"] == "validation") & (table["kind"] == "all") & (table["way"] != BEST)]
    surely = rows[rows["change_low"] > 0]
    return MASK_CHOICES[0] if surely.empty else str(surely.loc[surely["mean_iou"].idxmax(), "way"])


def repeat(
    result: Result, model: DiffusionModel, segmenter: Segmenter, *, split: Split, first: int, number: int
) -> pd.DataFrame:
    """Compute some outcomes again, as the result's configuration says.

    Args:
        result: from :func:`run`.
        model: the one that it was made with.
        segmenter: the one that it was made with.
        split: of the items.
        first: number of the first item.
        number: of items.

    Returns:
        Rows as in ``result["outcomes"]``.
    """
    configuration = result.provenance.configuration
    settings = HeatmapSettings.from_dict(configuration["settings"])
    items = items_in(configuration, number, first=first, split=split)
    table = measure(
        model, segmenter, items, settings, configuration["magnets"], first=first, seed=configuration["seed"]
    )
    return table.assign(split=split)
