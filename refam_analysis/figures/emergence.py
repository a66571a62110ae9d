"""Figures of emergence over depth: phrases among words, maps that localise, sinks beside semantics.

The counterpart of the paper's Figure 3 is :func:`emergence_panel`. Each function draws what `analysis` computed on the
Axes that it is given, and returns them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from refam_analysis.figures.parts import banded_curve, block_axis, interval_reach
from refam_analysis.figures.pictures import heat_over
from refam_analysis.figures.style import FAINT, HEAT_COLOURS, PAPER, SERIES_LOOKS, label_lines, statement

_TIMES = FuncFormatter(lambda value, _: f"{value:g}x")


def phrases_by_block(axes: Axes, table: pd.DataFrame) -> Axes:
    """The share of a word's attention that stays in its phrase, block by block, beside that of other groupings.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.emergence.phrases_by_block`.

    Returns:
        ``axes``. The band is the interval of the excess, laid on the null: the shares themselves vary with the length
        of the sentence, which the two curves have in common. Stars mark an excess with q <= 0.05.
    """
    labels = {"observed": "the sentence's phrases", "null": "other groupings"}
    for look, (name, label) in zip(SERIES_LOOKS, labels.items(), strict=False):
        axes.plot(
            table["block"], table[name], color=look.colour, marker=look.marker, dashes=look.dashes or (None, None),
            label=label,
        )  # fmt: skip
    low, high = table["null"] + table["excess_low"], table["null"] + table["excess_high"]
    colour = SERIES_LOOKS[0].colour
    axes.fill_between(table["block"], low, high, color=colour, alpha=0.2, linewidth=0, label="excess, with interval")
    called = table["q"] <= 0.05
    if called.any():
        axes.scatter(
            table["block"][called], high[called], marker="*", s=46, color=colour, linewidths=0, label="q <= 0.05"
        )
    left_out = int(table["left_out"].max())
    note = f"\nleft out, since they can be grouped in one way only: {left_out}" if left_out else ""
    axes.set_ylabel("attention within the phrase\n(share of that to other words)")
    return block_axis(axes, statement(table) + note)


def by_block_and_noise_level(
    axes: Axes, table: pd.DataFrame, *, label: str, levels: Sequence[float] | None = None
) -> Axes:
    """One measure over the blocks, a curve a noise level, with intervals.

    Args:
        axes: to draw on.
        table: rows of one measure from :func:`refam_analysis.analysis.emergence.concentration_by_block` or
            :func:`refam_analysis.analysis.localisation.localisation_by_step`.
        label: what is measured, with its unit.
        levels: all noise levels of the figure, so that each looks the same in every panel; None for those of the table.

    Returns:
        ``axes``.

    Raises:
        ValueError: several measures, or more noise levels than curves that can be told apart.
    """
    measures, steps = table["measure"].unique(), table["step"].unique()
    if len(measures) != 1 or len(steps) > len(SERIES_LOOKS):
        raise ValueError(
            f"The table has the measures {', '.join(measures)} at {len(steps)} noise levels; this figure shows one "
            f"measure at {len(SERIES_LOOKS)} levels at most: choose rows with table[table['measure'] == ...]."
        )
    for place, (_, curve) in enumerate(table.groupby("step")):
        look = SERIES_LOOKS[place if levels is None else list(levels).index(curve["noise_level"].iloc[0])]
        banded_curve(axes, curve, "block", look, f"noise level {curve['noise_level'].iloc[0]:g}")
    axes.set_ylabel(label)
    return block_axis(axes, statement(table))


def phrase_matrix(axes: Axes, attention: xr.DataArray, phrases: Sequence[Sequence[str]]) -> Axes:
    """How the words of a sentence attend to one another, with a line between phrases.

    Args:
        axes: to draw on.
        attention: axes (query, key), a word along each, such as one block and head of
            :func:`refam_analysis.analysis.phrases.word_attention`. The diagonal, which takes no part, is left blank.
        phrases: of the sentence.

    Returns:
        ``axes``; the lightest colour is the largest value.

    Raises:
        ValueError: other axes, or other numbers of words.
    """
    words = [word for phrase in phrases for word in phrase]
    if attention.dims != ("query", "key") or attention.shape != (len(words), len(words)):
        raise ValueError(
            f"attention has the axes {attention.dims} of lengths {attention.shape}, and the phrases have {len(words)} "
            "words: choose one step, block and head of word_attention, and give the phrases of its sentence."
        )
    shown = np.ma.array(attention.values, mask=np.eye(len(words), dtype=bool))
    axes.imshow(shown, cmap=HEAT_COLOURS, vmin=0.0)
    for border in np.cumsum([len(phrase) for phrase in phrases])[:-1] - 0.5:
        axes.axhline(border, color=PAPER, linewidth=2.0)
        axes.axvline(border, color=PAPER, linewidth=2.0)
    label_lines(axes, "y", np.arange(len(words)), words, span=len(words))
    label_lines(axes, "x", np.arange(len(words)), words, span=len(words), upright=True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def emergence_panel(
    axes: NDArray[Any], attention: xr.DataArray, phrases: Sequence[Sequence[str]], image: ArrayLike, maps: xr.DataArray
) -> NDArray[Any]:
    """Words among themselves and one map over the picture, from block to block: the counterpart of the paper's Fig. 3.

    Args:
        axes: (2, block).
        attention: axes (block, query, key), a word along the last two, see :func:`phrase_matrix`.
        phrases: of the sentence.
        image: uint8 (height, width, 3).
        maps: axes (block, y, x), of the same blocks, not negative; every map has a scale of its own, with its peak
            written under it.

    Returns:
        ``axes``: the matrices above, the maps below.

    Raises:
        ValueError: other axes, or numbers of blocks that differ from those of ``axes``.
    """
    blocks = attention["block"].values.tolist()
    if axes.shape != (2, len(blocks)) or maps.dims != ("block", "y", "x") or maps["block"].values.tolist() != blocks:
        raise ValueError(
            f"There are Axes of the shape {axes.shape}, attention of the blocks {blocks} and maps with the axes "
            f"{maps.dims}: give Axes of the shape (2, block), and maps (block, y, x) of the same blocks."
        )
    for column, block in enumerate(blocks):
        above, below = axes[:, column]
        matrix = attention.isel(block=column)
        title = f"block {block} (lightest: {float(matrix.max()):.2f})"
        phrase_matrix(above, matrix, phrases).set_title(title, loc="center")
        heat = maps.isel(block=column).values
        heat_over(below, image, heat).set_xlabel(f"peak {heat.max():.2g}", fontsize=8)
    return axes


def sinks_against_semantics(axes: Axes, table: pd.DataFrame) -> Axes:
    """How sharp the maps of a block are against how strong its sinks are: a dot a block, joined in the order of depth.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.emergence.sinks_and_semantics_by_block`.

    Returns:
        ``axes``, the horizontal scale logarithmic; each dot carries the number of its block and both intervals.
    """
    sinks, sharp = (table[table["measure"] == name].set_index("block") for name in ("sink_strength", "sharpness"))
    look = SERIES_LOOKS[0]
    axes.plot(sinks["value"], sharp["value"], color=FAINT, linewidth=1.0, zorder=1)
    across, up = (interval_reach(curve["value"], curve["low"], curve["high"]) for curve in (sinks, sharp))
    axes.errorbar(
        sinks["value"], sharp["value"], xerr=across, yerr=up, fmt=look.marker, color=look.colour, ecolor=FAINT,
        elinewidth=1.0, linewidth=1.0, zorder=2,
    )  # fmt: skip
    for block in sinks.index:
        place = (sinks.loc[block, "value"], sharp.loc[block, "value"])
        axes.annotate(str(block), place, xytext=(5, 4), textcoords="offset points", fontsize=8.5)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    close = high < 10 * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0) if close else (1.0, 3.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(_TIMES)
    axes.set_xlabel(f"strongest sink of the block (times the median, log scale)\nnumbers: blocks; {statement(table)}")
    axes.set_ylabel(f"content maps: {table.attrs.get('sharpness', 'sharpness')}")
    axes.grid()
    return axes
