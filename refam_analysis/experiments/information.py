"""What a model knows of where a sentence's object is, beside what its attention shows, on the items of the grounding.

The points are the maxima of :func:`refam_analysis.evaluation.information_maps`, which ask the model's errors and no
attention. Where they lie on the target more often than those of the attention, the attention hides what the model
knows; where they do so no more often than with another scene's expression, the errors tell nothing. Nothing is chosen
here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.evaluation.comparison import paired_accuracy
from refam_analysis.evaluation.grounding import GroundingReport, Source, exchanged_expressions, outcomes_of, points_of
from refam_analysis.evaluation.information import DRAWS, NOISE_LEVELS, Estimate, information_of_each
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import hard_items_for, model_option, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.pipeline import default_settings
from refam_analysis.segmentation.point import peaks
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.weights import embedded_folder

NAME = "information"
ATTENTION = "attention"
"""The reading that the others are compared with."""


@dataclass(frozen=True)
class InformationTest:
    """What is measured.

    Attributes:
        items: of the test split, attribute and location expressions in turn: those of the grounding.
        seed: of the noise and of the exchange of expressions.
        noise_levels: t in (0, 1], at which errors are compared.
        draws: of noise at each level.
        batch_size: items a part that is kept, and a forward pass.
        style: of the scenes; None for those that the model knows.
    """

    items: int = 500
    seed: int = 0
    noise_levels: tuple[float, ...] = NOISE_LEVELS
    draws: int = DRAWS
    batch_size: int = 20
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        return f"refam experiment {NAME} --items {self.items} --seed {self.seed}{style_option(self.style)}"


def run(
    test: InformationTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Measure and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the model; None for the embedded one.
        results: the folder of all results.
        progress: show a bar.

    Returns:
        The tables ``outcomes`` (:func:`measure`) and ``summary`` (:func:`summary`).

    Raises:
        ItemsError: a single scene, whose expression cannot be exchanged for another scene's.
    """
    test, folder = test or InformationTest(), folder or embedded_folder("embedded-dit")
    watch, weights = Stopwatch(), weights_sha256(folder, also=["refam.json"])
    model = load_model(folder)
    style, settings = test.style or model.scene_style, default_settings(model)
    configuration = {**dataclasses.asdict(test), "style": style, "settings": settings.to_dict()}
    parts = Parts(results.parent / ".cache", NAME, {**configuration, **weights})
    items = hard_items_for(model, "test", test.items, style=style)
    others = exchanged_expressions(items, test.seed)

    def make(part: slice) -> pd.DataFrame:
        return measure(model, items[part], others[part], settings, test, first=part.start)

    outcomes = parts.batches(test.items, test.batch_size, make, unit="items", progress=progress)
    # A part whose scenes have fewer objects lacks the columns of the others.
    outcomes = outcomes.fillna({name: 0.0 for name in outcomes if str(name).startswith("distractor_")})
    tables = {"outcomes": outcomes, "summary": summary(outcomes, settings, seed=test.seed)}
    provenance = watch.provenance(test.command + model_option(folder), configuration, weights)
    result = write_result(NAME, tables, provenance, results=results)
    parts.forget()
    return result


def measure(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    others: Sequence[str],
    settings: HeatmapSettings,
    test: InformationTest,
    *,
    first: int = 0,
) -> pd.DataFrame:
    """Where the points of every reading fall.

    Args:
        model: from ``load_model``.
        items: of one size.
        others: an expression of another scene for each.
        settings: how the attention is read.
        test: noise levels, draws, seed.
        first: number of the first item.

    Returns:
        A row a reading, source and item: ``reading`` ("attention", "gain", "change"), and the columns of
        :attr:`~refam_analysis.evaluation.GroundingReport.outcomes`. Its sources "model" and, of the maps of
        information, "other_expression".
    """
    own = [item.expression for item in items]
    attention = points_of(model, items, own, settings, (), seed=test.seed + first * settings.seeds)
    tables = [outcomes_of("model", items, attention).assign(reading=ATTENTION)]
    sources: tuple[Source, ...] = ("model", "other_expression")
    for source, found in zip(sources, _points(model, items, (own, others), test, first), strict=True):
        for reading, points in found.items():
            tables.append(outcomes_of(source, items, points).assign(reading=reading))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(item=table["item"] + first)


def _points(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    sayings: Sequence[Sequence[str]],
    test: InformationTest,
    first: int,
) -> Iterator[dict[Estimate, NDArray[np.float64]]]:
    """For each saying, (item, 2) for each estimate, of the first frame where there are several."""
    height, width = items[0].image.shape[:2]
    for maps in information_of_each(
        model, [item.shown for item in items], sayings,
        noise_levels=test.noise_levels, draws=test.draws, seed=test.seed + first * test.draws,
    ):  # fmt: skip
        stills = {name: values if values.ndim == 3 else values[:, 0] for name, values in maps.items()}
        yield {name: peaks(values, (height, width)) for name, values in stills.items()}


def summary(outcomes: pd.DataFrame, settings: HeatmapSettings, *, seed: int = 0) -> pd.DataFrame:
    """Shares of points, and what they are more or less than those of the attention.

    Args:
        outcomes: from :func:`measure`.
        settings: how the attention was read.
        seed: of the bootstrap over scenes.

    Returns:
        A row a kind ("all" first), reading and source: ``kind``, ``reading``, and the columns of
        :meth:`~refam_analysis.evaluation.GroundingReport.summary`; on the rows of the model also ``change``, the mean
        over scenes of what is more on the target than of the attention, with ``change_low``, ``change_high`` and ``p``.
    """
    groups = {"all": outcomes, **dict(iter(outcomes.groupby("kind", sort=False)))}
    tables = []
    for kind, rows in groups.items():
        reports = {name: GroundingReport(part, settings) for name, part in rows.groupby("reading", sort=False)}
        paired = paired_accuracy(reports, baseline=ATTENTION, seed=seed).rename(columns={"condition": "reading"})
        paired = paired[["reading", "change", "change_low", "change_high", "p"]].assign(source="model")
        shares = [report.summary(seed=seed).assign(reading=name) for name, report in reports.items()]
        tables.append(pd.concat(shares, ignore_index=True).merge(paired, how="left").assign(kind=kind))
    table = pd.concat(tables, ignore_index=True)
    first = ["kind", "reading", "source"]
    return table[first + [name for name in table if name not in first]]
