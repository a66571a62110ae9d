"""Every figure looks as it did: each is drawn from the data in `samples` and compared with its picture in `baseline`.

After a change that is meant, draw the pictures anew and look at them before they are committed:

    python -m pytest tests/figures/test_images.py -k looks --mpl-generate-path=tests/figures/baseline

A comparison that fails leaves both pictures and their difference in build/figures.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from figures.samples import SAMPLES
from matplotlib.figure import Figure

from refam_analysis import figures

BASELINE = Path(__file__).parent / "baseline"
DPI = 60
TOLERANCE = 0.4
"""Root mean square over all pixels and channels, of 255. Another machine's rounding stays under 0.1; another colour of
one series gives 0.7 or more even where it is a few dots, a missing interval or a legend elsewhere 1.4 to 25."""


def compared(name: str) -> object:
    """The sample with its comparison: fonts and backend are matplotlib's own, so that machines draw alike."""
    saved = {"dpi": DPI, "metadata": {"Software": None}, "pil_kwargs": {"compress_level": 9, "compress_type": 0}}
    mark = pytest.mark.mpl_image_compare(
        filename=f"{name}.png", baseline_dir=str(BASELINE), tolerance=TOLERANCE, style="default", savefig_kwargs=saved
    )
    return pytest.param(name, marks=mark, id=name)


@pytest.mark.parametrize("name", [compared(name) for name in SAMPLES])
def test_figure_looks_as_before(name: str) -> Figure:
    sample = SAMPLES[name]
    with figures.figure_style():
        figure, axes = plt.subplots(sample.rows, sample.columns, figsize=sample.size, dpi=DPI)
        sample.draw(axes)
        figure.draw_without_rendering()  # ticks are made when they are first drawn, and ask the style then
    return figure


def test_every_figure_has_a_sample() -> None:
    exported = {name: getattr(figures, name) for name in figures.__all__}
    functions = {name: inspect.signature(one) for name, one in exported.items() if inspect.isfunction(one)}
    drawing = {name for name, signature in functions.items() if "axes" in signature.parameters}
    assert set(SAMPLES) == drawing


def test_every_picture_belongs_to_a_sample() -> None:
    assert {path.name for path in BASELINE.iterdir()} == {f"{name}.png" for name in SAMPLES}
