"""The ledger of claims at one look: every criterion's effect on one scale, and profiles over depth, model by model.

How verdicts come about is in :mod:`refam_analysis.experiments.claims`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

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
    # One criterion may be tens of deviations away. The scale comes first, so that margins are of it.
    axes.set_xscale("symlog", linthresh=1.0, linscale=1.5)
    deviation = ledger["deviation"].to_numpy(dtype=float)
    scale = np.where(deviation > 0, deviation, np.nan)
    distance = {
        name: (ledger[name].to_numpy(dtype=float) - ledger["margin"].to_numpy(dtype=float)) / scale
        for name in ("effect", "low", "high", "control_effect")
    }
    verdict = ledger["verdict"].to_numpy()
    for name, look, filled in (("supported", _SUPPORTED, True), ("not supported", _NOT, False)):
        rows = np.flatnonzero(verdict == name)
        middle = distance["effect"][rows]
        reach = np.abs(np.stack([distance["low"][rows] - middle, distance["high"][rows] - middle]))
        axes.errorbar(middle, rows, xerr=reach, fmt=look.marker, color=look.colour, ecolor=INK, capsize=2.5,
                      linewidth=1.0, markerfacecolor=look.colour if filled else "none", label=name)  # fmt: skip
    measured = np.flatnonzero(np.isfinite(distance["control_effect"]))
    axes.plot(distance["control_effect"][measured], measured, "x", color=FAINT, label="control")
    for row in np.flatnonzero(verdict == "not testable here"):
        axes.annotate("not testable here", (0, row), xytext=(4, 0), textcoords="offset points", va="center",
                      color=FAINT, fontsize="small")  # fmt: skip
    axes.axvline(0.0, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(ledger)), [_label(name) for name in ledger["criterion"]])
    axes.set_ylim(len(ledger) - 0.5, -0.5)
    axes.grid(axis="x")
    tested = ledger[ledger["verdict"] != "not testable here"]
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
