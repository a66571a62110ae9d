"""What several figures draw alike: a curve with its band, how far intervals reach, an axis of blocks.

The look of it is in `style`. Nothing here computes what is drawn.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from refam_analysis.figures.style import Look


def banded_curve(axes: Axes, curve: pd.DataFrame, x: str, look: Look, label: str, *, value: str = "value") -> None:
    """A curve with its interval as a band.

    Args:
        axes: to draw on.
        curve: the columns ``x``, ``value``, and the ends of the interval, ``low`` and ``high``.
        x: the column along the horizontal axis.
        look: of curve and band.
        label: of the curve, in the legend.
        value: the column of the curve.
    """
    axes.plot(
        curve[x], curve[value], color=look.colour, marker=look.marker, dashes=look.dashes or (None, None), label=label
    )
    axes.fill_between(curve[x], curve["low"], curve["high"], color=look.colour, alpha=0.2, linewidth=0)


def interval_reach(value: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.float64]:
    """How far intervals reach below and above their values, as error bars want it.

    Args:
        value: (row,).
        low: (row,), the lower ends; NaN where there is no interval.
        high: (row,), the upper ends.

    Returns:
        (2, row), not negative; 0 where there is no interval.

    >>> interval_reach([0.5, 0.5], [0.25, np.nan], [1.0, np.nan]).tolist()
    [[0.25, 0.0], [0.5, 0.0]]
    """
    middle = np.asarray(value, dtype=float)
    ends = [middle - np.asarray(low, dtype=float), np.asarray(high, dtype=float) - middle]
    return np.nan_to_num(np.maximum(np.stack(ends), 0.0))


def block_axis(axes: Axes, note: str, *, columns: int = 1) -> Axes:
    """Blocks along the horizontal axis, with the line under the figure, and the legend.

    Args:
        axes: with all curves.
        note: the line, such as :func:`~refam_analysis.figures.style.statement` gives it.
        columns: of the legend.

    Returns:
        ``axes``.
    """
    axes.set_xlabel(f"block\n{note}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.legend(ncols=columns)
    return axes
