"""What an evaluation costs at scale: where the seconds of one expression go."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from refam_analysis.figures.style import INK, SERIES_LOOKS

_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++")


def cost_shares(axes: Axes, table: pd.DataFrame) -> Axes:
    """A bar for every case, of the parts of its seconds.

    Args:
        axes: to draw on.
        table: a row a case, its name in the index; a column a part, in seconds. At most seven parts; each has a hatch
            of its own, so that they are told apart without colour.

    Returns:
        ``axes``.

    Raises:
        ValueError: there are more parts than hatches.
    """
    if len(table.columns) > len(_HATCHES):
        raise ValueError(f"{len(table.columns)} parts cannot be told apart; at most {len(_HATCHES)} can: add some up.")
    places, left = np.arange(len(table)), np.zeros(len(table))
    for number, part in enumerate(table.columns):
        look = SERIES_LOOKS[number % len(SERIES_LOOKS)]
        seconds = table[part].to_numpy(dtype=float)
        axes.barh(
            places, seconds, left=left, height=0.62, color=look.colour, edgecolor=INK, linewidth=0.6,
            hatch=_HATCHES[number], label=part,
        )  # fmt: skip
        left += seconds
    for place, total in zip(places, left, strict=True):
        axes.annotate(
            f"{total:.2g}", (total, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize="small"
        )
    axes.set_yticks(places, [str(name) for name in table.index])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlim(0.0, 1.12 * left.max())
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("seconds an expression")
    axes.grid(axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, handlelength=1.6)
    return axes
