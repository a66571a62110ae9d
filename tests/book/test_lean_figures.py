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
from hypothesis import given
from hypothesis import strategies as st
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


def corners(path: str) -> list[tuple[float, float]]:
    """The corners of a path of lines, absolute or from corner to corner."""
    found, position = [], np.zeros(2)
    for command, numbers in re.findall(r"([MLml])([^MLmlz]*)", path):
        given = np.array(re.findall(r"-?(?:\d+\.?\d*|\.\d+)", numbers), dtype=float)
        position = given if command.isupper() else position + given
        found.append((float(position[0]), float(position[1])))
    return found


def distance(point: tuple[float, float], line: list[tuple[float, float]]) -> float:
    """From a point to the nearest place of a line of straight pieces."""
    begins, ends = np.array(line[:-1]), np.array(line[1:])
    along = ends - begins
    length = np.maximum((along**2).sum(1), 1e-12)
    share = np.clip(((point - begins) * along).sum(1) / length, 0, 1)
    return float(np.hypot(*(begins + share[:, None] * along - point).T).min())


@given(st.lists(st.tuples(st.floats(-999, 999), st.floats(-999, 999)), min_size=2, max_size=30))
def test_lines_move_by_less_than_a_hundredth_of_a_point(line: list[tuple[float, float]]) -> None:
    path = "M " + " L ".join(f"{x:.6f} {y:.6f}" for x, y in line)
    short = corners(lean_figures.lean_path(path))
    assert max(distance(point, short) for point in corners(path)) < 0.0075
    assert short[-1] == pytest.approx(line[-1], abs=0.0051)


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("M 1 2 \nL 3 2 \nz\n", "m1 2l2 0z"),
        ("M 0 0 Q 1 1 2 0 C 3 0 4 1 5 5", "m0 0q1 1 2 0c1 0 2 1 3 5"),
        ("M 1 1 L 2 2 z M 5 5 L 6 6 z", "m1 1l1 1zm4 4l1 1z"),
        ("M 0 0 L 1 0 L 0.5 0", "m0 0l1 0l-.5 0"),
        ("M 1.5e-05 0 L -0.001 0.333333", "m0 0l0 .33"),
        ("", ""),
        ("m 1 1 h 2 v 2 z", "m 1 1 h 2 v 2 z"),
    ],
    ids=["closed", "curves", "two-parts", "turning-back", "tiny-numbers", "nothing", "other-commands"],
)
def test_a_path_is_written_from_corner_to_corner(path: str, short: str) -> None:
    assert lean_figures.lean_path(path) == short


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


def test_words_and_size_stay() -> None:
    figure, axes = plt.subplots(figsize=(4, 2))
    axes.set_title("Entropy")
    svg = drawn(figure)
    roots = [ElementTree.fromstring(text) for text in (svg, lean_figures.lean(svg))]
    assert roots[0].attrib == roots[1].attrib
    assert [one.get("id") for one in roots[0].iter()] == [one.get("id") for one in roots[1].iter()]
