"""Figures of the benchmark: what is drawn is what the table says, and this library's own stands out without colour."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

from refam_analysis import figures
from refam_analysis.figures.costs import is_ours
from refam_analysis.figures.style import PAPER

MEGABYTE = 10**6


@pytest.fixture(name="axes")
def _axes() -> Axes:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(6, 4))
        yield axes
        figure.canvas.draw()  # a figure that cannot be laid out fails here, since warnings are errors
        plt.close(figure)


def costs(*tokens: int) -> pd.DataFrame:
    names = ["plain", "maps", "maps, whole softmax", "summaries"]
    rows = [
        {"name": name, "seconds": 0.5 * number * size / 512, "ratio": 1.0 + 0.1 * number, "rounds": 9, "tokens": size,
         "low": 0.95 + 0.1 * number, "high": 1.2 + 0.1 * number, "peak": 0, "kept": 30 * MEGABYTE if number else 0,
         "extra": (0, 40, 160, -1)[number] * MEGABYTE}
        for size in tokens
        for number, name in enumerate(names)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def names(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.parametrize("draw", [figures.recording_costs, figures.memory_costs], ids=["time", "memory"])
class TestOfOneSize:
    def test_a_row_a_variant_without_the_plain_pass(self, axes: Axes, draw: Callable[..., Axes]) -> None:
        assert draw(axes, costs(1536)) is axes
        assert names(axes) == ["maps", "maps, whole softmax", "summaries"]
        assert axes.get_ylim()[0] > axes.get_ylim()[1]
        assert "1536 tokens" in axes.get_xlabel()

    def test_several_sizes_are_refused(self, axes: Axes, draw: Callable[..., Axes]) -> None:
        with pytest.raises(ValueError, match="1536 and 2560 tokens.*== 2560"):
            draw(axes, costs(2560, 1536))


def test_ratios_carry_their_intervals_and_rounds(axes: Axes) -> None:
    figures.recording_costs(axes, costs(1536))
    bars = [part.get_segments()[0][:, 0] for part in axes.collections if isinstance(part, LineCollection)]
    np.testing.assert_allclose(bars, [[1.05, 1.3], [1.15, 1.4], [1.25, 1.5]])
    assert axes.get_xlabel() == "time / plain forward pass\n1536 tokens, n = 9 rounds\ninterval over rounds"


def test_only_other_ways_have_hollow_dots(axes: Axes) -> None:
    figures.recording_costs(axes, costs(1536))
    dots = [line for line in axes.lines if line.get_marker() in ("o", "D")]
    assert [to_hex(dot.get_markerfacecolor()) == PAPER for dot in dots] == [False, True, False]
    assert [dot.get_marker() for dot in dots] == ["o", "o", "D"]


def test_memory_is_in_megabytes_with_a_line_at_what_is_kept(axes: Axes) -> None:
    figures.memory_costs(axes, costs(1536))
    assert [bar.get_width() for bar in axes.patches] == [40, 160, -1]
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [False, True, False]
    assert [list(line.get_xdata()) for line in axes.lines] == [[30, 30]] * 3
    assert [text.get_text() for text in axes.texts] == ["40", "160", "-1"]


@pytest.mark.parametrize("what", ["seconds", "extra"])
def test_scaling_has_a_curve_a_variant_on_logarithmic_axes(axes: Axes, what: str) -> None:
    table = costs(512, 1024).assign(seconds=lambda t: t["seconds"] + 0.1)
    figures.cost_scaling(axes, table, what)
    curves = {line.get_label(): line.get_xydata() for line in axes.lines}
    scale = 1 if what == "seconds" else MEGABYTE
    rows = table[table["name"] == "maps, whole softmax"]
    np.testing.assert_allclose(curves["maps, whole softmax"], np.stack([rows["tokens"], rows[what] / scale], axis=1))
    assert ("plain" in curves) == (what == "seconds")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["512", "1024"]


def test_scaling_tells_ways_apart_by_dash_and_filling(axes: Axes) -> None:
    figures.cost_scaling(axes, costs(512, 1024), "extra")
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["maps"].is_dashed() is False and lines["maps, whole softmax"].is_dashed() is True
    assert to_hex(lines["maps, whole softmax"].get_markerfacecolor()) == PAPER
    assert to_hex(lines["maps"].get_markerfacecolor()) != PAPER


def test_scaling_leaves_out_what_a_logarithm_has_no_place_for(axes: Axes) -> None:
    figures.cost_scaling(axes, costs(512, 1024), "extra")
    lines = {line.get_label(): line for line in axes.lines}
    assert len(lines["summaries"].get_xdata()) == 0


@pytest.mark.parametrize(("name", "expected"), [("plain", True), ("maps and summaries", True), ("maps, fast", False)])
def test_what_stands_behind_a_comma_is_another_way(name: str, expected: bool) -> None:
    assert is_ours(name) is expected
