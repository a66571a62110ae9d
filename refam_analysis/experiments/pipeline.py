"""How good the whole pipeline is: from sentences about held-out scenes to points and masks, with what limits them.

Beside the pipeline as :func:`refam_analysis.segment` runs it stand the points of attention alone, those without
magnets, a sentence about another scene, which cannot know, and a point that knows, which is as far as the segmenter
goes. Pictures have three or four objects, some with the target's colour or shape, and were used by nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.analysis.statistics import Floats, bootstrap_ratio_interval, ratios_of
from refam_analysis.evaluation.grounding import exchanged_expressions, points_of
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.evaluation.metrics import ious_of, mask_overlaps, points_on
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import items_in, model_option, segmenter_of, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS
from refam_analysis.scenes import KINDS, ExpressionKind
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.pipeline import default_settings
from refam_analysis.segmentation.segmenters import Segmenter
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.weights import embedded_folder

NAME = "pipeline"
FIRST_SCENE = 3000
"""The test items before this one chose the embedded models and their readings, or are those of other experiments."""
OBJECTS = (3, 4)
PLAIN_KINDS: tuple[ExpressionKind, ...] = ("attribute", "location")
"""Of sentences that speak of the object alone, and not of others."""

PIPELINE, OTHER, KNOWN = "pipeline", "other expression", "known point"
WAYS: Mapping[str, str] = MappingProxyType(
    {
        "attention": "every content word, no prior of place, no magnets",
        "reading": "as the model's settings say, with noun phrase and prior of place",
        PIPELINE: "the same, with magnets: what ra.segment does",
        OTHER: "the pipeline, asked with another scene's sentence",
        KNOWN: "a pixel of the target, drawn at random",
    }
)
"""Where points come from, and what that means."""


@dataclass(frozen=True)
class PipelineTest:
    """What is measured.

    Attributes:
        items: of the test split: pictures with the four kinds of sentences in turn, or clips with two.
        seed: of the noise, of the exchange of sentences and of the known points.
        batch_size: items a part that is kept, and a forward pass.
        first_scene: number of the first item of the split.
        style: of the scenes; None for those that the model knows.
    """

    items: int = 2000
    seed: int = 0
    batch_size: int = 20
    first_scene: int = FIRST_SCENE
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        return f"refam experiment {NAME} --items {self.items} --seed {self.seed}{style_option(self.style)}"


def run(
    test: PipelineTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Measure and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the model; None for the embedded one. The segmenter is the one that ships for the scenes.
        results: the folder of all results.
        progress: show a bar.

    Returns:
        The tables ``outcomes`` (:func:`measure`) and ``summary`` (:func:`summary`).

    Raises:
        ItemsError: a single scene, whose sentence cannot be exchanged for another scene's.
    """
    test, folder = test or PipelineTest(), folder or embedded_folder("embedded-dit")
    watch, model = Stopwatch(), load_model(folder)
    style, settings = test.style or model.scene_style, default_settings(model)
    segmenter, weights = segmenter_of(style)
    weights |= weights_sha256(folder, also=["refam.json"])
    configuration = {
        **dataclasses.asdict(test), "style": style, "settings": settings.to_dict(), "magnets": DEFAULT_MAGNETS,
        "kinds": PLAIN_KINDS if model.family.is_video else KINDS, "objects": OBJECTS,
    }  # fmt: skip
    parts = Parts(results.parent / ".cache", NAME, {**configuration, **weights})
    items = items_in(configuration, test.items, model=model)
    others = exchanged_expressions(items, test.seed)

    def make(part: slice) -> pd.DataFrame:
        return measure(model, segmenter, items[part], others[part], settings, first=part.start, seed=test.seed)

    outcomes = parts.batches(test.items, test.batch_size, make, unit="items", progress=progress)
    tables = {"outcomes": outcomes, "summary": summary(outcomes, seed=test.seed)}
    provenance = watch.provenance(test.command + model_option(folder), configuration, weights)
    result = write_result(NAME, tables, provenance, results=results)
    parts.forget()
    return result


def measure(
    model: DiffusionModel,
    segmenter: Segmenter,
    items: Sequence[GroundingItem],
    others: Sequence[str],
    settings: HeatmapSettings,
    *,
    first: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Points and masks of every way of :data:`WAYS`.

    Args:
        model: from ``load_model``.
        segmenter: from ``load_segmenter``; asked about a clip's first frame.
        items: of one size.
        others: a sentence about another scene for each.
        settings: the model's own.
        first: number of the first item; item i has the noise of seed + i times settings.seeds in every way.
        seed: of noise and known points.

    Returns:
        A row a way and item: ``way``, ``item``, ``scene``, ``kind`` (of its sentence), ``objects`` (in the scene),
        ``x``, ``y``, ``on_target``; ``intersection`` and ``union`` of mask and truth, in pixels.
    """
    points = _points(model, items, others, settings, first, seed)
    labels = {
        "item": range(first, first + len(items)),
        "scene": [item.scene for item in items],
        "kind": [item.kind for item in items],
        "objects": [len(item.distractors) + 1 for item in items],
    }
    truths = [item.masks[item.target] for item in items]
    masks = [_masks(segmenter, item, [found[i] for found in points.values()]) for i, item in enumerate(items)]
    tables = []
    for place, (way, found) in enumerate(points.items()):
        intersections, unions = mask_overlaps([some[place] for some in masks], truths)
        tables.append(
            pd.DataFrame(
                {"way": way, **labels, "x": found[:, 0], "y": found[:, 1], "on_target": points_on(found, truths),
                 "intersection": intersections, "union": unions}
            )
        )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def _points(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    others: Sequence[str],
    settings: HeatmapSettings,
    first: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """(item, 2) for each way."""
    own, noise = [item.expression for item in items], seed + first * settings.seeds

    def ask(said: Sequence[str], reading: HeatmapSettings, magnets: Sequence[str]) -> NDArray[np.float64]:
        return points_of(model, items, said, reading, magnets, seed=noise)

    return {
        "attention": ask(own, settings.attention_alone, ()),
        "reading": ask(own, settings, ()),
        PIPELINE: ask(own, settings, DEFAULT_MAGNETS),
        OTHER: ask(others, settings, DEFAULT_MAGNETS),
        KNOWN: np.array([_inside(item, (seed, number)) for number, item in enumerate(items, start=first)]),
    }


def _inside(item: GroundingItem, seed: tuple[int, int]) -> tuple[float, float]:
    """A pixel of the target in sight, all alike."""
    rows, columns = np.nonzero(item.masks[item.target])
    chosen = np.random.default_rng(seed).integers(len(rows))
    return float(columns[chosen]), float(rows[chosen])


def _masks(segmenter: Segmenter, item: GroundingItem, points: Sequence[Any]) -> NDArray[np.bool_]:
    """(point, height, width): of each point the mask that the segmenter thinks best."""
    segmenter.set_image(item.image)
    masks, scores = segmenter.predict(np.array(points))
    return masks[np.arange(len(masks)), scores.argmax(axis=1)]


def summary(outcomes: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Shares of points and IoUs of masks, by kind of sentence.

    Args:
        outcomes: from :func:`measure`.
        confidence: of the intervals.
        seed: of the bootstrap over scenes.

    Returns:
        A row a kind and way: ``kind`` ("all" first, then those of the items, where two are "attribute, location"
        between them), ``way``, ``scenes``; ``point_accuracy``, ``mean_iou``, ``overall_iou`` and ``iou_where_right``
        (the mean IoU where the point is on the target), each with ``_low`` and ``_high``.
    """
    kinds = list(outcomes["kind"].unique())
    groups = {"all": kinds, **({", ".join(PLAIN_KINDS): PLAIN_KINDS} if len(kinds) > len(PLAIN_KINDS) else {})}
    groups |= {kind: [kind] for kind in kinds}
    rows = []
    for kind, members in groups.items():
        for way, some in outcomes[outcomes["kind"].isin(members)].groupby("way", sort=False):
            rows.append({"kind": kind, "way": way, "scenes": len(some), **_shares(some, confidence, seed)})
    return pd.DataFrame(rows)


def _shares(rows: pd.DataFrame, confidence: float, seed: int) -> dict[str, float]:
    ious = ious_of(rows["intersection"], rows["union"], empty="wrong")
    right, every = rows["on_target"].to_numpy(dtype=np.float64), np.ones(len(rows))
    both, either = (rows[name].to_numpy(dtype=np.float64) for name in ("intersection", "union"))
    fractions: dict[str, tuple[Floats, Floats]] = {
        "point_accuracy": (right, every),
        "mean_iou": (ious, every),
        "overall_iou": (both, either),
        "iou_where_right": (ious * right, right),
    }
    above, below = (np.stack(part, axis=1) for part in zip(*fractions.values(), strict=True))
    low, high = bootstrap_ratio_interval(above, below, confidence=confidence, seed=seed)
    values = ratios_of(above.sum(0), below.sum(0))
    return {
        f"{name}{ending}": float(numbers[place])
        for place, name in enumerate(fractions)
        for ending, numbers in (("", values), ("_low", low), ("_high", high))
    }


def repeat(result: Result, model: DiffusionModel, segmenter: Segmenter, *, first: int, number: int) -> pd.DataFrame:
    """Compute some outcomes again, as the result's configuration says; but for those of other scenes' sentences.

    Args:
        result: from :func:`run`.
        model: the one that it was made with.
        segmenter: likewise.
        first: number of the first item.
        number: of items.

    Returns:
        Rows as in ``result["outcomes"]``.
    """
    configuration = result.provenance.configuration
    items = items_in(configuration, number, first=first, model=model)
    settings, own = HeatmapSettings.from_dict(configuration["settings"]), [item.expression for item in items]
    table = measure(model, segmenter, items, own, settings, first=first, seed=configuration["seed"])
    return table[table["way"] != OTHER]
