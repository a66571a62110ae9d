"""Runs of the same data set against one another, expression by expression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from refam_analysis.analysis.statistics import (
    benjamini_hochberg,
    bootstrap_ratios,
    cluster_sums,
    percentile_interval,
    ratios_of,
    swap_p,
)
from refam_analysis.errors import RefamError
from refam_analysis.evaluation.report.scores import metrics_of, score_parts
from refam_analysis.evaluation.runner.description import differences
from refam_analysis.evaluation.runner.store import RunResults


class RunsDifferError(RefamError, ValueError):
    """Runs that have no expressions in common, or not of one data set."""


def difference_table(
    runs: Sequence[RunResults], *, confidence: float = 0.95, flips: int = 20_000, seed: int = 0
) -> pd.DataFrame:
    """Every run after the first against the first, over the expressions that both have.

    Args:
        runs: two or more, of one data set and split.
        confidence: of the intervals, by a bootstrap over images that draws the same images for both runs.
        flips: exchanges of the two runs' rows, image by image, for p.
        seed: of both.

    Returns:
        A row a run and metric: ``run``, ``against``, ``metric``, ``before`` (the first run's score), ``after``,
        ``change``, ``low``, ``high``, ``p`` (two-sided), ``q`` (false discovery rate over all rows), ``images``,
        ``expressions``.

    Raises:
        RunsDifferError: a run is of another data set or split, or has no expression of the first.

    Source: :func:`~refam_analysis.analysis.statistics.bootstrap_ratios` and
    :func:`~refam_analysis.analysis.statistics.swap_p`.
    """
    first = runs[0]
    rows = [row for run in runs[1:] for row in _compared(first, run, confidence, flips, seed)]
    table = pd.DataFrame(rows)
    if len(table):
        table.insert(table.columns.get_loc("p") + 1, "q", benjamini_hochberg(table["p"].to_numpy(dtype=float)))
    table.attrs["confidence"] = confidence
    return table


def what_differs(first: RunResults, second: RunResults) -> dict[str, tuple[object, object]]:
    """The entries of two runs' configurations, models, settings and versions that differ, by dotted names."""
    named = ("configuration", "model", "segmenter", "propagator", "settings", "versions")
    return differences(*({name: run.about.get(name, {}) for name in named} for run in (first, second)))


def _compared(
    first: RunResults, second: RunResults, confidence: float, flips: int, seed: int
) -> list[dict[str, object]]:
    for entry in ("dataset", "split"):
        one, other = (run.about["configuration"][entry] for run in (first, second))
        if one != other:
            raise RunsDifferError(
                f"{first.name} is of the {entry} {one!r}, {second.name} of {other!r}: compare runs of the same one."
            )
    tables = [run.table.set_index(["item", "expression"]) for run in (first, second)]
    common = tables[0].index.intersection(tables[1].index)
    if not len(common):
        raise RunsDifferError(f"{first.name} and {second.name} have no expression in common.")
    items = common.get_level_values("item").to_numpy()
    sides = [
        tuple(cluster_sums(part, items) for part in score_parts(table.loc[common], video=first.video))
        for table in tables
    ]
    totals = [ratios_of(numerators.sum(axis=0), denominators.sum(axis=0)) for numerators, denominators in sides]
    draws = [bootstrap_ratios(*side, seed=seed) for side in sides]
    low, high = percentile_interval(draws[1] - draws[0], confidence=confidence)
    p = swap_p((sides[0][0], sides[0][1]), (sides[1][0], sides[1][1]), flips=flips, seed=seed)
    images = len(sides[0][0])
    low, high = (np.where(images > 1, end, np.nan) for end in (low, high))
    return [
        {
            "run": second.name, "against": first.name, "metric": metric, "before": totals[0][i], "after": totals[1][i],
            "change": totals[1][i] - totals[0][i], "low": low[i], "high": high[i], "p": p[i], "images": images,
            "expressions": len(common),
        }
        for i, metric in enumerate(metrics_of(first))
    ]  # fmt: skip
