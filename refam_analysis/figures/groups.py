"""Figures of counts and of values in groups: what a data set holds, and how a measure differs between its groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from refam_analysis.figures.style import FAINT, INK, SERIES_LOOKS


def count_bars(axes: Axes, counts: pd.Series, *, colours: Mapping[str, ArrayLike] | None = None) -> Axes:
    """A bar a name, as long as its count, which is written beside it.

    Args:
        axes: to draw on.
        counts: by name, in the order in which they are listed from the top.
        colours: of some or all bars, by name; the others have the colour of the first series.

    Returns:
        ``axes``.
    """
    names = [str(name) for name in counts.index]
    chosen = [(colours or {}).get(name, SERIES_LOOKS[0].colour) for name in names]
    places = np.arange(len(names))
    bars = axes.barh(places, counts.to_numpy(), color=chosen, edgecolor=FAINT, linewidth=0.6, height=0.72)
    axes.bar_label(bars, labels=[f"{count:g}" for count in counts], padding=3, fontsize=8.5)
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.22 * max(float(counts.max()), 1e-9))
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    return axes


def pair_counts(axes: Axes, counts: pd.DataFrame, *, marked: Collection[tuple[str, str]] = ()) -> Axes:
    """How often two names occur together: a square a pair, its count in it; marked pairs have a frame.

    Args:
        axes: to draw on.
        counts: names along both axes.
        marked: (row, column) names of the pairs to frame.

    Returns:
        ``axes``.
    """
    values = counts.to_numpy(dtype=float)
    top = 1.6 * max(float(values.max()), 1.0)  # the darkest square is a grey on which ink can be read
    axes.imshow(values, cmap="Greys", vmin=0.0, vmax=top, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column,
            row,
            f"{value:g}",
            ha="center",
            va="center",
            fontsize=8.5,
            color="#FFFFFF" if value > 0.55 * top else INK,
        )
        if (counts.index[row], counts.columns[column]) in marked:
            frame = Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, linewidth=1.8)
            axes.add_patch(frame).set_edgecolor(SERIES_LOOKS[1].colour)
    axes.set_xticks(np.arange(values.shape[1]), [str(name) for name in counts.columns])
    axes.set_yticks(np.arange(values.shape[0]), [str(name) for name in counts.index])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def values_by_group(axes: Axes, groups: Mapping[str, ArrayLike], *, unit: str, seed: int = 0) -> Axes:
    """Every value of each group as a dot, with a line at its median.

    Args:
        axes: to draw on.
        groups: the values of each, by name.
        unit: of the values, for the axis.
        seed: of the sideways scatter that keeps dots apart.

    Returns:
        ``axes``.
    """
    generator = np.random.default_rng(seed)
    for place, (look, values) in enumerate(zip(SERIES_LOOKS, groups.values(), strict=False)):
        heights = np.asarray(values, dtype=float)
        sideways = place + generator.uniform(-0.25, 0.25, size=len(heights))
        axes.plot(sideways, heights, ls="", marker=look.marker, markersize=3, color=look.colour, alpha=0.45)
        axes.plot([place - 0.34, place + 0.34], [np.median(heights)] * 2, color=INK, linewidth=2.0)
    labels = [f"{name}\nn = {np.size(values)}" for name, values in groups.items()]
    axes.set_xticks(np.arange(len(labels)), labels)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_ylabel(unit)
    axes.grid(axis="y")
    return axes
