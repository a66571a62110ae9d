"""Figures of what went wrong: for every group of scenes its failures, by their cause.

The causes are measured in :mod:`refam_analysis.evaluation.failures`; here they are drawn as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from refam_analysis.figures.redistribution import REGION_LOOKS
from refam_analysis.figures.style import INK, KIND_LOOKS, PAPER

_SEGMENTER = KIND_LOOKS["special"].colour
_LOOKS: Mapping[str, tuple[str, str]] = {
    "another object, of the same colour or shape": (REGION_LOOKS["distractors"].colour, ""),
    "another object, alike in neither": (REGION_LOOKS["distractors"].colour, "////"),
    "just beside the target": (REGION_LOOKS["target"].colour, "...."),
    "on the ground": (REGION_LOOKS["background"].colour, ""),
    "segmenter, from a good point": (_SEGMENTER, ""),
    "segmenter, from any point": (_SEGMENTER, "xxxx"),
}
"""Cause -> colour and hatch: the colour says on what the point lies, or that the segmenter is to blame."""

_LEAST_WRITTEN = 0.035
"""Shares below this have no room for their number."""


def failure_shares(axes: Axes, groups: Mapping[str, pd.DataFrame]) -> Axes:
    """A bar for every group of scenes, of the shares of its scenes that failed for each cause.

    Args:
        axes: to draw on.
        groups: by name, from :func:`refam_analysis.evaluation.failures.cause_shares`.

    Returns:
        ``axes``. What is left to 100 % is the share of scenes with a right mask. Shares of a few per cent are drawn
        without their number.
    """
    for place, table in enumerate(groups.values()):
        left = 0.0
        for row in table.itertuples():
            colour, hatch = _LOOKS[str(row.cause)]
            share = float(str(row.share))
            axes.barh(place, share, left=left, height=0.64, color=colour, edgecolor=INK, linewidth=0.6, hatch=hatch,
                      label=str(row.cause) if place == 0 else None)  # fmt: skip
            if share >= _LEAST_WRITTEN:
                axes.text(left + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=8,
                          bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0})  # fmt: skip
            left += share
        axes.annotate(f"{1 - left:.0%} right", (left, place), xytext=(5, 0), textcoords="offset points", va="center",
                      fontsize=8.5)  # fmt: skip
    names = [f"{name}\nn = {int(table['scenes'].max())}" for name, table in groups.items()]
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0.0, 1.0)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the scenes, by the cause of the failure")
    axes.grid(axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, handlelength=1.6)
    return axes
