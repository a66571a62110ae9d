"""The attention matrix of one block and head, with the borders between text and image and the words along it."""

from __future__ import annotations

from itertools import groupby
from typing import Literal

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from refam_analysis.analysis.positions import positions
from refam_analysis.figures.style import HEAT_COLOURS, INK, PAPER, label_lines

_AXES: tuple[Literal["query", "key"], ...] = ("query", "key")


def attention_matrix(axes: Axes, attention: xr.DataArray) -> Axes:
    """Who attends to whom: a row a query, a column a key, on a logarithmic scale.

    Text tokens carry their pieces; a run of padding and the whole image carry one label each. Where labels would
    touch, the later one is left out. To read every word, give the part between text and text.

    Args:
        axes: to draw on.
        attention: axes (query, key), probabilities, with the coordinates of a Recording. Probabilities under a
            hundredth of uniform are drawn in the darkest colour.

    Returns:
        ``axes``, with a colour bar beside it.

    Raises:
        ValueError: ``attention`` has axes left besides query and key.

    """
    if attention.dims != ("query", "key"):
        raise ValueError(
            f"attention has the axes {attention.dims}: choose one step, branch, block and head with "
            f".isel or .sel, so that ('query', 'key') are left."
        )
    uniform = 1.0 / attention.sizes["key"]
    norm = LogNorm(0.01 * uniform, max(1.0, float(attention.max())), clip=True)
    picture = axes.imshow(attention.values, cmap=HEAT_COLOURS, norm=norm, aspect="auto")
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(picture, ax=axes, label="attention (probability, log scale)")
    for name in _AXES:
        places, labels, borders = _segments(attention, name)
        flat = name == "query"
        label_lines(axes, "y" if flat else "x", places, labels, span=attention.sizes[name], upright=not flat)
        line = axes.axhline if name == "query" else axes.axvline
        for border in borders:
            line(border, color=PAPER, linewidth=2.2)
            line(border, color=INK, linewidth=0.8)
    axes.set_xlabel(f"key ({attention.sizes['key']} tokens)")
    axes.set_ylabel(f"query ({attention.sizes['query']} tokens)")
    return axes


def _segments(attention: xr.DataArray, axis: Literal["query", "key"]) -> tuple[list[float], list[str], list[float]]:
    """Where labels stand, what they say, and where the side changes."""
    table = positions(attention, axis)
    places: list[float] = []
    labels: list[str] = []
    borders: list[float] = []
    start = 0
    for (side, kind), run in groupby(zip(table["side"], table["kind"], table["text"], strict=True), lambda r: r[:2]):
        texts = [text for _, _, text in run]
        if start and table["side"].iloc[start - 1] != side:
            borders.append(start - 0.5)
        if side != "text" or (kind in ("padding", "unknown") and len(texts) > 1):
            places.append(start + (len(texts) - 1) / 2.0)
            labels.append(f"{kind} ×{len(texts)}")
        else:
            places += [float(start + offset) for offset in range(len(texts))]
            labels += texts
        start += len(texts)
    return places, labels, borders
