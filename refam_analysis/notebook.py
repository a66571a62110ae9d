"""What every notebook of the book begins with: the model that the reader chose, one look, figures as files on request.

Two names in the environment decide: ``REFAM_MODEL``, the model to look at (a hub id or a folder; the embedded one when
it is not set), and ``REFAM_FIGURES``, a folder that figures are also written to. What notebooks compute and draw is
in the other rooms.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from refam_analysis.figures.style import figure_style

if TYPE_CHECKING:
    from refam_analysis.models import DiffusionModel

MODEL_VARIABLE = "REFAM_MODEL"
FIGURES_VARIABLE = "REFAM_FIGURES"
FIGURE_FORMATS = ("png", "pdf")


def open_model() -> DiffusionModel:
    """The model that ``REFAM_MODEL`` names, or the embedded one.

    The embedded model is computed on the CPU, as in the book; another one on a GPU where PyTorch sees one.

    Raises:
        ModelFolderError and others: as :func:`refam_analysis.load_model`.
    """
    import torch

    from refam_analysis.models import load_model

    source = os.environ.get(MODEL_VARIABLE) or "embedded"
    elsewhere = source != "embedded" and torch.cuda.is_available()
    model = load_model(source, device="cuda" if elsewhere else None)
    model.pipeline.set_progress_bar_config(disable=True)  # a page has no use for it
    return model


def use_style() -> None:
    """Draw every figure from here on in the library's look, sharp enough for a page of the book."""
    with figure_style():
        chosen = {name: value for name, value in mpl.rcParams.items() if not name.startswith("backend")}
    mpl.rcParams.update({**chosen, "figure.dpi": 160})


def save_figure(figure: Figure, name: str) -> None:
    """Write a figure to the folder that ``REFAM_FIGURES`` names; do nothing where it is not set.

    Args:
        figure: to write, once as a picture and once as vectors.
        name: of the files, without an ending.
    """
    wanted = os.environ.get(FIGURES_VARIABLE)
    if not wanted:
        return
    folder = Path(wanted).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    for ending in FIGURE_FORMATS:
        figure.savefig(folder / f"{name}.{ending}")


def spread(number: int, most: int) -> list[int]:
    """At most so many of the numbers from 0 on, evenly spaced, for models with more blocks than a page has room for.

    Args:
        number: how many there are.
        most: how many to choose; with at least two, the first and the last are among them.

    >>> spread(57, 4), spread(3, 6)
    ([0, 19, 37, 56], [0, 1, 2])
    """
    chosen = min(number, most)
    return [round(index * (number - 1) / max(chosen - 1, 1)) for index in range(chosen)]
