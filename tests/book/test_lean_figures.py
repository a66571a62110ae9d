"""Figures in fewer bytes: what is dropped, and that it cannot be seen."""

from __future__ import annotations

import base64
import io
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from refam_analysis.figures.vectors import as_svg

sys.path.append(str(Path(__file__).parents[2] / "book" / "_extensions"))
import lean_figures  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"


def drawn(figure: Figure) -> str:
    """The figure as SVG; closed, so that no test leaves one behind."""
    svg = as_svg(figure)
    plt.close(figure)
    assert svg is not None
    return svg


def map_of(values: np.ndarray) -> str:
    figure, axes = plt.subplots(figsize=(3, 3))
    axes.imshow(values, cmap="viridis", interpolation="none")
    return drawn(figure)


def pictures(svg: str) -> list[np.ndarray]:
    inlaid = (image.get(HREF, "") for image in ElementTree.fromstring(svg).iter(f"{SVG}image"))
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(one.partition(",")[2]))).convert("RGBA")) for one in inlaid
    ]


def smooth(size: int) -> np.ndarray:
    """A map of many values, as heatmaps are."""
    down, across = np.mgrid[:size, :size] / size
    return np.asarray(np.sin(5 * down) * np.cos(3 * across) + down**2)


def test_paths_move_by_less_than_a_hundredth_of_a_point() -> None:
    figure, axes = plt.subplots()
    axes.plot(np.sin(np.linspace(0, 30, 500)))
    svg = drawn(figure)
    numbers = [
        [
            float(one)
            for path in ElementTree.fromstring(text).iter(f"{SVG}path")
            for one in re.findall(r"-?\d+\.?\d*", path.get("d", ""))
        ]
        for text in (svg, lean_figures.lean(svg))
    ]
    np.testing.assert_allclose(numbers[1], numbers[0], atol=0.0051)


def test_a_picture_of_many_colours_becomes_far_smaller_and_looks_the_same() -> None:
    svg = map_of(smooth(400))
    small = lean_figures.lean(svg)
    assert len(small) < len(svg) / 2
    (before,), (after,) = pictures(svg), pictures(small)
    assert before.shape == after.shape
    assert np.abs(before.astype(int) - after).mean() < 2


def test_a_picture_of_few_colours_keeps_every_pixel() -> None:
    svg = map_of(np.arange(64).reshape(8, 8) % 5)
    (before,), (after,) = pictures(svg), pictures(lean_figures.lean(svg))
    np.testing.assert_array_equal(before, after)


def test_transparent_parts_stay_transparent() -> None:
    svg = map_of(np.where(np.eye(300) > 0, np.nan, smooth(300)))
    (before,), (after,) = pictures(svg), pictures(lean_figures.lean(svg))
    assert (before[..., 3] == 0).any()
    np.testing.assert_array_equal(before[..., 3] == 0, after[..., 3] == 0)


def test_a_lean_drawing_does_not_change_again() -> None:
    small = lean_figures.lean(map_of(smooth(200)))
    assert lean_figures.lean(small) == small


@pytest.mark.parametrize(
    ("number", "written"), [("1.000000", "1"), ("-0.001", "0"), ("12.3456", "12.35"), ("1.5e-05", "0")]
)
def test_numbers_are_written_short(number: str, written: str) -> None:
    assert lean_figures._rounded(number) == written


def test_words_and_size_stay() -> None:
    figure, axes = plt.subplots(figsize=(4, 2))
    axes.set_title("Entropy")
    svg = drawn(figure)
    roots = [ElementTree.fromstring(text) for text in (svg, lean_figures.lean(svg))]
    assert roots[0].attrib == roots[1].attrib
    assert [one.get("id") for one in roots[0].iter()] == [one.get("id") for one in roots[1].iter()]
