"""Figures of the causal tests: what acting on sinks changes, beside as many random tokens.

The tables come from :mod:`refam_analysis.experiments.causal`, and are drawn as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from refam_analysis.figures.parts import interval_reach
from refam_analysis.figures.style import FAINT, INK, KIND_LOOKS, Look, only_value, statement

_SINKS, _RANDOM = KIND_LOOKS["content"], KIND_LOOKS["magnet"]
_PATHS = {
    "score": "masked",
    "value": "value\nzero",
    "redirect": "onto\nmagnets",
    "redirect_word": "word onto\nmagnets",
}
_MEASURES = {
    "prediction": "change of the prediction\n(relative L2)",
    "average_precision": "change of average precision",
    "background_ratio": "change of the background ratio",
    "point_accuracy": "change of point accuracy\n(share of scenes)",
    "picture_rms": "change of the drawn picture\n(root mean square, 0 to 1)",
    "picture_structure": "change of the drawn picture\n(1 - structural similarity)",
    "named_colour": "change of the named colour\n(share of the drawn object)",
}
_GAP = 0.8  # between the groups of two paths, in places


def sinks_against_random(axes: Axes, summary: pd.DataFrame) -> Axes:
    """What acting on sinks changes and what random tokens do: two dots with intervals for each path and number.

    Full dots are sinks, hollow diamonds as many random tokens; a line joins each pair. The numbers of tokens stand
    below, and under them what was done.

    Args:
        axes: to draw on.
        summary: from :func:`refam_analysis.experiments.causal.summary`, of one measure.

    Returns:
        ``axes``.

    Raises:
        ValueError: the table has several measures.
    """
    measure = only_value(summary, "measure")
    places = _places(summary)
    values = {name: summary[name].to_numpy(dtype=float) for name in ("sink", "random")}
    axes.vlines(places, values["sink"], values["random"], color=FAINT, linewidth=0.8, zorder=1)
    for name, look, aside, label in (("sink", _SINKS, -0.13, "sinks"), ("random", _RANDOM, 0.13, "random tokens")):
        _dots(axes, places + aside, summary, name, look, label=label, filled=name == "sink")
    axes.set_ylabel(_MEASURES.get(measure, measure.replace("_", " ")))
    axes.legend()
    return _path_axis(axes, summary, places)


def sink_minus_random(axes: Axes, summary: pd.DataFrame) -> Axes:
    """How much more sinks change than random tokens do, scene by scene: a dot and its interval a path and number.

    Rings mark differences with a false discovery rate of at most 0.05.

    Args:
        axes: to draw on.
        summary: from :func:`refam_analysis.experiments.causal.summary`, of one measure.

    Returns:
        ``axes``.

    Raises:
        ValueError: the table has several measures.
    """
    measure = only_value(summary, "measure")
    places = _places(summary)
    _dots(axes, places, summary, "difference", _SINKS, label="sinks minus random tokens", filled=True)
    told = (summary["q"] <= 0.05).to_numpy()
    axes.scatter(places[told], summary["difference"][told], s=90, facecolors="none", edgecolors=INK, linewidths=1.0,
                 label="q at most 0.05")  # fmt: skip
    label, _, unit = _MEASURES.get(measure, measure.replace("_", " ")).partition("\n")
    axes.set_ylabel(f"{label},\nsinks minus random tokens" + (f"\n{unit}" if unit else ""))
    axes.legend()
    return _path_axis(axes, summary, places)


def _dots(
    axes: Axes, places: np.ndarray, table: pd.DataFrame, name: str, look: Look, *, label: str, filled: bool
) -> None:
    middle = table[name].to_numpy(dtype=float)
    reach = interval_reach(middle, table[f"{name}_low"], table[f"{name}_high"])
    axes.errorbar(
        places, middle, yerr=reach, fmt=look.marker, color=look.colour, ecolor=INK, capsize=2.5, linewidth=1.0,
        markerfacecolor=look.colour if filled else "none", label=label,
    )  # fmt: skip


def _places(summary: pd.DataFrame) -> np.ndarray:
    """Where each row stands: one after the other, with a gap between paths."""
    begins = (summary["path"] != summary["path"].shift()).to_numpy()
    return np.arange(len(summary)) + _GAP * (np.cumsum(begins) - 1)


def _path_axis(axes: Axes, summary: pd.DataFrame, places: np.ndarray) -> Axes:
    axes.axhline(0.0, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xticks(places, list(_labels(summary)))
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(places[0] - 0.6, places[-1] + 0.6)
    axes.set_xlabel(f"tokens acted on, and how\n{statement(summary)}")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.grid(axis="y")
    return axes


def _labels(summary: pd.DataFrame) -> Iterator[str]:
    """The number of tokens; in the middle of each path its name too."""
    for path, rows in summary.groupby("path", sort=False):
        for place, number in enumerate(rows["number"]):
            middle = place == (len(rows) - 1) // 2
            yield f"{number}\n{_PATHS.get(str(path), path)}" if middle else str(number)
