"""Scores of runs with their intervals: of all expressions, and of slices of them.

The unit is the image or clip: its expressions share noise, picture and often target, so whole images are drawn by the
bootstrap. Every score is a ratio of sums over expressions, cumulative IoU included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.analysis.statistics import bootstrap_ratio_interval, cluster_sums, ratios_of
from refam_analysis.evaluation.items import ItemsError
from refam_analysis.evaluation.metrics import PRECISION_THRESHOLDS
from refam_analysis.evaluation.runner.store import RunResults

Floats = NDArray[np.float64]
Parts = tuple[Floats, Floats]
"""Numerators and denominators of scores, each (expressions, metrics) or (images, metrics)."""

IMAGE_METRICS = ("oIoU", "mIoU", *(f"P@{threshold:g}" for threshold in PRECISION_THRESHOLDS), "PA")
CLIP_METRICS = ("J&F", "J", "F", "PA")
MAIN_METRICS = ("oIoU", "mIoU", "PA", "J&F")
"""What slices and differences are shown of."""


def metrics_of(run: RunResults) -> tuple[str, ...]:
    """The names of the scores that a run has: of still pictures, or of clips."""
    return CLIP_METRICS if run.video else IMAGE_METRICS


def score_parts(table: pd.DataFrame, *, video: bool) -> Parts:
    """What each expression adds to the numerator and to the denominator of each score.

    Args:
        table: rows of a run.
        video: whether they are of clips.

    Returns:
        Two arrays (expressions, metrics), in the order of ``IMAGE_METRICS`` or ``CLIP_METRICS``. An expression that
        has no such value (no target to point at; an empty pair that is skipped) adds nothing to either.
    """
    if video:
        values = {"J&F": (table["j"] + table["f"]) / 2, "J": table["j"], "F": table["f"], "PA": table["on_target"]}
        pairs = [_mean_parts(values[name]) for name in CLIP_METRICS]
    else:
        iou = table["iou"]
        reached = [(iou >= threshold).astype(float).where(iou.notna()) for threshold in PRECISION_THRESHOLDS]
        overall = (table["intersection"].to_numpy(dtype=float), table["union"].to_numpy(dtype=float))
        pairs = [overall, *(_mean_parts(values) for values in (iou, *reached, table["on_target"]))]
    return np.stack([pair[0] for pair in pairs], axis=1), np.stack([pair[1] for pair in pairs], axis=1)


def score_table(runs: Sequence[RunResults], *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """The scores of runs, with bootstrap intervals over images.

    Args:
        runs: from ``load_results``; a run that is not finished is scored as far as it has come.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        A row a run and metric: ``run``, ``dataset``, ``split``, ``metric``, ``value`` with its ends ``low`` and
        ``high``, ``images`` (or clips), ``expressions``, ``failed`` (expressions that got no mask; they count as
        wrong), ``missing`` (images without rows yet), ``origin`` "measured".

    Source: intervals: :func:`~refam_analysis.analysis.statistics.bootstrap_ratio_interval`.
    """
    rows = []
    for run in runs:
        about = run.about["configuration"]
        for row in _scored(run.table, run.video, confidence, seed):
            named = {"run": run.name, "dataset": about["dataset"], "split": about["split"]}
            rows.append({**named, **row, "missing": run.missing, "origin": "measured"})
    return _with_confidence(rows, confidence)


def slice_table(
    run: RunResults, *, by: Sequence[str] | None = None, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """The scores of slices of one run.

    Args:
        run: from ``load_results``.
        by: which of :data:`SLICES`; None for all that the data set's facts allow.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        A row a slice and metric: ``run``, ``by``, ``slice``, ``metric``, ``value`` with ``low`` and ``high``,
        ``images``, ``expressions`` and ``failed``, as :func:`score_table` has them. Slices are in their order; those
        without an expression are left out.

    Raises:
        ItemsError: there is no such way to slice.
    """
    if unknown := [name for name in by or () if name not in SLICES]:
        raise ItemsError(f"Expressions are not sliced by {unknown[0]!r}: choose among {', '.join(SLICES)}.")
    rows = []
    for name in by or SLICES:
        labels = SLICES[name](run.table)
        if labels is None:
            continue
        for label in labels.cat.categories:
            part = run.table[(labels == label).to_numpy()]
            if len(part):
                rows += [
                    {"run": run.name, "by": name, "slice": str(label), **row}
                    for row in _scored(part, run.video, confidence, seed)
                ]
    return _with_confidence(rows, confidence)


def _scored(table: pd.DataFrame, video: bool, confidence: float, seed: int) -> list[dict[str, object]]:
    if table.empty:
        return []
    items = table["item"].to_numpy()
    numerators, denominators = (cluster_sums(part, items) for part in score_parts(table, video=video))
    low, high = bootstrap_ratio_interval(numerators, denominators, confidence=confidence, seed=seed)
    values = ratios_of(numerators.sum(axis=0), denominators.sum(axis=0))
    counts = {
        "images": len(numerators), "expressions": len(table), "failed": int(table["error"].notna().sum()),
    }  # fmt: skip
    return [
        {"metric": metric, "value": values[i], "low": low[i], "high": high[i], **counts}
        for i, metric in enumerate(CLIP_METRICS if video else IMAGE_METRICS)
    ]


def _mean_parts(values: pd.Series) -> Parts:
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    present = np.isfinite(numbers)
    return np.where(present, numbers, 0.0), present.astype(float)


def _with_confidence(rows: list[dict[str, object]], confidence: float) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    table.attrs["confidence"] = confidence
    return table


# Slices


def _by_kind(table: pd.DataFrame) -> pd.Series | None:
    kinds = table["kind"].where(table["kind"] != "", "(none)")
    return kinds.astype(pd.CategoricalDtype(list(dict.fromkeys(kinds))))


def _cut(name: str, edges: Sequence[float], labels: Sequence[str]) -> Callable[[pd.DataFrame], pd.Series | None]:
    """A slicing by a number: [edge, next edge) with its label."""

    def cut(table: pd.DataFrame) -> pd.Series | None:
        if name not in table or not table[name].notna().any():
            return None
        return pd.Series(pd.cut(table[name].astype(float), list(edges), labels=list(labels), right=False))

    return cut


SLICES: Mapping[str, Callable[[pd.DataFrame], pd.Series | None]] = MappingProxyType(
    {
        "kind": _by_kind,
        "length": _cut("fact_words", (0, 3, 5, 8, np.inf), ("1-2 words", "3-4 words", "5-7 words", "8 words or more")),
        "target size": _cut(
            "fact_target_area", (0, 0.01, 0.05, 0.2, 1.01),
            ("under 1 % of the picture", "1-5 %", "5-20 %", "20 % or more"),
        ),
        "same-class distractors": _cut(
            "fact_distractors", (0, 1, 2, 3, np.inf), ("none", "1 distractor", "2 distractors", "3 or more")
        ),
    }
)  # fmt: skip
"""How expressions are sliced, by name: a function from the table to a label a row, or None where the data set does not
know the fact. Edges are fixed, so that slices of different runs can be compared."""
