"""Emergence over depth: what is drawn is what the tables and arrays say, with n, intervals and borders."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.axes import Axes

from refam_analysis import figures

PHRASES = [["the", "red", "ring"], ["on", "the", "left"]]


@pytest.fixture(name="axes")
def _axes() -> Iterator[Axes]:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(6, 4))
        yield axes
        figure.canvas.draw()  # a figure that cannot be laid out fails here, since warnings are errors
        plt.close(figure)


def curves(axes: Axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def phrase_table(left_out: int = 3) -> pd.DataFrame:
    table = pd.DataFrame({"block": [0, 1, 2], "observed": [0.4, 0.5, 0.6], "null": [0.4, 0.39, 0.38]})
    excess = table["observed"] - table["null"]
    table["excess_low"], table["excess_high"] = excess - 0.02, excess + 0.03
    table = table.assign(q=[0.6, 0.04, 0.001], scenes=20, left_out=left_out)
    table.attrs["confidence"] = 0.95
    return table


def test_phrases_are_drawn_beside_their_null(axes: Axes) -> None:
    assert figures.phrases_by_block(axes, phrase_table()) is axes
    np.testing.assert_allclose(curves(axes)["the sentence's phrases"], [[0, 0.4], [1, 0.5], [2, 0.6]])
    np.testing.assert_allclose(curves(axes)["other groupings"][:, 1], [0.4, 0.39, 0.38])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.38, 0.63))  # of the excess, on the null
    assert "n = 20 scenes, 95 % interval over scenes" in axes.get_xlabel()
    assert axes.get_xlabel().endswith("one way only: 3")


def test_stars_mark_where_the_excess_is_significant(axes: Axes) -> None:
    figures.phrases_by_block(axes, phrase_table(left_out=0))
    np.testing.assert_allclose(axes.collections[-1].get_offsets(), [[1, 0.53], [2, 0.63]])
    assert "one way" not in axes.get_xlabel()


def step_table(levels: tuple[float, ...] = (0.1, 0.6), measure: str = "gini") -> pd.DataFrame:
    rows = [
        {"step": step, "noise_level": level, "block": block, "measure": measure, "value": 0.1 * step + 0.01 * block}
        for step, level in enumerate(levels)
        for block in (0, 1, 5)
    ]
    table = pd.DataFrame(rows).assign(low=lambda t: t["value"] - 0.02, high=lambda t: t["value"] + 0.03, scenes=12)
    table.attrs["confidence"] = 0.95
    return table


def test_every_noise_level_has_its_curve(axes: Axes) -> None:
    figures.by_block_and_noise_level(axes, step_table(), label="Gini coefficient")
    assert legend(axes) == ["noise level 0.1", "noise level 0.6"]
    np.testing.assert_allclose(curves(axes)["noise level 0.6"], [[0, 0.1], [1, 0.11], [5, 0.15]])
    assert axes.get_ylabel() == "Gini coefficient"
    assert axes.get_xlabel() == "block\nn = 12 scenes, 95 % interval over scenes"


@pytest.mark.parametrize(
    "table",
    [pd.concat([step_table(), step_table(measure="clusters")]), step_table(tuple(np.linspace(0, 1, 9)))],
    ids=["two-measures", "nine-levels"],
)
def test_what_cannot_be_told_apart_is_refused(axes: Axes, table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="one measure at 5 levels"):
        figures.by_block_and_noise_level(axes, table, label="")


def words(blocks: int | None = None) -> xr.DataArray:
    shape = (6, 6) if blocks is None else (blocks, 6, 6)
    values = np.random.default_rng(0).random(shape) * (1 - np.eye(6))
    dims = ("query", "key") if blocks is None else ("block", "query", "key")
    return xr.DataArray(values, {} if blocks is None else {"block": [0, 3, 5][:blocks]}, dims)


def test_a_line_stands_between_phrases(axes: Axes) -> None:
    assert figures.phrase_matrix(axes, words(), PHRASES) is axes
    across, up = axes.lines
    assert set(across.get_ydata()) == {2.5} and set(up.get_xdata()) == {2.5}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["the", "red", "ring", "on", "the", "left"]


def test_the_diagonal_is_blank_and_the_rest_as_it_is(axes: Axes) -> None:
    figures.phrase_matrix(axes, words(), PHRASES)
    drawn = axes.images[0].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(drawn), np.eye(6, dtype=bool))
    np.testing.assert_array_equal(drawn.filled(0.0), words().values)


def test_phrases_of_another_sentence_are_refused(axes: Axes) -> None:
    with pytest.raises(ValueError, match="the phrases have 3 words"):
        figures.phrase_matrix(axes, words(), PHRASES[:1])


@pytest.fixture(name="panel")
def _panel() -> Iterator[np.ndarray]:
    with figures.figure_style():
        figure, axes = plt.subplots(2, 3, figsize=(7, 5))
        yield axes
        figure.canvas.draw()
        plt.close(figure)


def maps(blocks: tuple[int, ...] = (0, 3, 5)) -> xr.DataArray:
    values = np.random.default_rng(1).random((len(blocks), 2, 3))
    return xr.DataArray(values, {"block": list(blocks)}, ("block", "y", "x"))


def test_the_panel_shows_words_above_and_the_map_below(panel: np.ndarray) -> None:
    picture = np.zeros((16, 24, 3), np.uint8)
    assert figures.emergence_panel(panel, words(3), PHRASES, picture, maps()) is panel
    largest = words(3).max(["query", "key"]).values
    titles = [f"block {block} (lightest: {value:.2f})" for block, value in zip((0, 3, 5), largest, strict=True)]
    assert [ax.get_title("center") for ax in panel[0]] == titles
    np.testing.assert_array_equal(panel[0, 1].images[0].get_array().filled(0.0), words(3).values[1])
    np.testing.assert_array_equal(panel[1, 1].images[1].get_array(), maps().values[1])
    assert panel[1, 2].get_xlabel() == f"peak {maps().values[2].max():.2g}"


def test_maps_of_other_blocks_are_refused(panel: np.ndarray) -> None:
    with pytest.raises(ValueError, match="of the same blocks"):
        figures.emergence_panel(panel, words(3), PHRASES, np.zeros((16, 24, 3), np.uint8), maps((0, 3, 4)))


def both_table(scenes: int = 9) -> pd.DataFrame:
    rows = pd.MultiIndex.from_product([["sink_strength", "sharpness"], [0, 3, 5]], names=["measure", "block"])
    table = pd.DataFrame({"value": [2.0, 4.0, 8.0, 0.1, 0.4, 0.3]}, index=rows).reset_index()
    table = table.assign(low=table["value"] * 0.9, high=table["value"] * 1.2, scenes=scenes)
    table.attrs.update(confidence=0.95, sharpness="average precision")
    return table


def test_each_block_is_a_dot_with_both_intervals(axes: Axes) -> None:
    assert figures.sinks_against_semantics(axes, both_table()) is axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[2.0, 0.1], [4.0, 0.4], [8.0, 0.3]])
    across, up = (bars.get_segments() for bars in axes.collections)
    np.testing.assert_allclose(across[1], [[3.6, 0.4], [4.8, 0.4]])
    np.testing.assert_allclose(up[1], [[4.0, 0.36], [4.0, 0.48]])
    assert [text.get_text() for text in axes.texts] == ["0", "3", "5"]


def test_both_axes_say_what_they_are(axes: Axes) -> None:
    figures.sinks_against_semantics(axes, both_table())
    assert axes.get_ylabel() == "content maps: average precision"
    assert "times the median" in axes.get_xlabel() and "n = 9 scenes" in axes.get_xlabel()


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1.0, ["2x", "3x", "4x", "6x", "8x", "10x"]), (40.0, ["100x", "300x"])],
    ids=["close", "wide"],
)
def test_strengths_are_labelled_in_plain_numbers(axes: Axes, factor: float, expected: list[str]) -> None:
    table = both_table()
    stretched = table["measure"] == "sink_strength"
    table.loc[stretched, ["value", "low", "high"]] *= np.array([[1.0], [factor], [factor]])
    figures.sinks_against_semantics(axes, table)
    axes.get_figure().canvas.draw()
    low, high = axes.get_xlim()
    seen = [label.get_text() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert seen[-len(expected) :] == expected


def test_one_scene_has_no_intervals(axes: Axes) -> None:
    table = both_table(scenes=1).assign(low=np.nan, high=np.nan)
    figures.sinks_against_semantics(axes, table)
    assert "no interval" in axes.get_xlabel()
    assert all(np.ptp(segment) == 0 or np.ptp(segment, axis=0).sum() == 0 for bars in axes.collections
               for segment in bars.get_segments())  # fmt: skip
