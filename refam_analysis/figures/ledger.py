"""The ledger of claims at one look: every criterion's effect on one scale, and profiles over depth, model by model.

How verdicts come about is in :mod:`refam_analysis.experiments.claims`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from refam_analysis.figures.parts import interval_reach
from refam_analysis.figures.style import FAINT, INK, KIND_LOOKS, SERIES_LOOKS, statement

_SUPPORTED, _NOT = KIND_LOOKS["content"], KIND_LOOKS["magnet"]


def claims_forest(axes: Axes, ledger: pd.DataFrame) -> Axes:
    """Every criterion's distance from its margin, in standard deviations over scenes, with its interval.

    Right of the line is what the claim says. Full dots are supported, hollow diamonds not; a small cross is the same
    distance for the control, where there is one, and what could not be tested is named beside its line.

    Args:
        axes: to draw on, about a third of an inch high for each row.
        ledger: a row a criterion, with ``criterion``, ``effect``, ``low``, ``high``, ``deviation``, ``margin``,
            ``scenes``, ``control_effect``, ``verdict``; from
            :func:`refam_analysis.experiments.claims.rules.judge`.

    Returns:
        ``axes``.
    """
    _distance_scale(axes)
    distance = _distances(ledger)
    verdict = ledger["verdict"].to_numpy()
    for name, look, filled in (("supported", _SUPPORTED, True), ("not supported", _NOT, False)):
        rows = np.flatnonzero(verdict == name)
        middle, reach = _with_reach(distance, rows)
        axes.errorbar(middle, rows, xerr=reach, fmt=look.marker, color=look.colour, ecolor=INK, capsize=2.5,
                      linewidth=1.0, markerfacecolor=look.colour if filled else "none", label=name)  # fmt: skip
    measured = np.flatnonzero(np.isfinite(distance["control_effect"]))
    axes.plot(distance["control_effect"][measured], measured, "x", color=FAINT, label="control")
    for row in np.flatnonzero(verdict == "not testable here"):
        axes.annotate("not testable here", (0, row), xytext=(4, 0), textcoords="offset points", va="center",
                      color=FAINT, fontsize="small")  # fmt: skip
    return _distance_labels(axes, ledger)


def claims_by_training(axes: Axes, ledgers: Mapping[str, pd.DataFrame]) -> Axes:
    """Every criterion's distance from its margin, as :func:`claims_forest` has it, of several models on one line.

    Right of the line is what the claim says. Full marks are supported, hollow ones not; what could not be tested has
    none.

    Args:
        axes: to draw on, about a third of an inch high for each criterion.
        ledgers: by model, as in :func:`claims_forest`, with the same criteria in the same order.

    Returns:
        ``axes``.
    """
    every = pd.concat(ledgers.values())
    first = next(iter(ledgers.values()))
    _distance_scale(axes)
    offsets = np.linspace(-0.3, 0.3, len(ledgers)) if len(ledgers) > 1 else [0.0]
    for look, offset, (name, ledger) in zip(cycle(SERIES_LOOKS), offsets, ledgers.items()):
        distance, verdict = _distances(ledger), ledger["verdict"].to_numpy()
        for said, filled in (("supported", True), ("not supported", False)):
            rows = np.flatnonzero(verdict == said)
            middle, reach = _with_reach(distance, rows)
            axes.errorbar(middle, rows + offset, xerr=reach, fmt=look.marker, color=look.colour, ecolor=look.colour,
                          markersize=4.5, linewidth=0.9, markerfacecolor=look.colour if filled else "none")  # fmt: skip
        axes.plot([], [], look.marker, color=look.colour, label=name)
    for row in range(1, len(first), 2):
        axes.axhspan(row - 0.5, row + 0.5, color=FAINT, alpha=0.08, linewidth=0, zorder=0)
    _distance_labels(axes, first, every)
    axes.legend()
    return axes


def _distance_scale(axes: Axes) -> None:
    """One criterion may be tens of deviations away. The scale comes first, so that margins are of it."""
    axes.set_xscale("symlog", linthresh=1.0, linscale=1.5)


def _distances(ledger: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Of every criterion from its margin, in standard deviations over scenes."""
    deviation = ledger["deviation"].to_numpy(dtype=float)
    scale = np.where(deviation > 0, deviation, np.nan)
    margin = ledger["margin"].to_numpy(dtype=float)
    names = ("effect", "low", "high", "control_effect")
    return {name: (ledger[name].to_numpy(dtype=float) - margin) / scale for name in names}


def _with_reach(
    distance: Mapping[str, NDArray[np.float64]], rows: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of some rows: where they are, and how far their intervals reach down and up."""
    middle, low, high = (distance[name][rows] for name in ("effect", "low", "high"))
    return middle, interval_reach(middle, low, high)


def _distance_labels(axes: Axes, ledger: pd.DataFrame, every: pd.DataFrame | None = None) -> Axes:
    """Names of the criteria, the line of the margins, and what the intervals are of."""
    axes.axvline(0.0, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(ledger)), [_label(name) for name in ledger["criterion"]])
    axes.set_ylim(len(ledger) - 0.5, -0.5)
    axes.grid(axis="x")
    rows = ledger if every is None else every
    tested = rows[rows["verdict"] != "not testable here"]
    axes.set_xlabel("effect minus margin\n(in standard deviations over scenes)\n"
                    + (statement(tested) if len(tested) else "nothing could be tested"))  # fmt: skip
    return axes


def profiles_over_depth(axes: Axes, tables: Mapping[str, pd.DataFrame], measure: str, *, label: str) -> Axes:
    """A measure from the first block to the last, of one or several models, with their intervals.

    Args:
        axes: to draw on.
        tables: by model, from :func:`refam_analysis.experiments.claims.profiles.profile_means`, of one source each.
        measure: which.
        label: what it is, with its unit.

    Returns:
        ``axes``. The line under it has the numbers of scenes of all models.
    """
    every = []
    for look, (name, table) in zip(cycle(SERIES_LOOKS), tables.items()):
        rows = table[table["measure"] == measure].sort_values("depth")
        axes.plot(rows["depth"], rows["value"], color=look.colour, marker=look.marker, dashes=look.dashes, label=name)
        axes.fill_between(rows["depth"], rows["low"], rows["high"], color=look.colour, alpha=0.18, linewidth=0)
        every.append(rows)
    rows = pd.concat(every)
    rows.attrs["confidence"] = every[0].attrs.get("confidence")
    axes.set_xlabel(f"depth: first block 0, last block 1\n{statement(rows)}")
    axes.set_ylabel(label)
    axes.grid(axis="y")
    axes.legend()
    return axes


def _label(criterion: str) -> str:
    claim, _, rest = criterion.partition("_")
    return f"{claim.upper()} {rest.replace('_', ' ')}"
