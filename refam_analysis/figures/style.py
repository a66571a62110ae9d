"""The one look of every figure: colours by token kind, a scale for heat, and small helpers for labels.

Colours are Okabe and Ito's (with three greys), which readers with any of the common colour deficiencies tell apart;
where two of them are equally light, so that print in grey would lose them, markers, dashes and hatches differ too.
Figures stand on a paper of their own, neutral and opaque, so that their ink is readable on a light page and on a dark
one. What is drawn is in the other files of this room.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from numpy.typing import ArrayLike, NDArray

PAPER = "#f7f6f3"
INK = "#2b2b2b"
FAINT = "#8a8a86"
SMALLEST_LABEL = 6.0
"""In points; labels that would need to be smaller are left out instead."""
HEAT_COLOURS = "magma"
"""Of every map and matrix: lightness rises with the value, so it is right in grey as well."""


@dataclass(frozen=True)
class Look:
    """How one group is drawn: its colour, and what tells it apart without colour."""

    colour: str
    marker: str
    dashes: tuple[float, ...]
    hatch: str


KIND_LOOKS: dict[str, Look] = {
    "content": Look("#0072B2", "o", (), ""),
    "magnet": Look("#D55E00", "D", (4, 1.5), "//"),
    "stop": Look("#E69F00", "s", (1, 1), ".."),
    "punctuation": Look("#3d3d3d", "P", (3, 1, 1, 1), "++"),
    "special": Look("#CC79A7", "^", (6, 2), "xx"),
    "padding": Look("#6f6f6f", "v", (2, 2), "\\\\"),
    "template": Look("#56B4E9", "X", (5, 1, 1, 1, 1, 1), "oo"),
    "unknown": Look("#56B4E9", "X", (5, 1, 1, 1, 1, 1), "oo"),
    "image": Look("#009E73", "h", (8, 2, 2, 2), "--"),
    "other": Look("#b8b4a8", "p", (1, 3), "**"),
}
"""Token kinds in the order in which figures list them; ``image`` stands for every image token."""

SIDE_LOOKS: dict[str, Look] = {"text": KIND_LOOKS["content"], "image": KIND_LOOKS["image"]}
"""The two sides that queries come from; the image's is that of image tokens, wherever they are drawn."""

SERIES_LOOKS: tuple[Look, ...] = tuple(KIND_LOOKS[kind] for kind in ("content", "magnet", "image", "special", "stop"))
"""For series that are neither kinds nor sides, in order."""


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw in the library's style inside the ``with``, and leave matplotlib as it was after it.

    Yields:
        A context manager; it gives nothing.

    >>> with figure_style():
    ...     mpl.rcParams["figure.facecolor"] == PAPER
    True
    """
    settings: dict[Any, Any] = {
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "axes.facecolor": PAPER,
        "figure.dpi": 110,
        "savefig.dpi": 160,
        "savefig.bbox": "tight",
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.labelsize": 9.5,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "axes.axisbelow": True,
        "grid.color": "#d9d7d0",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.6,
        "lines.markersize": 4.5,
        "hatch.linewidth": 0.6,
        "image.interpolation": "nearest",
        "figure.constrained_layout.use": True,
        **{name: INK for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")},
    }
    with mpl.rc_context(settings):
        yield


def sample_size(counts: ArrayLike) -> str:
    """How many scenes a table rests on, as every figure writes it.

    >>> sample_size([40, 40]), sample_size([3, 40])
    ('n = 40 scenes', 'n = 3 to 40 scenes')
    """
    numbers = np.asarray(counts)
    low, high = int(numbers.min()), int(numbers.max())
    scenes = "scene" if high == 1 else "scenes"
    return f"n = {high} {scenes}" if low == high else f"n = {low} to {high} {scenes}"


def statement(table: pd.DataFrame) -> str:
    """What the line under a figure says about its table: how many scenes, and which interval.

    >>> table = pd.DataFrame({"scenes": [8, 8]})
    >>> table.attrs["confidence"] = 0.95
    >>> statement(table)
    'n = 8 scenes, 95 % interval over scenes'
    """
    confidence = table.attrs.get("confidence")
    interval = f"{confidence:.0%}".replace("%", " % interval") if confidence else "interval"
    single = int(np.asarray(table["scenes"]).max()) < 2
    return sample_size(table["scenes"]) + (", no interval" if single else f", {interval} over scenes")


def only_value(table: pd.DataFrame, column: str) -> str:
    """The one value of a column, of a table that is to be of one thing.

    Raises:
        ValueError: the table is of several, or empty.

    >>> only_value(pd.DataFrame({"block": [3, 3]}), "block")
    '3'
    """
    names = list(table[column].unique())
    if len(names) != 1:
        raise ValueError(f"The table has {len(names)} of {column!r}; this figure shows one: choose from {names}.")
    return str(names[0])


def only_side(table: pd.DataFrame) -> str:
    """The one side, "text" or "image", whose queries a table is of.

    Raises:
        ValueError: the table has both.

    >>> only_side(pd.DataFrame({"from_queries": ["text", "text"]}))
    'text'
    """
    sides = list(table["from_queries"].unique())
    if len(sides) != 1:
        raise ValueError(
            f"The table has the queries of {' and '.join(sides)}; a figure shows one query side: choose it with "
            "table[table['from_queries'] == 'image']."
        )
    return str(sides[0])


def non_overlapping(positions: Sequence[float], spacing: float) -> NDArray[np.intp]:
    """Which labels to keep so that no two are nearer than ``spacing``, from the first on.

    Args:
        positions: of the labels, ascending, in any unit.
        spacing: in the same unit.

    Returns:
        The indices that are kept.

    >>> non_overlapping([0.0, 1.0, 2.0, 10.0], spacing=2.0).tolist()
    [0, 2, 3]
    """
    kept: list[int] = []
    for index, position in enumerate(positions):
        if not kept or position - positions[kept[-1]] >= spacing:
            kept.append(index)
    return np.array(kept, dtype=np.intp)


def label_lines(
    axes: Axes, axis: Literal["x", "y"], places: ArrayLike, labels: Sequence[str], *, span: float, upright: bool = False
) -> Axes:
    """Label places along an axis: smaller where they are close, and without those that would touch even so.

    Args:
        axes: whose axis to label.
        axis: "x" or "y".
        places: of the labels, ascending, in data units.
        labels: one a place.
        span: length of the axis in data units.
        upright: turn the labels of the x axis by 90 degrees.

    Returns:
        ``axes``.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    box = axes.get_position()
    width, height = figure.get_size_inches()
    points = float(box.height * height if axis == "y" else box.width * width) * 72.0
    positions = np.asarray(places, dtype=np.float64)
    letters = max((len(label) for label in labels), default=1) + 1
    lines = 0.75 * letters if axis == "x" and not upright else 1.3  # room that a label needs, in font sizes
    nearest = float(np.diff(positions).min()) if len(positions) > 1 else span
    size = float(np.clip(nearest * points / span / lines, SMALLEST_LABEL, mpl.rcParams["font.size"]))
    kept = non_overlapping(positions.tolist(), span * lines * size / max(points, 1e-6))
    (axes.yaxis if axis == "y" else axes.xaxis).set_ticks(positions[kept].tolist(), [labels[i] for i in kept])
    axes.tick_params(axis=axis, length=2, rotation=90 if upright else 0, labelsize=size)
    return axes


def picture_axes(axes: Axes) -> Axes:
    """Axes for a picture: no ticks, no frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def one_legend(axes: Sequence[Axes]) -> Legend:
    """One legend above all panels of a figure, in the place of one in each.

    Args:
        axes: the panels, of one figure with constrained layout; each name is listed once.

    Returns:
        The legend.
    """
    entries: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
        if own := ax.get_legend():
            own.remove()
    figure = axes[0].get_figure(root=True)
    assert figure is not None
    return figure.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=len(entries))
