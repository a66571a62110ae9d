"""Figures of the joint sequence: its four directions of attention, and the whole tensor of every block and head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from refam_analysis.figures.pictures import heat_over
from refam_analysis.figures.style import HEAT_COLOURS, INK, PAPER, SIDE_LOOKS, picture_axes

if TYPE_CHECKING:
    from refam_analysis.models.layout import TokenLayout  # importing it for real would load PyTorch

_TEXT_SHARE = 0.34
"""Of the schematic's side. In a real sequence the text would often be too thin to write into."""

_QUESTIONS = {
    ("text", "text"): "words among\nthemselves",
    ("text", "image"): "what a word looks at",
    ("image", "text"): "what a patch\nreads",
    ("image", "image"): "patches among themselves",
}


def directions(axes: Axes, layout: TokenLayout) -> Axes:
    """Which part of the attention matrix is which direction: a schematic, not to scale.

    Args:
        axes: to draw on.
        layout: of the sequence, which gives the numbers of tokens and says which side stands first.

    Returns:
        ``axes``.
    """
    text_first = layout.text.start < layout.image.start
    spans = {"text": (0.0, _TEXT_SHARE), "image": (_TEXT_SHARE, 1.0)}
    if not text_first:
        spans = {"image": (0.0, 1.0 - _TEXT_SHARE), "text": (1.0 - _TEXT_SHARE, 1.0)}
    tokens = {"text": layout.text_length, "image": layout.image_length}
    for query, (top, bottom) in spans.items():
        for key, (left, right) in spans.items():
            own = query == key
            box = Rectangle((left, top), right - left, bottom - top, edgecolor=PAPER, linewidth=3)
            axes.add_patch(box).set_facecolor((SIDE_LOOKS[query].colour, 0.14 if own else 0.5))
            x, y = (left + right) / 2, (top + bottom) / 2
            axes.text(x, y - 0.01, f"{query}_to_{key}", ha="center", va="bottom", fontsize=9, color=INK)
            axes.text(x, y + 0.01, _QUESTIONS[query, key], ha="center", va="top", fontsize=7.5, color=INK)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(1.0, 0.0)
    middles = [sum(span) / 2 for span in spans.values()]
    labels = [f"{tokens[side]} {side}" for side in spans]
    axes.set_xticks(middles, labels)
    axes.set_yticks(middles, labels, rotation=90, va="center")
    axes.xaxis.set_ticks_position("top")
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0)
    axes.set_xlabel("keys: what is looked at")
    axes.set_ylabel("queries: who looks")
    axes.set_aspect("equal")
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def block_head_grid(axes: NDArray[Any], attention: xr.DataArray) -> NDArray[Any]:
    """The attention matrix of every block and head, all on one logarithmic scale.

    Args:
        axes: (head, block).
        attention: axes (block, head, query, key), probabilities, with the coordinates of a Recording.

    Returns:
        ``axes``, with one colour bar for all.

    Raises:
        ValueError: other axes, or numbers of blocks and heads that differ from those of ``axes``.
    """
    if attention.dims != ("block", "head", "query", "key") or axes.shape != attention.shape[1::-1]:
        raise ValueError(
            f"attention has the axes {attention.dims} of lengths {attention.shape[:2]}, and there are Axes of the "
            f"shape {axes.shape}: give (block, head, query, key) and Axes of the shape (head, block)."
        )
    uniform = 1.0 / attention.sizes["key"]
    norm = LogNorm(0.01 * uniform, 1.0, clip=True)
    sides = attention["side"].values
    borders = np.flatnonzero(sides[1:] != sides[:-1]) + 0.5
    for (row, column), ax in np.ndenumerate(axes):
        shown = attention.isel(block=column, head=row)
        picture = ax.imshow(shown.values, cmap=HEAT_COLOURS, norm=norm, interpolation="antialiased")
        for border in borders:
            ax.axhline(border, color=PAPER, linewidth=0.7)
            ax.axvline(border, color=PAPER, linewidth=0.7)
        _label_grid(picture_axes(ax), row, column, f"head {shown['head'].item()}", f"block {shown['block'].item()}")
    bar = {"location": "bottom", "shrink": 0.6, "aspect": 40}
    axes.flat[0].get_figure().colorbar(picture, ax=axes, label="attention (probability, log scale)", **bar)
    return axes


def word_block_grid(axes: NDArray[Any], image: ArrayLike, maps: xr.DataArray) -> NDArray[Any]:
    """The map of each word in each block over the picture, every map on a scale of its own.

    Args:
        axes: (token, block).
        image: uint8 (height, width, 3).
        maps: axes (token, block, y, x), with the coordinate ``text`` on token.

    Returns:
        ``axes``.

    Raises:
        ValueError: other axes, or numbers of tokens and blocks that differ from those of ``axes``.
    """
    if maps.dims != ("token", "block", "y", "x") or axes.shape != maps.shape[:2]:
        raise ValueError(
            f"maps has the axes {maps.dims} of lengths {maps.shape[:2]}, and there are Axes of the shape {axes.shape}: "
            "give (token, block, y, x) and Axes of the shape (token, block)."
        )
    for (row, column), ax in np.ndenumerate(axes):
        shown = maps.isel(token=row, block=column)
        heat_over(ax, image, shown.values)
        _label_grid(ax, row, column, str(shown["text"].item()).strip("▁Ġ "), f"block {shown['block'].item()}")
    return axes


def block_head_values(
    axes: Axes, values: xr.DataArray, *, unit: str, limits: tuple[float, float] | None = None
) -> Axes:
    """One number a block and head, written in its square.

    Args:
        axes: to draw on.
        values: axes (block, head), with their numbers as coordinates.
        unit: of the values, for the colour bar.
        limits: of the colours, to compare with another panel; left out, the values' own.

    Returns:
        ``axes``, with a colour bar.
    """
    shown = values.transpose("head", "block")
    low, high = limits or (float(shown.min()), float(shown.max()))
    picture = axes.imshow(shown.values, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(shown.values):
        light = value > (low + high) / 2
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8.5, color=INK if light else PAPER)
    axes.set_xticks(np.arange(shown.sizes["block"]), shown["block"].values)
    axes.set_yticks(np.arange(shown.sizes["head"]), shown["head"].values)
    axes.set_xlabel("block")
    axes.set_ylabel("head")
    axes.tick_params(length=0)
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(picture, ax=axes, label=unit)
    return axes


def _label_grid(axes: Axes, row: int, column: int, beside: str, above: str) -> None:
    """The column's name over the first row, the row's beside the first column."""
    if row == 0:
        axes.set_title(above, loc="center", fontsize=9)
    if column == 0:
        axes.set_ylabel(beside, fontsize=9)
