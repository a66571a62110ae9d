"""Single matrices, heads and tokens, near enough to be read: what a walk through the whole tensor stops at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from refam_analysis.figures.parts import banded_curve
from refam_analysis.figures.pictures import heat_over
from refam_analysis.figures.style import (
    FAINT,
    HEAT_COLOURS,
    INK,
    KIND_LOOKS,
    PAPER,
    SERIES_LOOKS,
    SIDE_LOOKS,
    Look,
    statement,
)

_BLOCK_LOOKS: dict[str, Look] = {"double": SERIES_LOOKS[0], "single": SERIES_LOOKS[3], "transformer": SERIES_LOOKS[2]}
"""Of heads, by the type of their block."""


def small_matrix(
    axes: Axes, matrix: ArrayLike, names: Sequence[str], sides: Sequence[str], *, written: bool = True
) -> Axes:
    """An attention matrix of few tokens, its numbers written in its cells, with the border between text and image.

    Args:
        axes: to draw on.
        matrix: (query, key), probabilities.
        names: one a token, along both edges.
        sides: "text" or "image", one a token, in runs; they colour the names.
        written: write the numbers, in hundredths.

    Returns:
        ``axes``.

    Raises:
        ValueError: the matrix is not square, or names and sides are not as many as its rows.
    """
    values = np.asarray(matrix, dtype=float)
    count = len(values)
    if values.shape != (count, count) or not len(names) == len(sides) == count:
        raise ValueError(
            f"The matrix has the shape {values.shape}, and there are {len(names)} names and {len(sides)} sides: give a "
            "square matrix with a name and a side for each token."
        )
    axes.imshow(values, cmap=HEAT_COLOURS, vmin=0.0, vmax=float(values.max()))
    for (row, column), value in np.ndenumerate(values if written else np.empty((0, 0))):
        ink = INK if value > 0.6 * values.max() else PAPER
        axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7.5, color=ink)
    borders = [place - 0.5 for place in range(1, count) if sides[place] != sides[place - 1]]
    for border in borders:
        axes.axhline(border, color=PAPER, linewidth=2.4)
        axes.axvline(border, color=PAPER, linewidth=2.4)
    axes.set_xticks(range(count), names, rotation=90)
    axes.set_yticks(range(count), names)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label, side in zip(labels, sides, strict=True):
            label.set_color(SIDE_LOOKS[side].colour)
    axes.tick_params(length=0, labelsize=8.5)
    axes.set_xlabel("keys: what is looked at")
    axes.set_ylabel("queries: who looks")
    return axes


def row_and_column(axes: NDArray[Any], image: ArrayLike, attention: xr.DataArray, query: int) -> NDArray[Any]:
    """One token's row (where it looks) and its column (who looks at it): over the text as bars, over the image as maps.

    Args:
        axes: (2, 2): above the row, below the column; left the text, right the image.
        image: uint8 (height, width, 3).
        attention: axes (query, key), probabilities, with the coordinates of a Recording and the attribute ``grid``,
            the shape of the image grid (y, x); as many queries as keys.
        query: the token's place along both axes.

    Returns:
        ``axes``.

    Raises:
        ValueError: the attention has other axes, lacks its grid, or ``axes`` is of another shape.
    """
    if attention.dims != ("query", "key") or "grid" not in attention.attrs or axes.shape != (2, 2):
        raise ValueError(
            f"attention has the axes {attention.dims} and the attributes {sorted(attention.attrs)}, and the Axes the "
            f"shape {axes.shape}: give (query, key) with the attribute 'grid', and Axes of the shape (2, 2)."
        )
    sides = attention["side"].values
    kinds = [str(kind) for kind in attention["kind"].values[sides == "text"]]
    uniform = 1.0 / attention.sizes["key"]
    lines = {"looks at (its row)": attention.values[query], "is looked at by (its column)": attention.values[:, query]}
    for (left, right), (name, values) in zip(axes, lines.items(), strict=True):
        on_text, on_image = values[sides == "text"], values[sides == "image"]
        left.bar(range(len(kinds)), on_text / uniform, color=[KIND_LOOKS[kind or "unknown"].colour for kind in kinds])
        left.axhline(1.0, color=FAINT, linewidth=0.8, linestyle=":")
        left.set_ylabel(f"{name}\n(times uniform)", fontsize=8.5)
        left.set_xticks([])
        left.margins(x=0.01)
        heat_over(right, image, on_image.reshape(attention.attrs["grid"]))
        right.set_xlabel(f"peak {on_image.max() / uniform:.1f} times uniform", fontsize=8)
    pieces = [str(piece).strip("▁Ġ ") for piece in attention["text"].values[sides == "text"]]
    shown = [place for place, kind in enumerate(kinds) if kind != "padding"]
    axes[1, 0].set_xticks(shown, [pieces[place] for place in shown], rotation=90, fontsize=8)
    axes[1, 0].tick_params(length=0)
    return axes


def heads_plane(axes: Axes, table: pd.DataFrame, x: str, y: str, *, labels: tuple[str, str]) -> Axes:
    """Every head as a point between two of its indices, named ``block.head``, with intervals over scenes.

    Args:
        axes: to draw on.
        table: a row a head: ``block``, ``head``, ``block_type``, ``scenes``, and for each index its value and the ends
            ``_low`` and ``_high``.
        x, y: the columns of the two indices.
        labels: of the two axes, with units.

    Returns:
        ``axes``.
    """
    for kind, rows in table.groupby("block_type", sort=False):
        look = _BLOCK_LOOKS.get(str(kind), SERIES_LOOKS[4])
        across, up = (_reach(rows, name) for name in (x, y))
        axes.errorbar(
            rows[x], rows[y], xerr=across, yerr=up, fmt=look.marker, color=look.colour, ecolor=FAINT, elinewidth=0.8,
            markersize=6, label=f"{kind} blocks",
        )  # fmt: skip
    if len(table) <= 48:
        for block, head, *place in table[["block", "head", x, y]].itertuples(index=False, name=None):
            beside: dict[str, Any] = {"xytext": (4, 3), "textcoords": "offset points", "fontsize": 7.5, "color": INK}
            axes.annotate(f"{block}.{head}", (place[0], place[1]), **beside)
    axes.set_xlabel(f"{labels[0]}\n{statement(table)}")
    axes.set_ylabel(labels[1])
    axes.grid()
    axes.legend()
    return axes


def values_against(axes: Axes, table: pd.DataFrame, x: str, by: str, *, labels: tuple[str, str]) -> Axes:
    """Curves of a value against a number that was chosen, a curve a name, each with its interval.

    Args:
        axes: to draw on.
        table: a row a (number, name): the columns ``x`` and ``by``, ``value``, ``low``, ``high`` and ``scenes``.
        x: the column of the numbers.
        by: the column of the names; those of token kinds and of sides have their colours.
        labels: of the two axes, with units.

    Returns:
        ``axes``.
    """
    spare = iter(SERIES_LOOKS)
    for name, curve in table.groupby(by, sort=False):
        look = {**KIND_LOOKS, **SIDE_LOOKS}.get(str(name)) or next(spare, SERIES_LOOKS[-1])
        banded_curve(axes, curve, x, look, str(name))
    axes.set_xticks(sorted(set(table[x])))
    axes.set_xlabel(f"{labels[0]}\n{statement(table)}")
    axes.set_ylabel(labels[1])
    axes.grid(axis="y")
    axes.legend()
    return axes


def _reach(rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """From a value down to the lower and up to the upper end of its interval, (2, row)."""
    ends = rows[[f"{name}_low", f"{name}_high"]].to_numpy(dtype=float).T
    reach: NDArray[np.float64] = np.nan_to_num(np.abs(ends - rows[name].to_numpy(dtype=float)))
    return reach
