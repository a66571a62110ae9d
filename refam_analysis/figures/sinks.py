"""Figures about sinks besides their map: both sides at once, effects over depth, rows by kind.

Each function draws a table of `analysis` on the Axes that it is given, and returns them.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from refam_analysis.figures.style import FAINT, INK, KIND_LOOKS, SERIES_LOOKS, statement

_TIMES = FuncFormatter(lambda value, _: f"{value:g}")


def received_from_both_sides(axes: Axes, sinks: pd.DataFrame, *, minimum_mass: float = 1.0) -> Axes:
    """Every key of one block: what it receives from image queries against what it receives from text queries.

    Args:
        axes: to draw on.
        sinks: rows of one block from :func:`refam_analysis.analysis.sinks.detect_sinks`.
        minimum_mass: a sink receives at least this from both sides; the corner where that holds is tinted.

    Returns:
        ``axes``, both scales logarithmic. Rings mark what the rule calls a sink.

    Raises:
        ValueError: several blocks.
    """
    blocks = sinks["block"].unique()
    if len(blocks) != 1:
        raise ValueError(f"The table has {len(blocks)} blocks; this figure shows one: sinks[sinks['block'] == 0].")
    for kind in [kind for kind in reversed(KIND_LOOKS) if kind in set(sinks["kind"])]:
        rows, look = sinks[sinks["kind"] == kind], KIND_LOOKS[kind]
        axes.scatter(
            rows["mass_from_text"], rows["mass_from_image"], s=12, marker=look.marker, color=look.colour,
            alpha=0.35 if kind == "image" else 0.8, linewidths=0, label=kind,
        )  # fmt: skip
    called = sinks[sinks["is_sink"]]
    axes.scatter(called["mass_from_text"], called["mass_from_image"], s=60, facecolors="none", edgecolors=INK)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for line in (axes.axvline, axes.axhline):
        line(minimum_mass, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    corner = Rectangle((minimum_mass, minimum_mass), 1e9, 1e9, facecolor=SERIES_LOOKS[4].colour, alpha=0.12, zorder=0)
    axes.add_artist(corner)  # as an artist it leaves the limits to the keys
    axes.set_title(f"block {blocks[0]}")
    axes.set_xlabel("mass from text queries")
    axes.set_ylabel("mass from image queries")
    return axes


def sink_effects(axes: Axes, sinks: pd.DataFrame, roles: Sequence[str]) -> Axes:
    """The effect of some roles over the blocks, with intervals, and the bar that a sink has to clear.

    Args:
        axes: to draw on.
        sinks: from :func:`refam_analysis.analysis.sinks.detect_sinks`.
        roles: to draw, each a curve in the look of its kind.

    Returns:
        ``axes``, the vertical scale logarithmic.
    """
    for role in roles:
        curve = sinks[sinks["role"] == role]
        look = KIND_LOOKS.get(str(curve["kind"].iloc[0]), KIND_LOOKS["other"])
        axes.plot(
            curve["block"], curve["effect"], color=look.colour, marker=look.marker,
            dashes=look.dashes or (None, None), label=role,
        )  # fmt: skip
        axes.fill_between(curve["block"], curve["low"], curve["high"], color=look.colour, alpha=0.2, linewidth=0)
    bar = float(sinks.attrs["minimum_effect"])
    axes.axhline(bar, color=INK, linewidth=0.8, linestyle=":", label=f"minimum effect ({bar:g}x)")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(_TIMES)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("effect on the weaker side\n(times the reference)")
    axes.set_xlabel(f"block\n{statement(sinks[sinks['role'].isin(list(roles))])}")
    axes.grid(axis="y")
    axes.legend()
    return axes


def entropy_by_kind(axes: Axes, table: pd.DataFrame) -> Axes:
    """How evenly each kind of query spreads its attention, block by block.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.rows.entropy_by_kind`.

    Returns:
        ``axes``.
    """
    for kind in [kind for kind in KIND_LOOKS if kind in set(table["kind"])]:
        curve, look = table[table["kind"] == kind], KIND_LOOKS[kind]
        axes.plot(
            curve["block"], curve["value"], color=look.colour, marker=look.marker,
            dashes=look.dashes or (None, None), label=kind,
        )  # fmt: skip
        axes.fill_between(curve["block"], curve["low"], curve["high"], color=look.colour, alpha=0.2, linewidth=0)
    axes.axhline(1.0, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_ylabel("row entropy / log(number of keys)")
    axes.set_xlabel(f"block\n{statement(table)}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.legend(ncols=2)
    return axes
