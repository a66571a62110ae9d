"""Figures of tables: curves over blocks or steps, bars with intervals, and the map of sinks.

Each function draws the columns of a table that ``analysis``, ``evaluation`` or ``training`` made, on the Axes that
it is given, and returns them. Nothing is averaged, tested or sorted out here: choose the rows before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from refam_analysis.figures.parts import banded_curve, block_axis, interval_reach
from refam_analysis.figures.style import (
    FAINT,
    INK,
    KIND_LOOKS,
    SERIES_LOOKS,
    SIDE_LOOKS,
    label_lines,
    only_side,
    sample_size,
    statement,
)

_ENTROPY_UNITS = {"entropy": "row entropy (nats)", "normalised": "row entropy / log(number of keys)"}


def entropy_by_block(
    axes: Axes, table: pd.DataFrame, *, measure: Literal["entropy", "normalised"] = "normalised"
) -> Axes:
    """How spread out the rows of each block are: a curve a query side, with its interval.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.entropy.entropy_by_block`.
        measure: in nats, or as a share of what uniform attention would have.

    Returns:
        ``axes``.
    """
    rows = table[table["measure"] == measure]
    for side, curve in rows.groupby("from_queries", sort=False):
        banded_curve(axes, curve, "block", SIDE_LOOKS[str(side)], f"{side} queries")
    if measure == "normalised":
        axes.axhline(1.0, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_ylabel(_ENTROPY_UNITS[measure])
    return block_axis(axes, statement(table), columns=2)


def localisation_by_block(axes: Axes, table: pd.DataFrame) -> Axes:
    """How well each block's content map finds the object: a curve a measure, with its interval.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.localisation.localisation_by_block`; keep the measures that share
            a scale.

    Returns:
        ``axes``.
    """
    for look, (measure, curve) in zip(SERIES_LOOKS, table.groupby("measure", sort=False), strict=False):
        banded_curve(axes, curve, "block", look, str(measure).replace("_", " "))
    axes.set_ylabel("content map against the mask (0 to 1)")
    return block_axis(axes, statement(table), columns=2)


def mass_by_kind(axes: Axes, table: pd.DataFrame) -> Axes:
    """The share of all attention that each kind of token holds, block by block.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.magnets.mass_by_kind`, of one query side.

    Returns:
        ``axes``.

    Raises:
        ValueError: the table has both query sides.
    """
    side = only_side(table)
    for kind in [kind for kind in KIND_LOOKS if kind in set(table["kind"])]:
        banded_curve(axes, table[table["kind"] == kind], "block", KIND_LOOKS[kind], kind)
    axes.set_ylabel(f"share of the mass of {side} queries")
    axes.set_ylim(bottom=0.0)
    return block_axis(axes, statement(table), columns=2)


def mass_change_by_kind(axes: Axes, table: pd.DataFrame) -> Axes:
    """What each kind of token gains or loses when magnets are appended, block by block; the changes sum to zero.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.magnets.mass_moved`, of one query side.

    Returns:
        ``axes``.

    Raises:
        ValueError: the table has both query sides.
    """
    side = only_side(table)
    for kind in [kind for kind in KIND_LOOKS if kind in set(table["kind"])]:
        rows = table[table["kind"] == kind].rename(columns={"change": "value"})
        banded_curve(axes, rows, "block", KIND_LOOKS[kind], kind)
    axes.axhline(0.0, color=INK, linewidth=0.8, zorder=0)
    axes.set_ylabel(f"change of the share of mass of {side} queries\n(with magnets - without)")
    return block_axis(axes, statement(table), columns=2)


def sink_map(axes: Axes, sinks: pd.DataFrame) -> Axes:
    """Every block and token role: how far it exceeds its reference, and a ring where the rule calls it a sink.

    Args:
        axes: to draw on.
        sinks: from :func:`refam_analysis.analysis.sinks.detect_sinks`; choose the rows that should be seen, for
            instance ``sinks[sinks["side"] == "text"]``.

    Returns:
        ``axes``, with a colour bar beside it.
    """
    roles = list(dict.fromkeys(sinks["role"]))
    effect = sinks.pivot(index="role", columns="block", values="effect").reindex(roles)
    called = sinks.pivot(index="role", columns="block", values="is_sink").reindex(roles)
    doublings = np.log2(effect.astype(float))
    limit = max(1.0, float(np.nanmax(np.abs(doublings))))
    sns.heatmap(
        doublings,
        ax=axes,
        cmap="PuOr_r",
        vmin=-limit,
        vmax=limit,
        xticklabels=False,
        yticklabels=False,
        cbar_kws={"label": "effect on the weaker side\n(times the reference, log scale)"},
    )
    bar = axes.collections[0].colorbar
    assert bar is not None
    ticks = np.unique(np.trunc(np.linspace(-limit, limit, 5)))
    bar.set_ticks(ticks.tolist(), labels=[f"{2.0**tick:g}x" for tick in ticks])
    label_lines(axes, "y", np.arange(len(roles)) + 0.5, roles, span=len(roles))
    label_lines(axes, "x", np.arange(effect.shape[1]) + 0.5, [str(b) for b in effect.columns], span=effect.shape[1])
    y, x = np.nonzero(called.fillna(False).to_numpy(dtype=bool))
    axes.scatter(x + 0.5, y + 0.5, s=34, facecolors="none", edgecolors=INK, linewidths=3.2)
    axes.scatter(x + 0.5, y + 0.5, s=34, facecolors="none", edgecolors="#FFFFFF", linewidths=1.4, label="sink")
    axes.set_xlabel(f"block\n{_called(sinks)}")
    axes.set_ylabel("token role")
    return axes


def learning_curve(
    axes: Axes, log: pd.DataFrame, *, columns: Sequence[str] = ("loss",), unit: str = "loss", log_scale: bool = False
) -> Axes:
    """What a training run logged, over its steps.

    Args:
        axes: to draw on.
        log: a row a logged step: ``step`` and the columns; NaN where one was not measured at that step.
        columns: to draw, each a curve.
        unit: of the columns, for the axis.
        log_scale: a logarithmic vertical axis.

    Returns:
        ``axes``.
    """
    for look, column in zip(SERIES_LOOKS, columns, strict=False):
        curve = log.dropna(subset=[column])
        sparse = len(curve) <= 40
        axes.plot(
            curve["step"],
            curve[column],
            color=look.colour,
            marker=look.marker if sparse else "",
            dashes=look.dashes or (None, None),
            label=column.replace("_", " "),
        )
    if log_scale:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("step")
    axes.set_ylabel(unit)
    axes.grid(axis="y")
    if len(columns) > 1:
        axes.legend()
    return axes


def point_accuracy_by(axes: Axes, table: pd.DataFrame, *, by: str, chance: float | None = None) -> Axes:
    """Point accuracy in groups: a bar a group, its interval and its number of scenes.

    Args:
        axes: to draw on.
        table: a row a group: the column ``by``, ``value``, ``low``, ``high`` and ``scenes``.
        by: the column that names the groups.
        chance: what a random point reaches, drawn as a line.

    Returns:
        ``axes``.

    >>> from matplotlib.figure import Figure
    >>> rows = {"source": ["ours", "none"], "value": [0.8, 0.3], "low": [0.7, 0.2], "high": [0.9, 0.4], "scenes": 50}
    >>> axes = point_accuracy_by(Figure().subplots(), pd.DataFrame(rows), by="source", chance=1 / 3)
    >>> [float(bar.get_height()) for bar in axes.patches]
    [0.8, 0.3]
    """
    places = np.arange(len(table))
    value, reach = table["value"].to_numpy(dtype=float), interval_reach(table["value"], table["low"], table["high"])
    axes.bar(places, value, width=0.6, color=SERIES_LOOKS[0].colour)
    axes.errorbar(places, value, yerr=reach, fmt="none", ecolor=INK, capsize=3)
    axes.set_xticks(places, [f"{name}\nn = {n}" for name, n in zip(table[by], table["scenes"], strict=True)])
    if chance is not None:
        axes.axhline(chance, color=INK, linewidth=1.0, linestyle=":", label=f"random point: {chance:.2f}")
        axes.legend(loc="upper right")
    axes.set_ylim(0.0, 1.0)
    axes.set_xlabel(by.replace("_", " "))
    axes.set_ylabel("point accuracy (share of scenes)")
    axes.grid(axis="y")
    return axes


def _called(sinks: pd.DataFrame) -> str:
    return (
        sample_size(sinks["scenes"])
        + "; rings: sinks"
        + (" (exploratory: one recording)" if bool(sinks["exploratory"].all()) else "")
    )
