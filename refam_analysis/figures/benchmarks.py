"""Figures of benchmark runs: scores beside published ones, slices, and differences between runs.

A measured value is a filled dot with its interval over images. A published one is an empty diamond without an interval,
and its name says "published": it was read from a paper, not measured here.
"""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from refam_analysis.figures.parts import interval_reach
from refam_analysis.figures.style import FAINT, INK, SERIES_LOOKS, only_value

_MEASURED, _PUBLISHED = SERIES_LOOKS[0], SERIES_LOOKS[1]


def benchmark_scores(axes: Axes, table: pd.DataFrame, *, metric: str) -> Axes:
    """One metric of every run and of every published method, from top to bottom.

    Args:
        axes: to draw on.
        table: from :func:`~refam_analysis.evaluation.report.text.beside_published`, of one data set and split.
        metric: such as "oIoU".

    Returns:
        ``axes``.
    """
    rows = table[table["metric"] == metric].reset_index(drop=True)
    measured = (rows["origin"] == "measured").to_numpy()
    places = np.arange(len(rows))
    _dots(axes, rows[measured], places[measured])
    axes.plot(
        100 * rows.loc[~measured, "value"], places[~measured], ls="", marker="D", markersize=5,
        markerfacecolor="none", color=_PUBLISHED.colour, label="published",
    )  # fmt: skip
    names = [f"{name}{'' if ours else ' (published)'}" for name, ours in zip(rows["run"], measured, strict=True)]
    return _listed(axes, names, f"{metric} in %\n{_statement(rows[measured], table)}")


def published_scores(axes: Axes, table: pd.DataFrame, *, highlighted: str = "RefAM") -> Axes:
    """Published scores of several methods: a row a split, a hollow marker a method, none of them measured here.

    Args:
        axes: to draw on.
        table: from :func:`~refam_analysis.evaluation.published.published_rows`, of one metric.
        highlighted: the method that is drawn in colour; the others are grey.

    Returns:
        ``axes``.

    Raises:
        ValueError: several metrics.
    """
    metric = only_value(table, "metric")
    rows = table["dataset"] + " " + table["split"]
    names = list(dict.fromkeys(rows))
    methods = [name for name in dict.fromkeys(table["method"]) if name != highlighted]
    markers = dict(zip([*methods, highlighted], [*islice(cycle("osv^Pp<>X"), len(methods)), "D"], strict=True))
    for method, marker in markers.items():
        own = (table["method"] == method).to_numpy()
        colour = _PUBLISHED.colour if method == highlighted else FAINT
        axes.plot(
            100 * table.loc[own, "value"], [names.index(name) for name in rows[own]], ls="", marker=marker,
            markersize=6, markerfacecolor="none", color=colour, label=f"{method} (published)",
        )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(f"{metric} in %, as published, without intervals")
    axes.grid(axis="x")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return axes


def slice_scores(axes: Axes, table: pd.DataFrame, *, metric: str) -> Axes:
    """One metric of every slice of a run, with the number of expressions of each.

    Args:
        axes: to draw on.
        table: from :func:`~refam_analysis.evaluation.report.scores.slice_table`.
        metric: such as "mIoU".

    Returns:
        ``axes``.
    """
    rows = table[table["metric"] == metric].reset_index(drop=True)
    new = (rows["by"] != rows["by"].shift()).to_numpy()
    places = np.arange(len(rows)) + 0.8 * (np.cumsum(new) - 1)
    _dots(axes, rows, places)
    names = [f"{row.slice} (n = {row.expressions})" for row in rows.itertuples()]
    _listed(axes, names, f"{metric} in %, n expressions\n{_interval(table)} over {_units(rows)}", places)
    for by, place in zip(rows.loc[new, "by"], places[new], strict=True):
        axes.annotate(
            f"by {by}", (1.0, place - 0.55), xycoords=("axes fraction", "data"), ha="right", va="center",
            fontsize=8, color=INK,
        )  # fmt: skip
    return axes


def run_differences(axes: Axes, table: pd.DataFrame, *, metric: str | None = None) -> Axes:
    """By how much runs differ from the first, in points of per cent; the dotted line is no difference.

    Args:
        axes: to draw on.
        table: from :func:`~refam_analysis.evaluation.report.differences.difference_table`.
        metric: the only one to draw; None for all.

    Returns:
        ``axes``.
    """
    rows = table if metric is None else table[table["metric"] == metric]
    rows = rows.reset_index(drop=True).rename(columns={"change": "value"})
    _dots(axes, rows, np.arange(len(rows)))
    axes.axvline(0.0, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    names = [f"{row.run}: {row.metric}" for row in rows.itertuples()]
    label = f"change against {rows['against'].iloc[0]}, points of %\n{_statement(rows, table)}"
    return _listed(axes, names, label)


def _dots(axes: Axes, rows: pd.DataFrame, places: NDArray[np.number]) -> None:
    value, low, high = (100 * rows[name].to_numpy(dtype=float) for name in ("value", "low", "high"))
    axes.errorbar(
        value, places, xerr=interval_reach(value, low, high), fmt=_MEASURED.marker, color=_MEASURED.colour,
        ecolor=INK, capsize=3, linewidth=1.0, label="measured",
    )  # fmt: skip


def _listed(axes: Axes, names: list[str], label: str, places: NDArray[np.number] | None = None) -> Axes:
    rows = np.arange(len(names)) if places is None else places
    axes.set_yticks(rows.tolist(), names)
    axes.set_ylim(float(rows[-1]) + 0.6, float(rows[0]) - 0.9)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_xlabel(label)
    axes.grid(axis="x")
    return axes


def _statement(rows: pd.DataFrame, table: pd.DataFrame) -> str:
    counts = rows["images"].astype(int)
    few, many = counts.min(), counts.max()
    return f"n = {few if few == many else f'{few} to {many}'} {_units(rows)}, {_interval(table)} over them"


def _units(rows: pd.DataFrame) -> str:
    return "clips" if set(rows["metric"]) & {"J&F", "J", "F"} else "images"


def _interval(table: pd.DataFrame) -> str:
    confidence = table.attrs.get("confidence")
    return f"{100 * confidence:.0f} % interval" if confidence else "interval"
