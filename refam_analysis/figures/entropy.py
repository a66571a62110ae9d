"""Figures of row entropy beside its curve by side: by direction with its change point, and the heads of each block.

The curve of whole rows by side is in `curves`, that by kind of token in `sinks`. Each function draws what `analysis`
computed on the Axes that it is given, and returns them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pandas as pd
from matplotlib.axes import Axes

from refam_analysis.figures.parts import banded_curve, block_axis, interval_reach
from refam_analysis.figures.style import FAINT, INK, SERIES_LOOKS, SIDE_LOOKS, only_side, statement

if TYPE_CHECKING:
    from refam_analysis.analysis.change_point import ChangePoint

_DIRECTIONS = ("text_to_text", "text_to_image", "image_to_text", "image_to_image")
_UNITS = {
    "entropy": "entropy within the side (nats)",
    "normalised": "entropy within the side / log(its keys)",
    "mass": "share of the row that goes to the side",
}
_BANDS = {
    "all heads": ("minimum", "maximum", 0.18),
    "middle half of the heads": ("lower_quartile", "upper_quartile", 0.4),
}
"""Label -> the statistics at its two edges, and how strongly it is tinted."""


def entropy_by_direction(
    axes: Axes,
    table: pd.DataFrame,
    *,
    measure: Literal["entropy", "normalised", "mass"] = "normalised",
    change: ChangePoint | None = None,
) -> Axes:
    """How evenly each side attends within each side, or how much attention goes there: a curve a direction.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.entropy_directions.entropy_by_direction`.
        measure: which of its measures.
        change: from :func:`refam_analysis.analysis.change_point.change_point`, of one of the curves or another of the
            same blocks; its interval is shaded, from half a block before the first to half a block behind the last of
            it, with a line where the second level begins.

    Returns:
        ``axes``.
    """
    rows = table[table["measure"] == measure]
    for name, look in zip(_DIRECTIONS, SERIES_LOOKS, strict=False):
        curve = rows[rows["direction"] == name]
        if curve.empty:
            continue
        banded_curve(axes, curve, "block", look, name)
    if measure == "normalised":
        axes.axhline(1.0, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    if change is not None:
        _shade(axes, change)
    axes.set_ylabel(_UNITS[measure])
    return block_axis(axes, statement(rows))


def head_spread(axes: Axes, table: pd.DataFrame) -> Axes:
    """How far the heads of each block are apart: their median, the middle half and the whole range.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.entropy.head_spread`, of one query side.

    Returns:
        ``axes``. The bands are over heads, the bars at the median over scenes.

    Raises:
        ValueError: the table has both query sides.
    """
    side = only_side(table)
    look = SIDE_LOOKS[side]
    rows = {name: part.set_index("block") for name, part in table.groupby("statistic")}
    for label, (lower, upper, alpha) in _BANDS.items():
        low, high = rows[lower]["value"], rows[upper]["value"]
        axes.fill_between(low.index, low, high, color=look.colour, alpha=alpha, linewidth=0, label=label)
    median = rows["median"]
    reach = interval_reach(median["value"], median["low"], median["high"])
    axes.errorbar(
        median.index, median["value"], yerr=reach, color=INK, marker=look.marker, linewidth=1.2, elinewidth=1.0,
        capsize=2.5, label="median head",
    )  # fmt: skip
    axes.axhline(1.0, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_ylabel(f"row entropy of {side} queries\n/ log(number of keys)")
    return block_axis(axes, statement(table))


def _shade(axes: Axes, change: ChangePoint) -> None:
    """The interval of a change point, and the border that it is about, half a block before the first low block."""
    interval = ""
    if change.low is not None and change.high is not None:
        axes.axvspan(change.low - 0.5, change.high + 0.5, color=FAINT, alpha=0.22, linewidth=0, zorder=0)
        interval = f" [{change.low}, {change.high}]"
    label = f"change point: block {change.block}{interval}"
    axes.axvline(change.block - 0.5, color=INK, linewidth=1.0, linestyle="--", zorder=1, label=label)
