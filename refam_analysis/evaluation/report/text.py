"""Tables of a report as text for a terminal: measured scores, and published ones that say so."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from refam_analysis.evaluation.published import published_rows
from refam_analysis.evaluation.report.differences import what_differs
from refam_analysis.evaluation.report.scores import MAIN_METRICS
from refam_analysis.evaluation.runner.store import RunResults


def beside_published(scores: pd.DataFrame) -> pd.DataFrame:
    """Measured scores, and under them what others published on the same data sets and splits.

    Args:
        scores: from :func:`~refam_analysis.evaluation.report.scores.score_table`.

    Returns:
        Columns ``origin`` ("measured" or "published"), ``run`` (or the published method), ``dataset``, ``split``,
        ``metric``, ``value``, ``low``, ``high`` (NaN where nothing says), ``images``, ``source``. A published row has
        a metric that is measured too.
    """
    parts = [scores.assign(source="this run")]
    for (dataset, split), rows in scores.groupby(["dataset", "split"], sort=False):
        known = published_rows(str(dataset), str(split))
        known = known[known["metric"].isin(rows["metric"])]
        if len(known):
            parts.append(known.rename(columns={"method": "run"}))
    columns = ["origin", "run", "dataset", "split", "metric", "value", "low", "high", "images", "source"]
    table = pd.concat(parts, ignore_index=True)[columns]
    table.attrs["confidence"] = scores.attrs.get("confidence")
    return table


def scores_as_text(scores: pd.DataFrame) -> str:
    """Measured and published scores, one line a method, in per cent; measured ones with their intervals.

    Args:
        scores: from :func:`~refam_analysis.evaluation.report.scores.score_table`.
    """
    table = beside_published(scores)
    metrics = list(dict.fromkeys(table["metric"]))
    keys = ["origin", "dataset", "split", "run"]
    table["shown"] = [_with_ends(row) for row in table.itertuples()]
    wide = table.pivot_table(index=keys, columns="metric", values="shown", aggfunc="first", sort=False)
    return wide.reindex(columns=metrics).fillna("").reset_index().rename_axis(columns=None).to_string(index=False)


def slices_as_text(slices: pd.DataFrame) -> str:
    """Slices, one line each, in per cent with intervals, of the main metrics.

    Args:
        slices: from :func:`~refam_analysis.evaluation.report.scores.slice_table`.
    """
    table = slices[slices["metric"].isin(MAIN_METRICS)].copy()
    table["shown"] = [_with_ends(row) for row in table.itertuples()]
    keys = ["by", "slice", "expressions", "images"]
    wide = table.pivot_table(index=keys, columns="metric", values="shown", aggfunc="first", sort=False, observed=True)
    metrics = list(dict.fromkeys(table["metric"]))
    return wide.reindex(columns=metrics).reset_index().rename_axis(columns=None).to_string(index=False)


def differences_as_text(differences: pd.DataFrame) -> str:
    """Differences of runs in points of per cent, with intervals, p and q.

    Args:
        differences: from :func:`~refam_analysis.evaluation.report.differences.difference_table`.
    """
    table = differences.copy()
    for name in ("before", "after"):
        table[name] = [f"{100 * value:.1f}" for value in table[name]]
    table["change"] = [
        f"{100 * row.change:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]" for row in differences.itertuples()
    ]
    for name in ("p", "q"):
        table[name] = [f"{value:.2g}" for value in table[name]]
    return table.drop(columns=["low", "high"]).to_string(index=False)


def state_of(run: RunResults) -> str:
    """One line about a run: how much of it there is, and what went wrong.

    Args:
        run: from ``load_results``.
    """
    failed, items = int(run.table["error"].notna().sum()), "clips" if run.video else "images"
    parts = [f"{run.name}: {len(run.table)} expressions of {run.table['item'].nunique()} {items}"]
    if run.missing:
        parts.append(f"NOT FINISHED, {run.missing} {items} are missing")
    if failed:
        parts.append(f"{failed} failed and count as wrong")
    if left_out := len(run.about.get("problems", ())):
        parts.append(f"{left_out} left out by the reader of the data set")
    return "; ".join(parts)


def settings_as_text(runs: Sequence[RunResults]) -> str:
    """What the runs after the first do differently.

    Args:
        runs: from ``load_results``.
    """
    lines = []
    for run in runs[1:]:
        differ = what_differs(runs[0], run)
        shown = "; ".join(f"{name} {before!r} -> {after!r}" for name, (before, after) in differ.items())
        lines.append(f"{runs[0].name} -> {run.name}: {shown or 'nothing differs'}")
    return "\n".join(lines)


def _with_ends(row: object) -> str:
    value, low, high = (100 * float(getattr(row, name)) for name in ("value", "low", "high"))
    return f"{value:.1f}" if pd.isna(low) else f"{value:.1f} [{low:.1f}, {high:.1f}]"
