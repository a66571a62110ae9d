"""Figures of magnets: where the mass flows, what each magnet takes, and what conditions and doses change.

The flow is the counterpart of the paper's Figure 5. Tables come from :mod:`refam_analysis.analysis.redistribution`,
:mod:`refam_analysis.analysis.magnets` and :mod:`refam_analysis.experiments.magnets`, and are drawn as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from refam_analysis.figures.intervals import value_intervals
from refam_analysis.figures.parts import banded_curve
from refam_analysis.figures.style import (
    FAINT,
    HEAT_COLOURS,
    INK,
    KIND_LOOKS,
    SERIES_LOOKS,
    Look,
    label_lines,
    only_value,
    sample_size,
    statement,
)

REGION_LOOKS: dict[str, Look] = {
    "target": KIND_LOOKS["image"],
    "distractors": KIND_LOOKS["template"],
    "background": KIND_LOOKS["other"],
}
"""The parts of the picture, beside the kinds of tokens."""

MEASURE_LABELS: dict[str, str] = {
    "average_precision": "average precision",
    "point_accuracy": "point accuracy (share of scenes)",
    "background_ratio": "background ratio",
    "peak_to_mean": "peak to mean",
    "background_clusters": "clusters off the target (number)",
    "background_cluster_size": "cluster size off the target (image tokens)",
    "background_largest_share": "largest cluster\n(share of hot tokens off the target)",
    "mass_appended": "attention of image queries\non what was appended (share)",
    "mass_padding": "attention of image queries\non padding (share)",
    "mass_content": "attention of image queries\non content words (share)",
    "mass_stop": "attention of image queries\non stop words (share)",
}
"""What the axes say of each measure of the experiment."""

_GAP = 0.05
"""Between two accounts of the flow, as a share of all that moves."""
_BAR = 0.05
"""Width of an account, as a share of the axes."""


def mass_flow(axes: Axes, flow: pd.DataFrame) -> Axes:
    """Donors on the left, receivers on the right, and a band for what goes from the one to the other.

    Heights are amounts, on one scale; every account carries its name and its amount. Bands have the colour and the
    hatch of their donor.

    Args:
        axes: to draw on.
        flow: from :func:`refam_analysis.analysis.redistribution.flow`, of one block and one group of queries; to see
            the large ones alone, choose rows, for instance ``flow[flow["amount"] > 0.001]``.

    Returns:
        ``axes``, without ticks.

    Raises:
        ValueError: several blocks or groups of queries, or nothing that moves.
    """
    block, queries = (only_value(flow, name) for name in ("block", "queries"))
    if not (flow["amount"] > 0).any():
        raise ValueError("Nothing moves in this flow, so there is nothing to draw: choose another block or condition.")
    ends = {name: flow.groupby(name, sort=False)["amount"].sum() for name in ("donor", "receiver")}
    total = float(flow["amount"].sum())
    tops = {name: _stacked(amounts, total) for name, amounts in ends.items()}
    lowest = min(
        _accounts(axes, ends[name], tops[name], left=left, aside=aside, align=align)
        for name, left, aside, align in (("donor", 0.0, -0.012, "right"), ("receiver", 1.0 - _BAR, 0.012, "left"))
    )
    used = {name: dict(places) for name, places in tops.items()}
    for donor, receiver, amount in flow[["donor", "receiver", "amount"]].itertuples(index=False, name=None):
        start, end = used["donor"][donor], used["receiver"][receiver]
        _band(axes, start, end, amount, _look(donor))
        used["donor"][donor], used["receiver"][receiver] = start - amount, end - amount
    axes.set_xlim(-0.34, 1.34)
    axes.set_ylim(lowest - 0.02 * total, total * 1.02)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    moves = f"block {block}, {queries} queries: moves of {total:.3f} of their attention in all"
    axes.set_xlabel(f"{moves}\n{sample_size(flow['scenes'])}", labelpad=4)
    return axes


def magnet_grid(axes: Axes, table: pd.DataFrame) -> Axes:
    """What each magnet takes of one region's attention, block by block, with the numbers in the cells.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.magnets.magnet_shares`, of one region.

    Returns:
        ``axes``, with a colour bar beside it.

    Raises:
        ValueError: several regions.
    """
    region = only_value(table, "queries")
    magnets = list(dict.fromkeys(table["magnet"]))
    values = table.pivot(index="magnet", columns="block", values="value").reindex(magnets)
    sns.heatmap(
        100.0 * values, ax=axes, cmap=HEAT_COLOURS, vmin=0.0, annot=True, fmt=".2f", annot_kws={"fontsize": 7.5},
        xticklabels=False, yticklabels=False, cbar_kws={"label": f"share of the attention\nof the {region} (%)"},
    )  # fmt: skip
    label_lines(axes, "y", np.arange(len(magnets)) + 0.5, magnets, span=len(magnets))
    blocks = [str(block) for block in values.columns]
    label_lines(axes, "x", np.arange(len(blocks)) + 0.5, blocks, span=len(blocks))
    axes.set_ylabel("")
    axes.set_xlabel(f"block\n{sample_size(table['scenes'])}")
    return axes


def dose_response(axes: Axes, summary: pd.DataFrame) -> Axes:
    """What a growing number of appended words changes: a curve a series, with its interval.

    Args:
        axes: to draw on.
        summary: from :func:`refam_analysis.experiments.magnets.summary`, of one measure; rows of the dose response,
            those with a ``series``.

    Returns:
        ``axes``.

    Raises:
        ValueError: several measures, or more series than there are looks.
    """
    measure = only_value(summary, "measure")
    series = list(dict.fromkeys(summary["series"]))
    if len(series) > len(SERIES_LOOKS):
        raise ValueError(f"The table has {len(series)} series; a figure tells {len(SERIES_LOOKS)} apart: choose some.")
    for look, name in zip(SERIES_LOOKS, series, strict=False):
        curve = summary.loc[summary["series"] == name, ["number", "change", "change_low", "change_high"]]
        banded_curve(axes, curve.set_axis(["number", "value", "low", "high"], axis=1), "number", look, name)
    axes.axhline(0.0, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_ylabel(f"change of\n{MEASURE_LABELS.get(measure, measure)}")
    axes.set_xlabel(f"words appended\n{statement(summary)}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.legend()
    return axes


def conditions_forest(axes: Axes, summary: pd.DataFrame, *, by: str = "condition") -> Axes:
    """What each condition changes, scene by scene: a dot and its interval, with a ring where q is at most 0.05.

    Args:
        axes: to draw on.
        summary: of one measure, from :func:`refam_analysis.experiments.magnets.summary` (leave the baseline out), or,
            with ``by="contrast"``, from :func:`refam_analysis.experiments.magnets.contrasts`.
        by: the column of the names.

    Returns:
        ``axes``.

    Raises:
        ValueError: several measures.
    """
    measure = only_value(summary, "measure")
    label = f"change of {MEASURE_LABELS.get(measure, measure)}"
    value_intervals(axes, summary, by=by, value="change", label=label, reference=0.0)
    told = np.flatnonzero((summary["q"] <= 0.05).to_numpy())
    axes.scatter(
        summary["change"].to_numpy(dtype=float)[told], told, s=90, facecolors="none", edgecolors=INK, linewidths=1.0,
        label="q at most 0.05",
    )  # fmt: skip
    if len(told):
        axes.legend()
    return axes


def _stacked(amounts: pd.Series, total: float) -> dict[str, float]:
    """The upper end of each account, one under the other."""
    places, top = {}, total
    for name, amount in amounts.items():
        places[str(name)] = top
        top -= float(amount) + _GAP * total
    return places


def _accounts(
    axes: Axes, amounts: pd.Series, tops: dict[str, float], *, left: float, aside: float, align: str
) -> float:
    """The bars of one side, each with its name and amount; labels of thin bars are moved apart.

    Returns:
        How far down bars and labels reach.
    """
    total = float(amounts.sum())
    middles = np.array([tops[str(name)] - float(amount) / 2.0 for name, amount in amounts.items()])
    places = _apart(middles, 0.075 * total)
    edge = left if align == "right" else left + _BAR
    for (name, amount), middle, place in zip(amounts.items(), middles, places, strict=True):
        look = _look(str(name))
        corner = (left, tops[str(name)] - float(amount))
        axes.add_patch(Rectangle(corner, _BAR, float(amount), facecolor=look.colour, edgecolor=INK, linewidth=0.6))
        axes.plot([edge, edge + aside], [middle, place], color=FAINT, linewidth=0.6, clip_on=False)
        axes.annotate(f"{name} {float(amount):.3f}", (edge + 1.5 * aside, place), ha=align, va="center", fontsize=8.5)
    bars = min(tops[str(name)] - float(amount) for name, amount in amounts.items())
    return min(bars, float(places[-1]))


def _apart(places: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
    """Descending places moved down as little as keeps neighbours apart."""
    moved = places.copy()
    for index in range(1, len(moved)):
        moved[index] = min(moved[index], moved[index - 1] - spacing)
    return moved


def _band(axes: Axes, start: float, end: float, amount: float, look: Look) -> None:
    """From the donor's bar to the receiver's, as thick as the amount; its sides are Bezier curves."""
    left, right = _BAR, 1.0 - _BAR
    middle = 0.5
    points = [
        (left, start), (middle, start), (middle, end), (right, end),
        (right, end - amount), (middle, end - amount), (middle, start - amount), (left, start - amount), (left, start),
    ]  # fmt: skip
    curve: Sequence[np.uint8] = [Path.CURVE4] * 3
    codes = [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY]
    drawn = {"facecolor": look.colour, "hatch": look.hatch, "edgecolor": INK, "linewidth": 0.3, "alpha": 0.45}
    axes.add_patch(PathPatch(Path(points, codes), **drawn))


def _look(account: str) -> Look:
    """Of a kind, a region, or what stands at a position with magnets; a role has that of its kind where it says it."""
    name = account.rpartition("→")[2].strip()
    looks = {**KIND_LOOKS, **REGION_LOOKS}
    return looks.get(name) or looks.get(name.partition(" ")[0]) or KIND_LOOKS["unknown"]
