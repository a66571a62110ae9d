"""Figures about sinks: both sides, effects over depth, rows by kind."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from refam_analysis import figures


@pytest.fixture(name="axes")
def _axes() -> Axes:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(6, 4))
        yield axes
        figure.canvas.draw()  # a figure that cannot be laid out fails here, since warnings are errors
        plt.close(figure)


def sinks() -> pd.DataFrame:
    rows = [
        {"block": block, "role": role, "kind": kind, "mass_from_text": text * (block + 1),
         "mass_from_image": 3.0 * text,
         "effect": text + block, "low": text + block - 0.2, "high": text + block + 0.3, "scenes": scenes,
         "is_sink": role == "</s>" and block == 1}
        for block in (0, 1, 2)
        for role, kind, text, scenes in (("</s>", "special", 1.2, 9), ("ring", "content", 0.4, 3))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.attrs.update(minimum_effect=2.0, confidence=0.95)
    return table


def test_both_sides_shows_the_keys_of_one_block_by_kind(axes: Axes) -> None:
    table = sinks()
    figures.received_from_both_sides(axes, table[table["block"] == 1])
    points = {group.get_label(): np.asarray(group.get_offsets()) for group in axes.collections}
    np.testing.assert_allclose(points["special"], [[2.4, 3.6]])
    np.testing.assert_allclose(points["content"], [[0.8, 1.2]])
    assert axes.get_title("left") == "block 1"


def test_both_sides_rings_what_is_called(axes: Axes) -> None:
    table = sinks()
    figures.received_from_both_sides(axes, table[table["block"] == 1])
    (ring,) = [group for group in axes.collections if len(group.get_facecolor()) == 0]
    np.testing.assert_allclose(np.asarray(ring.get_offsets()), [[2.4, 3.6]])


def test_both_sides_of_several_blocks_is_refused(axes: Axes) -> None:
    with pytest.raises(ValueError, match="3 blocks"):
        figures.received_from_both_sides(axes, sinks())


def test_effects_draw_the_roles_asked_for_and_the_bar(axes: Axes) -> None:
    figures.sink_effects(axes, sinks(), ["</s>"])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["</s>", "minimum effect (2x)"]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0, 1.2], [1, 2.2], [2, 3.2]])
    assert axes.get_xlabel() == "block\nn = 9 scenes, 95 % interval over scenes"


def test_rows_draw_a_curve_a_kind(axes: Axes) -> None:
    table = sinks().rename(columns={"effect": "value"})
    figures.entropy_by_kind(axes, table)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["content", "special"]


def test_intervals_stand_one_under_the_other_in_the_tables_order(axes: Axes) -> None:
    table = pd.DataFrame({"name": ["a", "b"], "gain": [0.1, 0.3], "gain_low": [0.0, 0.2], "gain_high": [0.2, 0.5]})
    figures.value_intervals(axes, table.assign(scenes=5), by="name", value="gain", label="gain (share)", reference=0.0)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    (bars,) = axes.collections
    np.testing.assert_allclose([segment[:, 0] for segment in bars.get_segments()], [[0.0, 0.2], [0.2, 0.5]])
    assert axes.get_xlabel() == "gain (share)\nn = 5 scenes, interval over scenes"
