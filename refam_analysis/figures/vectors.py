"""A figure as vectors, for pages and notebooks: sharp at every size, small, and always the same text.

Pictures, maps of many cells and clouds of many points stay pictures within the vectors. What is drawn is in the other
files of this room.
"""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
from matplotlib.collections import Collection, QuadMesh
from matplotlib.figure import Figure

RESOLUTION = 160
"""Dots per inch of what is not drawn as vectors: sharp enough for a page of the book."""
MOST_PARTS = 400
"""More cells or points than this are drawn as a picture within the vectors."""


def as_svg(figure: Figure) -> str | None:
    """A figure as SVG, the same text for the same figure, whenever and wherever it is written.

    Args:
        figure: to write; None is the answer for one without axes.

    >>> as_svg(Figure()) is None
    True
    """
    if not figure.axes:
        return None
    for artist in figure.findobj(Collection):
        assert isinstance(artist, Collection)
        if _parts(artist) > MOST_PARTS:
            artist.set_rasterized(True)
    written = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "refam", "svg.fonttype": "path"}):
        figure.savefig(written, format="svg", dpi=RESOLUTION, metadata={"Date": None})
    return written.getvalue()


def draw_vectors_in_notebook() -> None:
    """Have the notebook that runs this show figures as SVG; do nothing where no notebook runs."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None or shell.display_formatter is None or not hasattr(shell, "kernel"):
        return
    shell.enable_matplotlib("inline")  # at once, because later it would replace what is chosen here
    formatters = shell.display_formatter.formatters
    formatters["image/png"].pop(Figure, None)
    formatters["image/svg+xml"].for_type(Figure, as_svg)


def _parts(artist: Collection) -> int:
    values = artist.get_array() if isinstance(artist, QuadMesh) else None
    if values is not None:
        return int(np.size(values))
    return int(np.shape(artist.get_offsets())[0])
