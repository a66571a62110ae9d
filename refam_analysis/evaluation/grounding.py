"""Whether a model's attention points at what a sentence means, on scenes with exact truth.

Here points are counted: on the target, on the distractors, elsewhere; for the model, and for controls that share
everything with it but one thing. Which settings to read heatmaps with is chosen in
:mod:`refam_analysis.evaluation.search`, on other scenes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from refam_analysis.analysis.tables import means_with_intervals
from refam_analysis.errors import RefamError
from refam_analysis.evaluation.items import GroundingItem, ItemsError
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import make_prompt
from refam_analysis.segmentation.informative import with_numbered_blocks
from refam_analysis.segmentation.pipeline import default_settings, record_for_heatmaps
from refam_analysis.segmentation.point import pixel_of
from refam_analysis.segmentation.points import sentence_points
from refam_analysis.segmentation.settings import HeatmapSettings

Source = Literal["model", "untrained", "other_expression", "random_point"]
SOURCES: tuple[Source, ...] = get_args(Source)
"""Where points come from: the model; the same transformer with random weights; the model, asked with the expression
of another scene; and a pixel drawn at random."""

Hits = NDArray[np.float64]
"""(item, place): the probability that an item's point lies on its target (place 0), on its first, second ...
distractor, and last on nothing. Zeros and ones where there is one point."""


class NoItemsError(RefamError, ValueError):
    """A share over no items."""

    def __init__(self) -> None:
        super().__init__("There is no item to measure on: give at least one, such as hard_items('test', 500).")


@dataclass(frozen=True)
class GroundingReport:
    """Where the points fell.

    Attributes:
        outcomes: a row an item and source: ``source``, ``item``, ``scene``, ``kind``, ``expression``, ``x``, ``y``
            (NaN for a random point), and the probabilities ``target``, ``distractor_1`` (the one most like the
            target), ``distractor_2`` ..., ``background``, which sum to 1.
        settings: how the heatmaps were read.
    """

    outcomes: pd.DataFrame
    settings: HeatmapSettings

    def summary(self, *, by_kind: bool = False, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
        """Shares of points with bootstrap intervals over scenes.

        The likelier distractor is the one of ``distractor_1``, ``distractor_2`` ... that most points fell on, over
        all the items of the row.

        Args:
            by_kind: a row for each kind of expression too, not only for all together.
            confidence: of the intervals.
            seed: of the bootstrap.

        Returns:
            A row a source (and kind): ``items``; ``target``, ``likelier_distractor`` and ``elsewhere``, which sum to
            1, each with ``_low`` and ``_high``; ``ratio``, the first over the second.
        """
        keys = ["source", "kind"] if by_kind else ["source"]
        rows = [
            {**dict(zip(keys, names, strict=True)), **_shares(group, confidence, seed)}
            for names, group in self.outcomes.groupby(keys, sort=False)
        ]
        return pd.DataFrame(rows)


def grounding_accuracy(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    settings: HeatmapSettings | None = None,
    *,
    magnets: Sequence[str] = (),
    sources: Sequence[Source] = SOURCES,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = False,
) -> GroundingReport:
    """Ask a model, and the controls, where the object of each sentence is.

    Args:
        model: from ``load_model``.
        items: from :func:`~refam_analysis.evaluation.items.hard_items`, or your own.
        settings: how heatmaps are read; None for the model's own. Choose them on other items than these.
        magnets: appended to every expression.
        sources: which of :data:`SOURCES`.
        batch_size: items a forward pass. The outcome does not depend on it, but for the rounding of matrix products.
        seed: item i has the noise of seed + i times settings.seeds; also of the untrained weights and of the exchange
            of expressions.
        progress: show a bar.

    Returns:
        Outcomes an item and a source of points, with shares and intervals.

    Raises:
        NoItemsError: there is no item.
        ItemsError: an unknown source, or a single expression that cannot be exchanged for another scene's.
    """
    if not items:
        raise NoItemsError
    if unknown := [source for source in sources if source not in SOURCES]:
        raise ItemsError(f"There are no points from {unknown}: choose among {', '.join(SOURCES)}.")
    settings = with_numbered_blocks(model, settings or default_settings(model))
    texts = [item.expression for item in items]

    def ask(asked: DiffusionModel, expressions: Sequence[str], label: str) -> NDArray[np.float64]:
        batches = range(0, len(items), batch_size)
        found = []
        for i in tqdm(batches, desc=label, disable=not progress):
            part = slice(i, i + batch_size)
            first = seed + i * settings.seeds
            found.append(points_of(asked, items[part], expressions[part], settings, magnets, seed=first))
        return np.concatenate(found)

    points: dict[Source, Callable[[], NDArray[np.float64]]] = {
        "model": lambda: ask(model, texts, "model"),
        "untrained": lambda: ask(untrained(model, seed), texts, "untrained"),
        "other_expression": lambda: ask(model, exchanged_expressions(items, seed), "other expression"),
        "random_point": lambda: np.full((len(items), 2), np.nan),
    }
    return GroundingReport(pd.concat([outcomes_of(source, items, points[source]()) for source in sources]), settings)


def points_of(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    expressions: Sequence[str],
    settings: HeatmapSettings,
    magnets: Sequence[str],
    *,
    seed: int,
) -> NDArray[np.float64]:
    """(item, 2): the points that :func:`refam_analysis.segment` gives for one batch, in pixels of the items' images.

    Args:
        model: from ``load_model``.
        items: for their images.
        expressions: one an item, that the model is asked.
        settings: how heatmaps are read, with all their switches.
        magnets: appended to every expression.
        seed: item i has the noise of seed + i times settings.seeds.
    """
    settings = with_numbered_blocks(model, settings)
    prompts = [make_prompt(expression, magnets) for expression in expressions]
    images = [item.shown for item in items]
    seeds = [seed + i * settings.seeds for i in range(len(items))]
    groups = record_for_heatmaps(model, images, prompts, settings, seeds=seeds)
    return sentence_points(groups, [settings], [item.image.shape[:2] for item in items])[:, 0]


def hits(items: Sequence[GroundingItem], points: NDArray[np.float64], *, distractors: int | None = None) -> Hits:
    """What each point lies on.

    Args:
        items: with their masks.
        points: (item, ..., 2), in pixels of each item's image; NaN for a pixel drawn at random, whose probabilities
            are the objects' shares of the picture.
        distractors: how many places to keep for them; None for as many as an item has at most.

    Returns:
        (item, ..., place), as :data:`Hits` says. Items with fewer objects than others have zeros at the missing ones.
    """
    most = max(len(item.distractors) for item in items) if distractors is None else distractors
    result = np.zeros((*points.shape[:-1], most + 2))
    for item, xy, row in zip(items, points, result, strict=True):
        visible = item.masks[[item.target, *item.distractors]]
        row[..., : len(visible)] = visible.mean(axis=(1, 2))
        known = ~np.isnan(xy).any(axis=-1)
        rows, columns = np.moveaxis(pixel_of(xy[known], visible.shape[1:]), -1, 0)
        row[known, : len(visible)] = visible[:, rows, columns].T
        row[..., -1] = 1.0 - row[..., :-1].sum(axis=-1)
    return result


def untrained(model: DiffusionModel, seed: int = 0) -> DiffusionModel:
    """The same model with a transformer that has learnt nothing: same configuration, weights drawn anew.

    Text encoders and autoencoder stay as they are, so that only what the transformer learnt is missing.

    Args:
        model: left unchanged.
        seed: of the weights.

    Returns:
        A model of its own; the one given is left as it is.
    """
    trained: Any = model.transformer
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = type(trained).from_config(trained.config)
    weight = next(trained.parameters())
    fresh = fresh.to(weight.device) if fresh.dtype == weight.dtype else fresh.to(weight.device, weight.dtype)
    result = copy.copy(model)
    result.transformer = fresh.eval()
    return result


def exchanged_expressions(items: Sequence[GroundingItem], seed: int) -> list[str]:
    """For each item the expression of an item of another scene, every expression used once where that is possible.

    Args:
        items: of two scenes or more.
        seed: of the exchange.

    Raises:
        ItemsError: there is no other scene.
    """
    if len({item.scene for item in items}) < 2:
        raise ItemsError(
            "The control with the expression of another scene needs items of two scenes: give more, or "
            "leave it out of sources."
        )
    order = np.random.default_rng(seed).permutation(len(items))
    exchanged = [""] * len(items)
    for position, index in enumerate(order):
        others = (order[(position + step) % len(order)] for step in range(1, len(order)))
        exchanged[index] = next(items[j].expression for j in others if items[j].scene != items[index].scene)
    return exchanged


def outcomes_of(source: Source, items: Sequence[GroundingItem], points: NDArray[np.float64]) -> pd.DataFrame:
    """A row an item, as in :attr:`GroundingReport.outcomes`; ``points`` is (item, 2), NaN for a random one."""
    places = hits(items, points)
    table = pd.DataFrame({"source": source, "item": range(len(items)), "scene": [item.scene for item in items]})
    table["kind"] = [item.kind for item in items]
    table["expression"] = [item.expression for item in items]
    table["x"], table["y"] = points.T
    table["target"] = places[:, 0]
    for rank in range(1, places.shape[1] - 1):
        table[f"distractor_{rank}"] = places[:, rank]
    table["background"] = places[:, -1]
    return table


def _shares(rows: pd.DataFrame, confidence: float, seed: int) -> dict[str, float]:
    """Shares over the items, with intervals that draw whole scenes."""
    distractors = [name for name in rows if str(name).startswith("distractor_")]
    likelier = rows[distractors].mean().idxmax() if distractors else None
    table = pd.DataFrame({"target": rows["target"], "likelier_distractor": rows[likelier] if likelier else 0.0})
    table["elsewhere"] = 1.0 - table.sum(axis=1)
    by_scene = table.groupby(rows["scene"].to_numpy()).mean()
    means = means_with_intervals(by_scene, confidence=confidence, seed=seed)
    result: dict[str, float] = {"items": len(rows), **means}
    result["ratio"] = means["target"] / means["likelier_distractor"] if means["likelier_distractor"] else np.inf
    return result
