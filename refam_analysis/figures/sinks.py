"""Figures about sinks besides their map: both sides, effects over depth and steps, rows, importance, calibration.

Each function draws a table of `analysis`, or of the experiment `calibration`, on the Axes that it is given, and returns
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from refam_analysis.figures.parts import banded_curve, block_axis
from refam_analysis.figures.style import FAINT, INK, KIND_LOOKS, SERIES_LOOKS, Look, only_value, sample_size, statement

_TIMES = FuncFormatter(lambda value, _: f"{value:g}")
_AGREEMENT = {
    "jaccard": "share of the sinks of either\nthat both have",
    "rank_correlation": "rank correlation of the effects",
    "same_strongest": "share of scenes with the same\nstrongest key",
}


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
    block = only_value(sinks, "block")
    for kind in [kind for kind in reversed(KIND_LOOKS) if kind in set(sinks["kind"])]:
        rows, look = sinks[sinks["kind"] == kind], KIND_LOOKS[kind]
        axes.scatter(
            rows["mass_from_text"], rows["mass_from_image"], s=12 if kind == "image" else 24, marker=look.marker,
            color=look.colour, alpha=0.35 if kind == "image" else 0.8, linewidths=0, label=kind,
        )  # fmt: skip
    called = sinks[sinks["is_sink"]]
    axes.scatter(called["mass_from_text"], called["mass_from_image"], s=60, facecolors="none", edgecolors=INK)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for line in (axes.axvline, axes.axhline):
        line(minimum_mass, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    corner = Rectangle((minimum_mass, minimum_mass), 1e9, 1e9, facecolor=SERIES_LOOKS[4].colour, alpha=0.12, zorder=0)
    axes.add_artist(corner)  # as an artist it leaves the limits to the keys
    axes.set_title(f"block {block}")
    axes.set_xlabel(f"mass from text queries (uniform: 1)\n{sample_size(sinks['scenes'])}")
    axes.set_ylabel("mass from image queries (uniform: 1)")
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
        banded_curve(axes, curve, "block", look, role, value="effect")
    bar = float(sinks.attrs["minimum_effect"])
    axes.axhline(bar, color=INK, linewidth=0.8, linestyle=":", label=f"minimum effect ({bar:g}x)")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(_TIMES)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("effect on the weaker side\n(times the reference)")
    axes.set_xlabel(f"block\n{statement(sinks[sinks['role'].isin(list(roles))])}")
    axes.grid(axis="y")
    _legend_above(axes)
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
        banded_curve(axes, table[table["kind"] == kind], "block", KIND_LOOKS[kind], kind)
    axes.axhline(1.0, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_ylabel("row entropy / log(number of keys)")
    return block_axis(axes, statement(table), columns=2)


def key_importance(axes: Axes, table: pd.DataFrame) -> Axes:
    """How far the most important key of each block exceeds a random other key, and of which kind it is.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.key_importance.key_importance`.

    Returns:
        ``axes``, the vertical scale logarithmic. The line with its band is against other keys of the same kind, the
        dashed one against all others; markers tell the kind that the key has in most scenes.
    """
    axes.fill_between(table["block"], table["low"], table["high"], color=FAINT, alpha=0.3, linewidth=0)
    axes.plot(table["block"], table["ratio"], color=INK, linewidth=1.0, label="against its kind")
    axes.plot(table["block"], table["ratio_to_all"], color=INK, linewidth=1.0, dashes=(3, 2), label="against all")
    for kind in [kind for kind in KIND_LOOKS if kind in set(table["kind"])]:
        rows, look = table[table["kind"] == kind], KIND_LOOKS[kind]
        axes.scatter(rows["block"], rows["ratio"], s=28, marker=look.marker, color=look.colour, zorder=3, label=kind)
    _times_axis(axes)
    axes.set_ylabel("importance of the strongest key\n(times a random other key's)")
    return block_axis(axes, statement(table))


def sinks_over_steps(axes: Axes, table: pd.DataFrame) -> Axes:
    """The effect of the strongest sink of some blocks over the noise levels, from noise on the left to the picture.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.sink_dynamics.sinks_over_steps`, at most five blocks of it.

    Returns:
        ``axes``, the vertical scale logarithmic.

    Raises:
        ValueError: more blocks than there are looks to tell them apart.
    """
    for look, block in _looks(table["block"].unique(), "blocks"):
        banded_curve(axes, table[table["block"] == block], "noise_level", look, f"block {block}")
    _times_axis(axes)
    axes.invert_xaxis()
    axes.set_ylabel("effect of the strongest key\n(times the reference)")
    axes.set_xlabel(f"noise level\n{statement(table)}")
    axes.grid(axis="y")
    _legend_above(axes, columns=3)
    return axes


def sink_agreement(
    axes: Axes,
    table: pd.DataFrame,
    *,
    measure: Literal["jaccard", "rank_correlation", "same_strongest"] = "rank_correlation",
) -> Axes:
    """How far runs of the same scenes agree on their sinks, block by block: a curve a pair of runs.

    Args:
        axes: to draw on.
        table: from :func:`refam_analysis.analysis.sink_dynamics.sink_agreement`, at most five pairs of runs.
        measure: which of its measures.

    Returns:
        ``axes``.

    Raises:
        ValueError: more pairs than there are looks to tell them apart.
    """
    rows = table[table["measure"] == measure]
    pairs = list(dict.fromkeys(zip(rows["one"], rows["other"], strict=True)))
    for look, (one, other) in _looks(pairs, "pairs of runs"):
        banded_curve(axes, rows[(rows["one"] == one) & (rows["other"] == other)], "block", look, f"{one} and {other}")
    axes.set_ylabel(_AGREEMENT[measure])
    axes.set_ylim(top=1.02)
    return block_axis(axes, statement(rows))


def calibration_level(axes: Axes, level: pd.DataFrame, *, promised: float = 0.05) -> Axes:
    """False alarms of one detector against the number of scenes: a curve for each kind of attention without sinks.

    Args:
        axes: to draw on.
        level: from :func:`refam_analysis.experiments.calibration.level_table`, of one detector.
        promised: the level that it should keep, drawn as a line.

    Returns:
        ``axes``.

    Raises:
        ValueError: several detectors, or more patterns than there are looks.
    """
    only_value(level, "detector")
    for place, (look, pattern) in enumerate(_looks(level["pattern"].unique(), "patterns")):
        _beside(axes, level[level["pattern"] == pattern], look, pattern, place)
    axes.axhline(promised, color=INK, linewidth=0.8, linestyle=":", label=f"promised: {promised:g}")
    axes.set_ylabel("share of data sets\nwith a false sink")
    return _scenes_axis(axes, level)


def calibration_power(axes: Axes, power: pd.DataFrame, *, what: Literal["found", "false"] = "found") -> Axes:
    """What one detector makes of planted sinks, against the number of scenes: a curve for each strength.

    Args:
        axes: to draw on.
        power: from :func:`refam_analysis.experiments.calibration.power_table`, of one detector and one kind.
        what: "found": the share of data sets in which the planted sink is called; "false": the share of what is called
            that was not planted.

    Returns:
        ``axes``.

    Raises:
        ValueError: several detectors or kinds, or more strengths than there are looks.
    """
    for name in ("detector", "kind"):
        only_value(power, name)
    columns = {"false_share": "value", "false_share_low": "low", "false_share_high": "high"}
    shown = power if what == "found" else power.drop(columns=list(columns.values())).rename(columns=columns)
    for place, (look, factor) in enumerate(_looks(power["factor"].unique(), "strengths")):
        _beside(axes, shown[shown["factor"] == factor], look, f"planted {factor:g}x", place)
    names = {"found": "share of data sets\nin which the planted sink is found", "false": "share of false among called"}
    axes.set_ylabel(names[what])
    return _scenes_axis(axes, power)


def _beside(axes: Axes, curve: pd.DataFrame, look: Look, label: str, place: int) -> None:
    """A curve over the numbers of scenes, a little to the right of the one before, which it may equal."""
    x = curve["scenes"].to_numpy() * 2.0 ** (0.07 * place)
    axes.vlines(x, curve["low"], curve["high"], color=look.colour, linewidth=1.0)
    axes.plot(
        x, curve["value"], color=look.colour, marker=look.marker, dashes=look.dashes or (None, None),
        linewidth=1.0, label=label,
    )  # fmt: skip


def _looks(groups: Iterable, called: str) -> list[tuple[Look, Any]]:
    """A look for each group."""
    names = list(groups)
    if len(names) > len(SERIES_LOOKS):
        raise ValueError(f"The table has {len(names)} {called}; a figure tells {len(SERIES_LOOKS)} apart: choose some.")
    return list(zip(SERIES_LOOKS, names, strict=False))


def _legend_above(axes: Axes, columns: int = 2) -> None:
    """The legend above all curves of a logarithmic scale, in room made for it."""
    lines = -(-len(axes.get_legend_handles_labels()[1]) // columns)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** (0.11 * lines))
    axes.legend(loc="upper left", ncols=columns)


def _times_axis(axes: Axes) -> None:
    """A logarithmic vertical scale of factors."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axes.yaxis.set_major_formatter(_TIMES)
    axes.yaxis.set_minor_locator(NullLocator())


def _scenes_axis(axes: Axes, table: pd.DataFrame) -> Axes:
    """The number of scenes a data set, doubling to the right, and how many data sets there are."""
    numbers = sorted(set(table["scenes"]))
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(-0.03, 1.03)
    sets = sample_size(table["datasets"]).replace("scene", "data set")
    axes.set_xlabel(f"scenes of a data set\n{sets} a point, 95 % interval over them")
    axes.grid(axis="y")
    axes.legend()
    return axes
