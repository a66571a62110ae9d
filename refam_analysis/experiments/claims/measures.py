"""From a batch of scenes to the numbers that the rules ask for: a long table, a row a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from refam_analysis.analysis.key_effects import key_effects
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.experiments.claims.profiles import about_depth, kept_of, profile_of, profile_rows, strongest_key
from refam_analysis.experiments.claims.readings import about_readings
from refam_analysis.experiments.claims.rules import CRITERIA
from refam_analysis.experiments.sink_changes import ARMS, changes_of, claims_of
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import record_batch
from refam_analysis.recording.plans import Heads
from refam_analysis.segmentation.segmenters import Segmenter
from refam_analysis.segmentation.settings import HeatmapSettings

_ASKED_ARMS = [arm for arm in ARMS if arm.path != "redirect"]
"""Of the causal tests, those that a claim asks for."""

_CONTROLLED = {criterion.name for criterion in CRITERIA if criterion.control}


@dataclass(frozen=True)
class Asked:
    """What is asked, and how.

    Attributes:
        model: from ``load_model``.
        untrained: the same with random weights, or None for no such control.
        settings: how heatmaps are read.
        segmenter: asked for the masks.
        noise_level: of the recordings from which blocks are compared.
    """

    model: DiffusionModel
    untrained: DiffusionModel | None
    settings: HeatmapSettings
    segmenter: Segmenter
    noise_level: float


def measure_batch(asked: Asked, items: Sequence[GroundingItem], *, first: int, seed: int) -> pd.DataFrame:
    """Measure everything on a batch of scenes.

    Args:
        asked: the models and how they are read.
        items: the scenes.
        first: number of the first of them in the ledger.
        seed: scene i has the noise of seed + i times settings.seeds, whatever the batch.

    Returns:
        A row a number: ``item`` (in the ledger), ``scene``, ``kind`` (of its sentence), ``source`` ("model" or
        "untrained"), ``block`` (NaN for a criterion), ``measure``, ``value``.
    """
    seeds = [seed + (first + i) * asked.settings.seeds for i in range(len(items))]
    labels = [{"item": first + i, "scene": item.scene, "kind": item.kind} for i, item in enumerate(items)]
    rows: list[dict[str, object]] = []
    for label, numbers in zip(labels, _about_blocks(asked, items, seeds), strict=True):
        rows += ({**label, **number} for number in numbers)
    found = about_readings(asked.model, items, asked.settings, asked.segmenter, seeds=seeds)
    for measure, values in found.items():
        rows += (_criterion(label, measure, value) for label, value in zip(labels, values.tolist(), strict=True))
    for label, item, of in zip(labels, items, seeds, strict=True):
        changes = changes_of(
            asked.model, item, asked.settings, numbers=(1,), draws=2, arms=_ASKED_ARMS, seed=of
        ).changes  # fmt: skip
        rows += (_criterion(label, measure, value) for measure, value in claims_of(changes).items())
    return pd.DataFrame(rows)


def untestable(model: DiffusionModel) -> dict[str, str]:
    """Which criteria a model cannot be tested by, and why.

    Args:
        model: from ``load_model``.
    """
    kept = kept_of(model.family)
    needs = {"c7": "text_to_text", "c8": "text_to_image", "c9": "entropy", "c2_gives": "entropy"}
    return {
        criterion.name: f"the model has no {quantity}"
        for criterion in CRITERIA
        for prefix, quantity in needs.items()
        if criterion.name.startswith(prefix) and quantity not in kept
    }


def _about_blocks(
    asked: Asked, items: Sequence[GroundingItem], seeds: Sequence[int]
) -> Iterator[list[dict[str, object]]]:
    """For each scene its profiles, and the criteria that follow from the recording alone."""
    models = {"model": asked.model} | ({"untrained": asked.untrained} if asked.untrained else {})
    heads: Heads = "each" if asked.settings.heads else "mean"  # a large model is read over all heads
    kept = kept_of(asked.model.family)
    recordings = {
        source: record_batch(
            model,
            [item.shown for item in items],
            [make_prompt(item.expression) for item in items],
            noise_level=asked.noise_level,
            seeds=seeds,
            keep=kept,
            heads=heads,
        )
        for source, model in models.items()
    }
    for place, item in enumerate(items):
        rows: list[dict[str, object]] = []
        for source, of in recordings.items():
            effects = key_effects(of[place])
            profile = profile_of(of[place], item, effects)
            rows += profile_rows(source, effects.blocks, profile)
            ending = "" if source == "model" else "_control"
            found = about_depth(profile) | (strongest_key(effects) if source == "model" else {})
            rows += (
                _criterion({}, f"{name}{ending}", value)
                for name, value in found.items()
                if source == "model" or name in _CONTROLLED
            )
        yield rows


def _criterion(label: Mapping[str, object], measure: str, value: float) -> dict[str, object]:
    return {**label, "source": "model", "block": float("nan"), "measure": measure, "value": value}
