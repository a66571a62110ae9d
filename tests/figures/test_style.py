"""The style: colours that can be told apart, also in grey; ink that can be read; nothing left behind."""

import itertools
from typing import get_args

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from refam_analysis.analysis.magnets import KINDS
from refam_analysis.figures.style import (
    HEAT_COLOURS,
    INK,
    KIND_LOOKS,
    PAPER,
    SIDE_LOOKS,
    figure_style,
    one_legend,
    sample_size,
)
from refam_analysis.prompts.tokens import TokenKind

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deutan": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
}


def linear(colour: str) -> np.ndarray:
    srgb = np.array(to_rgb(colour))
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def lab(colour: str, deficiency: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of the colour as it is seen."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(deficiency @ linear(colour), 0.0, 1.0) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_every_kind_and_side_has_a_look() -> None:
    assert set(get_args(TokenKind)) | set(KINDS) == set(KIND_LOOKS)
    assert set(SIDE_LOOKS) == {"text", "image"}


@pytest.mark.parametrize("deficiency", DEFICIENCIES.values(), ids=DEFICIENCIES)
def test_the_kinds_that_share_a_figure_are_told_apart(deficiency: np.ndarray) -> None:
    kinds = ["content", "magnet", "stop", "punctuation", "special", "padding", "image"]
    for one, other in itertools.combinations(kinds, 2):
        distance = np.linalg.norm(lab(KIND_LOOKS[one].colour, deficiency) - lab(KIND_LOOKS[other].colour, deficiency))
        assert distance > 12, (one, other)


def test_colours_that_are_equally_light_differ_in_marker_dash_and_hatch() -> None:
    looks = [look for kind, look in KIND_LOOKS.items() if kind != "unknown"]  # stands in for all kinds of text
    for one, other in itertools.combinations(looks, 2):
        if contrast(one.colour, other.colour) < 1.5:
            assert one.marker != other.marker and one.dashes != other.dashes and one.hatch != other.hatch


def test_ink_on_paper_can_be_read() -> None:
    assert contrast(INK, PAPER) > 7
    assert all(contrast(look.colour, PAPER) > 1.7 for look in KIND_LOOKS.values())


def test_heat_is_lighter_where_it_is_more() -> None:
    shades = [luminance(mpl.colors.to_hex(mpl.colormaps[HEAT_COLOURS](x))) for x in np.linspace(0, 1, 64)]
    assert (np.diff(shades) > 0).all()


def test_the_style_ends_with_its_block() -> None:
    before = dict(mpl.rcParams)
    with figure_style():
        assert mpl.rcParams["axes.facecolor"] == PAPER
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("counts", "expected"), [([5], "n = 5 scenes"), ([1, 1], "n = 1 scene"), ([2, 9], "n = 2 to 9 scenes")]
)
def test_n_is_written_out(counts: list[int], expected: str) -> None:
    assert sample_size(counts) == expected


def test_one_legend_stands_for_those_of_all_panels() -> None:
    with figure_style():
        figure, panels = plt.subplots(1, 2)
        for name, ax in zip("ab", panels, strict=True):
            ax.plot([0, 1], label="text")
            ax.plot([1, 0], label=name)
            ax.legend()
        one_legend(panels)
        figure.canvas.draw()
        plt.close(figure)
    assert [ax.get_legend() for ax in panels] == [None, None]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["text", "a", "b"]
