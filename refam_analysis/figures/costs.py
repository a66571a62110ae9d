"""What recording costs: time beside the plain forward pass, memory beyond it, and both against the number of tokens.

The tables are those of the committed result ``recording-cost``, which ``python -m benchmarks.recording run`` measures.
A variant's name says first what is kept; what stands behind a comma says that another way than this library's took it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from refam_analysis.figures.style import FAINT, INK, PAPER, SERIES_LOOKS, Look

_PLAIN = Look(INK, "x", (1, 1), "")
_KEPT: dict[str, Look] = {
    "maps": SERIES_LOOKS[0],
    "summaries": SERIES_LOOKS[1],
    "maps and summaries": replace(SERIES_LOOKS[2], marker="s"),  # its hexagon is too near to the dot of maps
    "full to disk": SERIES_LOOKS[3],
}
_OTHERS = ((4, 1.5), (1, 1), (6, 1.5, 1, 1.5))
"""Dashes of the other ways, in the order in which a table names them; this library's own lines are unbroken."""

_MEGABYTE = 1e6
_UNITS = {"seconds": "time of one forward pass (s)", "extra": "memory beyond the plain pass (MB)"}


def recording_costs(axes: Axes, table: pd.DataFrame) -> Axes:
    """How many times as long as the plain forward pass each variant takes, with its interval.

    Full dots are this library's, hollow ones the other ways.

    Args:
        axes: to draw on.
        table: ``costs`` or ``package`` of the result, of one number of tokens: a row a variant, with ``name``,
            ``ratio``, ``low``, ``high``, ``rounds`` and ``tokens``. The plain pass itself is the line at 1.

    Returns:
        ``axes``.

    Raises:
        ValueError: the table has several numbers of tokens.
    """
    tokens = _one_size(table)
    rows = table[table["name"] != "plain"]
    for place, row in enumerate(rows.itertuples()):
        look = _look(row.name)
        reach = [[row.ratio - row.low], [row.high - row.ratio]]
        axes.errorbar([row.ratio], [place], xerr=np.maximum(reach, 0.0), fmt=look.marker, color=look.colour,
                      ecolor=INK, capsize=2.5, linewidth=1.0, markerfacecolor=_filling(row.name))  # fmt: skip
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xlabel(f"time / plain forward pass\n{tokens} tokens, {_rounds(rows)}\ninterval over rounds")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    return _named_rows(axes, rows)


def memory_costs(axes: Axes, table: pd.DataFrame) -> Axes:
    """The peak memory of each variant beyond the plain pass's: a bar, with a line at what its results themselves take.

    Full bars are this library's, hatched ones the other ways.

    Args:
        axes: to draw on.
        table: as for :func:`recording_costs`, with ``extra`` and ``kept`` in bytes.

    Returns:
        ``axes``.

    Raises:
        ValueError: the table has several numbers of tokens.
    """
    tokens = _one_size(table)
    rows = table[table["name"] != "plain"]
    for place, row in enumerate(rows.itertuples()):
        look = _look(row.name)
        axes.barh(place, row.extra / _MEGABYTE, height=0.62, color=_filling(row.name), edgecolor=look.colour,
                  hatch="" if is_ours(row.name) else "////", linewidth=1.0)  # fmt: skip
        label = "kept" if place == 0 else None
        axes.plot([row.kept / _MEGABYTE] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1.6, label=label)
        axes.annotate(f"{row.extra / _MEGABYTE:.0f}", (max(row.extra, row.kept) / _MEGABYTE, place), xytext=(4, 0),
                      textcoords="offset points", va="center", fontsize="small")  # fmt: skip
    axes.set_xlim(0.0, 1.15 * max(rows["extra"].max(), rows["kept"].max()) / _MEGABYTE)
    axes.set_xlabel(f"peak memory beyond the plain pass (MB)\n{tokens} tokens")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98))
    return _named_rows(axes, rows)


def cost_scaling(axes: Axes, table: pd.DataFrame, what: Literal["seconds", "extra"] = "seconds") -> Axes:
    """Time, or memory beyond the plain pass, against the number of tokens, both axes logarithmic: a curve a variant.

    Unbroken lines with full dots are this library's, broken ones with hollow dots the other ways.

    Args:
        axes: to draw on.
        table: ``scaling`` of the result: ``name``, ``tokens``, ``seconds`` and ``extra`` (bytes).
        what: the column. Of ``extra`` only what is above zero can be drawn, and the plain pass has none.

    Returns:
        ``axes``.
    """
    ways = list(dict.fromkeys(_way(name) for name in table["name"] if not is_ours(name)))
    for name, curve in table.groupby("name", sort=False):
        values = curve[what] if what == "seconds" else curve[what] / _MEGABYTE
        drawn = values > 0
        if name == "plain" and what == "extra":
            continue
        look, ours = _look(str(name)), is_ours(str(name))
        dashes = look.dashes if name == "plain" else () if ours else _OTHERS[ways.index(_way(str(name))) % len(_OTHERS)]
        axes.plot(
            curve["tokens"][drawn], values[drawn], color=look.colour, marker=look.marker, label=str(name),
            dashes=dashes or (None, None), markerfacecolor=_filling(str(name)),
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    tokens = sorted(set(table["tokens"]))
    axes.set_xticks(tokens, [str(number) for number in tokens])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"tokens\n{_rounds(table)}")
    axes.set_ylabel(_UNITS[what])
    axes.grid(axis="y")
    axes.legend(handlelength=3.2)
    return axes


def is_ours(name: str) -> bool:
    """Whether a variant of the benchmark is this library's, or the plain pass.

    >>> is_ours("maps"), is_ours("maps, whole softmax")
    (True, False)
    """
    return ", " not in name


def _way(name: str) -> str:
    return name.partition(", ")[2]


def _look(name: str) -> Look:
    """The colour and the marker by what is kept, so that all ways to one thing share them."""
    kept = name.partition(", ")[0]
    return _PLAIN if kept == "plain" else _KEPT.get(kept, replace(_PLAIN, colour=FAINT, marker="p"))


def _filling(name: str) -> str:
    """Of dots and bars: the colour itself for this library's, paper for the others."""
    return _look(name).colour if is_ours(name) else PAPER


def _one_size(table: pd.DataFrame) -> int:
    sizes = sorted({int(tokens) for tokens in table["tokens"]})
    if len(sizes) != 1:
        raise ValueError(
            f"The table has {' and '.join(map(str, sizes))} tokens; a figure shows one size: choose it with "
            f"table[table['tokens'] == {sizes[-1]}]."
        )
    return sizes[0]


def _rounds(table: pd.DataFrame) -> str:
    low, high = int(table["rounds"].min()), int(table["rounds"].max())
    return f"n = {high} rounds" if low == high else f"n = {low} to {high} rounds"


def _named_rows(axes: Axes, rows: pd.DataFrame) -> Axes:
    """The variants' names from top to bottom."""
    axes.set_yticks(range(len(rows)), list(rows["name"]))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    return axes
