"""Values with their intervals, one under the other.

Bars in groups, with the number of scenes of each, are in `curves`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from refam_analysis.figures.parts import interval_reach
from refam_analysis.figures.style import INK, SERIES_LOOKS, statement


def value_intervals(
    axes: Axes, table: pd.DataFrame, *, by: str, value: str, label: str, reference: float | None = None
) -> Axes:
    """A dot and its interval for each row, from top to bottom: for names too long to stand under bars.

    Args:
        axes: to draw on.
        table: a row a name: the columns ``by``, ``value``, ``value_low``, ``value_high`` and ``scenes``.
        by: the column of the names.
        value: the column of the values; its ends have the same name with ``_low`` and ``_high``.
        label: what the values are, with their unit.
        reference: drawn as a line, such as chance, or no change.

    Returns:
        ``axes``.
    """
    places = np.arange(len(table))
    middle = table[value].to_numpy(dtype=float)
    reach = interval_reach(middle, table[f"{value}_low"], table[f"{value}_high"])
    look = SERIES_LOOKS[0]
    axes.errorbar(middle, places, xerr=reach, fmt=look.marker, color=look.colour, ecolor=INK, capsize=3, linewidth=1.0)
    axes.set_yticks(places, [str(name) for name in table[by]])
    axes.set_ylim(len(table) - 0.5, -0.5)
    if reference is not None:
        axes.axvline(reference, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_xlabel(f"{label}\n{statement(table)}")
    axes.grid(axis="x")
    return axes
