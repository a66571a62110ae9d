"""Whether the embedded transformer has learnt where words point: the reported test of grounding, with its controls.

Five hundred held-out scenes of three objects, in which some distractor shares the target's colour or shape; half of the
expressions name attributes, half a place. How heatmaps are read was chosen on validation scenes
(:mod:`refam_analysis.experiments.settings`); here nothing is chosen.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from refam_analysis.evaluation.grounding import SOURCES, GroundingReport, Source, grounding_accuracy
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import hard_items_for, items_in, model_option, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.pipeline import default_settings
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.weights import embedded_folder

NAME = "grounding"
LEAST_TARGET = 0.55
LEAST_RATIO = 2.0
"""The verdict's rule: at least this share of points on the target, and so many times the likelier distractor's."""


@dataclass(frozen=True)
class GroundingTest:
    """What is measured.

    Attributes:
        items: of the test split, attribute and location expressions in turn.
        seed: of the noise, of the untrained weights, of the exchange of expressions.
        batch_size: items a forward pass.
        style: of the scenes; None for those that the model knows.
    """

    items: int = 500
    seed: int = 0
    batch_size: int = 32
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        return f"refam experiment {NAME} --items {self.items} --seed {self.seed}{style_option(self.style)}"


def run(
    test: GroundingTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Measure, with the settings in the model's ``refam.json``, and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the model; None for the embedded one.
        results: the folder of all results.
        progress: show bars.

    Returns:
        The tables ``outcomes`` and ``summary``: those of :class:`GroundingReport`, the second with all kinds together
        (``kind`` is "all") and each by itself, and with ``passed``, the verdict by the rule.
    """
    test, folder = test or GroundingTest(), folder or embedded_folder("embedded-dit")
    watch, weights = Stopwatch(), weights_sha256(folder, also=["refam.json"])
    model = load_model(folder)
    style = test.style or model.scene_style
    about = {**dataclasses.asdict(test), "style": style}
    parts = Parts(results.parent / ".cache", NAME, {**about, **weights})
    settings = default_settings(model)
    items = hard_items_for(model, "test", test.items, style=style)

    def ask(source: Source) -> pd.DataFrame:
        return grounding_accuracy(
            model, items, settings, sources=[source], batch_size=test.batch_size, seed=test.seed, progress=progress
        ).outcomes

    outcomes = pd.concat([parts.keep(source, partial(ask, source)) for source in SOURCES], ignore_index=True)
    tables = {"outcomes": outcomes, "summary": summary(GroundingReport(outcomes, settings))}
    configuration = {
        **about,
        "settings": settings.to_dict(),
        "rule": f"target >= {LEAST_TARGET} and target >= {LEAST_RATIO:g} x likelier distractor",
    }
    result = write_result(
        NAME, tables, watch.provenance(test.command + model_option(folder), configuration, weights), results=results
    )
    parts.forget()
    return result


def summary(report: GroundingReport) -> pd.DataFrame:
    """Of all kinds together, then of each, with the verdict on every row.

    Args:
        report: of all sources.

    Returns:
        The rows of ``report.summary``, with ``kind`` "all" for the first of them, and ``passed``.
    """
    together = report.summary().assign(kind="all")
    table = pd.concat([together, report.summary(by_kind=True)], ignore_index=True)
    table["passed"] = (table["target"] >= LEAST_TARGET) & (table["ratio"] >= LEAST_RATIO)
    return table


def repeat(result: Result, model: DiffusionModel, *, first: int, number: int) -> pd.DataFrame:
    """Compute some of the model's outcomes again, as the result's configuration says.

    Args:
        result: from :func:`run`.
        model: the one that it was made with.
        first: number of the first item.
        number: of items.

    Returns:
        Rows as in ``result["outcomes"]``, of the source "model".
    """
    configuration = result.provenance.configuration
    settings = HeatmapSettings.from_dict(configuration["settings"])
    items = items_in(configuration, number, first=first, model=model)
    seed = configuration["seed"] + first * settings.seeds
    outcomes = grounding_accuracy(model, items, settings, sources=["model"], seed=seed).outcomes
    return outcomes.assign(item=outcomes["item"] + first)
