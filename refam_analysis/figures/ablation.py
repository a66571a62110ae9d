"""Figures of the ablation: what every switch changes, by kind of expression too, and which points it moves.

The tables come from :mod:`refam_analysis.experiments.ablation_tables`, and are drawn as they are.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from refam_analysis.figures.parts import interval_reach
from refam_analysis.figures.style import FAINT, INK, SERIES_LOOKS, Look, only_value, sample_size, statement

_LABELS = {
    "mean_iou": "change of mean IoU",
    "overall_iou": "change of overall IoU",
    "point_accuracy": "change of point accuracy\n(share of scenes)",
}
_EFFECTS = {"main": "mean over the other switches", "simple": "all other switches off"}
_APART = 0.19  # of a row, between two of its dots


def switch_effects(axes: Axes, effects: pd.DataFrame) -> Axes:
    """What each switch changes: two dots with intervals, the mean over the other switches and with all others off.

    Rings mark changes with a false discovery rate of at most 0.05.

    Args:
        axes: to draw on.
        effects: from :func:`refam_analysis.experiments.ablation_tables.effect_table`, of one measure, segmenter and
            kind.

    Returns:
        ``axes``.

    Raises:
        ValueError: the table has several of one of these.
    """
    only_value(effects, "segmenter")
    only_value(effects, "kind")
    looks = dict(zip(_EFFECTS, (SERIES_LOOKS[0], SERIES_LOOKS[1]), strict=True))
    _rows_of_dots(axes, effects, "effect", looks, _EFFECTS)
    return axes


def switch_effects_by_kind(axes: Axes, effects: pd.DataFrame) -> Axes:
    """What each switch changes for every kind of expression: a dot with its interval each, rings as above.

    Args:
        axes: to draw on.
        effects: from :func:`refam_analysis.experiments.ablation_tables.effect_table`, by kind, of one measure,
            segmenter and effect.

    Returns:
        ``axes``.

    Raises:
        ValueError: the table has several of one of these.
    """
    only_value(effects, "segmenter")
    only_value(effects, "effect")
    kinds = list(dict.fromkeys(effects["kind"]))
    _rows_of_dots(axes, effects, "kind", dict(zip(kinds, SERIES_LOOKS, strict=False)), {kind: kind for kind in kinds})
    return axes


def points_moved(axes: Axes, moved: pd.DataFrame) -> Axes:
    """Where each switch sends points: to the right the share that came onto the target, to the left that left it.

    Behind each name stands the share of scenes whose point moved at all.

    Args:
        axes: to draw on.
        moved: from :func:`refam_analysis.experiments.ablation_tables.moved_points`, of one kind.

    Returns:
        ``axes``.

    Raises:
        ValueError: the table has several kinds.
    """
    only_value(moved, "kind")
    places = np.arange(len(moved))
    for name, sign, look in (("lost", -1.0, SERIES_LOOKS[1]), ("gained", 1.0, SERIES_LOOKS[0])):
        lengths = sign * moved[name].to_numpy(dtype=float)
        label = {"lost": "left the target", "gained": "came onto the target"}[name]
        axes.barh(places, lengths, height=0.6, color=look.colour, hatch=look.hatch, edgecolor=INK, linewidth=0.6,
                  label=label)  # fmt: skip
    axes.set_yticks(places, [f"{row.switch} ({row.moved:.0%} moved)" for row in moved.itertuples()])
    axes.set_ylim(len(moved) - 0.5, -0.5)
    reach = 1.15 * max(float(moved[["gained", "lost"]].to_numpy().max()), 0.01)
    axes.set_xlim(-reach, reach)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, symmetric=True))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.axvline(0.0, color=INK, linewidth=0.8)
    axes.set_xlabel(f"share of points\n{sample_size(moved['scenes'])}")
    axes.grid(axis="x")
    axes.legend()
    return axes


def _rows_of_dots(axes: Axes, table: pd.DataFrame, by: str, looks: dict[str, Look], labels: dict[str, str]) -> None:
    """A row a switch, in it a dot a name."""
    measure = only_value(table, "measure")
    switches = list(dict.fromkeys(table["switch"]))
    places = table["switch"].map(switches.index).to_numpy(dtype=float)
    asides = dict(zip(looks, _APART * (np.arange(len(looks)) - (len(looks) - 1) / 2), strict=True))
    for name, look in looks.items():
        some = (table[by] == name).to_numpy()
        _dots(axes, table[some], places[some] + asides[name], look, label=labels[name], filled=name != "simple")
    told = (table["q"] <= 0.05).to_numpy()
    if told.any():
        heights = places[told] + table.loc[told, by].map(asides).to_numpy(dtype=float)
        axes.scatter(table.loc[told, "change"], heights, s=90, facecolors="none", edgecolors=INK, linewidths=1.0,
                     label="q at most 0.05")  # fmt: skip
    axes.set_yticks(range(len(switches)), switches)
    axes.set_ylim(len(switches) - 0.4, -0.6)
    axes.hlines(np.arange(1, len(switches)) - 0.5, 0.0, 1.0, transform=axes.get_yaxis_transform(), color=FAINT,
                linewidth=0.4)  # fmt: skip
    axes.tick_params(axis="y", length=0)
    axes.axvline(0.0, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_xlabel(f"{_LABELS.get(measure, measure)}\n{statement(table)}")
    axes.grid(axis="x")
    axes.legend()


def _dots(axes: Axes, table: pd.DataFrame, places: np.ndarray, look: Look, *, label: str, filled: bool) -> None:
    middle = table["change"].to_numpy(dtype=float)
    reach = interval_reach(middle, table["change_low"], table["change_high"])
    axes.errorbar(
        middle, places, xerr=reach, fmt=look.marker, color=look.colour, ecolor=INK, capsize=2.5, linewidth=1.0,
        markerfacecolor=look.colour if filled else "none", label=label,
    )  # fmt: skip
