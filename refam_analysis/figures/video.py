"""Figures of clips: strips of frames with their masks, how well an object is covered, attention between frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from refam_analysis.figures.parts import banded_curve, block_axis
from refam_analysis.figures.pictures import heat_over, mark_point, mask_overlay
from refam_analysis.figures.style import FAINT, INK, KIND_LOOKS, SERIES_LOOKS, statement

_IN_SIGHT = 1.06
_SAID = 1.13


def clip_strip(
    axes: Sequence[Axes],
    frames: ArrayLike,
    masks: ArrayLike,
    numbers: Sequence[int],
    *,
    truth: ArrayLike | None = None,
    point: tuple[float, float] | None = None,
) -> Sequence[Axes]:
    """Some frames of a clip with their masks, from left to right; the true masks, if given, as dashed outlines.

    Args:
        axes: one a number.
        frames: uint8 (frame, height, width, 3).
        masks: bool (frame, height, width); under an empty one stands "no mask" where the
            true one shows something, else "out of sight".
        numbers: of the frames to show.
        truth: bool (frame, height, width).
        point: (x, y) in pixels of the first frame; drawn where that is shown.

    Returns:
        ``axes``.

    Raises:
        ValueError: not one Axes a number.
    """
    if len(axes) != len(numbers):
        raise ValueError(f"There are {len(numbers)} frames and {len(axes)} Axes: give an Axes for each frame.")
    pictures, predicted = np.asarray(frames), np.asarray(masks, dtype=bool)
    for ax, number in zip(axes, numbers, strict=True):
        true = None if truth is None else np.asarray(truth, dtype=bool)[number]
        mask_overlay(ax, pictures[number], predicted[number], truth=true, point=point if number == 0 else None)
        ax.set_title(f"frame {number}", loc="center", fontsize=8.5)
        if not predicted[number].any():
            seen = true is not None and bool(true.any())
            ax.set_xlabel("no mask" if seen else "out of sight", fontsize=8)
    return axes


def frame_heatmaps(
    axes: Sequence[Axes], frames: ArrayLike, heatmaps: ArrayLike, numbers: Sequence[int]
) -> Sequence[Axes]:
    """The maps of a video model over the first frame that each of them stands for, all on one scale.

    Args:
        axes: one a map.
        frames: uint8 (frame, height, width, 3), the whole clip.
        heatmaps: (map, y, x), not negative.
        numbers: of the frames.

    Returns:
        ``axes``.

    Raises:
        ValueError: not one Axes and one number a map.
    """
    maps, pictures = np.asarray(heatmaps, dtype=float), np.asarray(frames)
    if not len(axes) == len(maps) == len(numbers):
        raise ValueError(f"There are {len(maps)} maps, {len(numbers)} frames and {len(axes)} Axes: give one of each.")
    for ax, heat, number in zip(axes, maps, numbers, strict=True):
        heat_over(ax, pictures[number], heat, limit=float(maps.max()))
        rows, columns = pictures.shape[1:3]
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        across, down = (column + 0.5) * columns / heat.shape[1] - 0.5, (row + 0.5) * rows / heat.shape[0] - 0.5
        mark_point(ax, (float(across), float(down)))
        ax.set_title(f"frame {number}", loc="center", fontsize=8.5)
    return axes


def following_over_time(
    axes: Axes, overlap: ArrayLike, scores: ArrayLike, *, in_sight: ArrayLike, said: ArrayLike
) -> Axes:
    """How well each frame's mask covers the object, what the propagator guessed, and when it was in sight.

    Args:
        axes: to draw on.
        overlap: (frame,): intersection over union with the truth; NaN where the object is out of sight.
        scores: (frame,): the propagator's own guess.
        in_sight: bool (frame,): drawn as a row of squares above the curves.
        said: bool (frame,): what the propagator said of it, as a second row.

    Returns:
        ``axes``.
    """
    measured, guessed = np.asarray(overlap, dtype=float), np.asarray(scores, dtype=float)
    time = np.arange(len(measured))
    first, second = SERIES_LOOKS[0], SERIES_LOOKS[1]
    axes.plot(time, measured, color=first.colour, marker=first.marker, label="IoU with the truth")
    axes.plot(time, guessed, color=second.colour, dashes=second.dashes, label="the propagator's guess")
    for height, seen, name, colour in (
        (_IN_SIGHT, in_sight, "in sight", INK),
        (_SAID, said, "said to be in sight", KIND_LOOKS["image"].colour),
    ):
        shown = np.where(np.asarray(seen, dtype=bool), height, np.nan)
        axes.plot(time, shown, color=colour, linestyle="", marker="s", markersize=5.5, label=name)
    axes.axhline(1.0, color=FAINT, linewidth=0.6)
    axes.set_ylim(0.0, 1.2)
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("frame")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return axes


def shares_between_frames(axes: Axes, table: pd.DataFrame, *, query_frame: int) -> Axes:
    """What the patches of one latent frame attend to in every block: the text, and each latent frame.

    Args:
        axes: to draw on.
        table: from :func:`~refam_analysis.analysis.attention_between_frames`.
        query_frame: of the patches.

    Returns:
        ``axes``; the dotted lines are the shares of attention alike to all keys, for the text and for a frame.

    Raises:
        ValueError: the table has no such frame.
    """
    rows = table[table["query_frame"] == query_frame]
    if rows.empty:
        known = sorted(table["query_frame"].unique().tolist())
        raise ValueError(f"query_frame={query_frame} is not in the table: choose among {known}.")
    for (keys, curve), look in zip(rows.groupby("keys", sort=False), cycle(SERIES_LOOKS), strict=False):
        banded_curve(axes, curve, "block", look, f"{keys}, its own" if keys == f"frame {query_frame}" else str(keys))
    for level in rows["uniform"].unique():
        axes.axhline(level, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel(f"share of the attention of frame {query_frame}")
    return block_axis(axes, statement(rows), columns=2)
