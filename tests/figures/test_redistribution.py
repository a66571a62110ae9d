"""Flow of mass, magnets by block, doses and conditions: what is drawn is what the tables say."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import PathPatch, Rectangle

from refam_analysis import figures

MOVES = [("padding", "magnet", 0.06), ("padding", "target", 0.02), ("background", "magnet", 0.04)]


@pytest.fixture(name="axes")
def _axes() -> Axes:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(6, 4))
        yield axes
        figure.canvas.draw()
        plt.close(figure)


def flow(moves: list = MOVES, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame(moves, columns=["donor", "receiver", "amount"])
    return table.assign(**{"block": 3, "queries": "image", "scenes": 40} | columns)


def bars(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_accounts_are_as_high_as_their_amounts(axes: Axes) -> None:
    figures.mass_flow(axes, flow())
    assert [bar.get_height() for bar in bars(axes)] == pytest.approx([0.08, 0.04, 0.10, 0.02])
    assert [text.get_text() for text in axes.texts] == [
        "padding 0.080", "background 0.040", "magnet 0.100", "target 0.020"
    ]  # fmt: skip
    assert "block 3, image queries: moves of 0.120" in axes.get_xlabel() and "n = 40 scenes" in axes.get_xlabel()


def test_bands_are_as_thick_as_their_amounts_and_fill_their_accounts(axes: Axes) -> None:
    figures.mass_flow(axes, flow())
    bands = [patch.get_path().vertices for patch in axes.patches if isinstance(patch, PathPatch)]
    spans = {"left": [], "right": []}
    for band, (_, _, amount) in zip(bands, MOVES, strict=True):
        assert band[0, 1] - band[7, 1] == pytest.approx(amount) == pytest.approx(band[3, 1] - band[4, 1])
        spans["left"].append((band[7, 1], band[0, 1]))
        spans["right"].append((band[4, 1], band[3, 1]))
    padding, background, magnet, target = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in bars(axes)]
    filled = [("left", padding, [0, 1]), ("left", background, [2]), ("right", magnet, [0, 2]), ("right", target, [1])]
    for side, (low, high), of in filled:
        assert min(spans[side][i][0] for i in of) == pytest.approx(low)
        assert max(spans[side][i][1] for i in of) == pytest.approx(high)


def test_donors_are_told_apart_without_colour(axes: Axes) -> None:
    figures.mass_flow(axes, flow([("padding", "magnet", 0.1), ("distractors", "magnet", 0.1), ("target", "magnet", 0.1),
                                  ("content", "magnet", 0.1), ("background", "magnet", 0.1)]))  # fmt: skip
    hatches = [patch.get_hatch() for patch in axes.patches if isinstance(patch, PathPatch)]
    assert len(set(hatches)) == 5


@pytest.mark.parametrize(
    ("account", "kind"),
    [("padding → magnet", "magnet"), ("magnet .", "magnet"), ("padding 3", "padding"), ("ring", "unknown")],
)
def test_an_account_looks_like_its_kind(axes: Axes, account: str, kind: str) -> None:
    figures.mass_flow(axes, flow([(account, "image", 0.1)]))
    assert to_rgb(bars(axes)[0].get_facecolor()[:3]) == to_rgb(figures.KIND_LOOKS[kind].colour)


def test_labels_of_thin_accounts_do_not_touch(axes: Axes) -> None:
    figures.mass_flow(axes, flow([("padding", f"role {i}", 0.5 if i == 0 else 0.0001) for i in range(6)]))
    axes.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts[1:]]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pd.concat([flow(), flow(block=4)]), "'block'"),
        (pd.concat([flow(), flow(queries="text")]), "'queries'"),
        (flow(amount=0.0), "Nothing moves"),
    ],
    ids=["two-blocks", "two-groups", "nothing"],
)
def test_a_flow_that_cannot_be_drawn_is_refused(axes: Axes, table: pd.DataFrame, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        figures.mass_flow(axes, table)


def test_each_cell_holds_what_the_magnet_takes_in_per_cent(axes: Axes) -> None:
    rows = [(block, magnet, value) for block, values in ((0, (0.01, 0.03)), (5, (0.002, 0.04)))
            for magnet, value in zip(("magnet .", "all magnets"), values, strict=True)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["block", "magnet", "value"]).assign(queries="background", scenes=9)
    figures.magnet_grid(axes, table)
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.20", "3.00", "4.00"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["magnet .", "all magnets"]
    with pytest.raises(ValueError, match="queries"):
        figures.magnet_grid(axes, pd.concat([table, table.assign(queries="target")]))


def summary(**columns: object) -> pd.DataFrame:
    table = pd.DataFrame({
        "condition": ["magnets x 1", "magnets x 4", "other words x 1", "other words x 4"],
        "series": ["magnets", "magnets", "other words", "other words"], "number": [1, 4, 1, 4],
        "change": [0.01, 0.03, -0.01, -0.02], "q": [0.5, 0.01, 0.2, 0.04],
    })  # fmt: skip
    ends = {"change_low": table["change"] - 0.01, "change_high": table["change"] + 0.02}
    table = table.assign(**{"measure": "average_precision", "scenes": 60} | ends | columns)
    table.attrs["confidence"] = 0.95
    return table


def test_a_curve_a_series_over_the_doses(axes: Axes) -> None:
    figures.dose_response(axes, summary())
    assert axes.lines[0].get_xydata().tolist() == [[1.0, 0.01], [4.0, 0.03]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["magnets", "other words"]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.0) and band[:, 1].max() == pytest.approx(0.05)
    assert "average precision" in axes.get_ylabel() and "n = 60 scenes, 95 % interval" in axes.get_xlabel()


def test_rings_mark_changes_that_are_told_from_none(axes: Axes) -> None:
    figures.conditions_forest(axes, summary())
    rings = axes.collections[-1].get_offsets()
    assert np.asarray(rings).tolist() == [[0.03, 1.0], [-0.02, 3.0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == summary()["condition"].tolist()


def test_contrasts_are_named_by_their_own_column(axes: Axes) -> None:
    table = summary(q=1.0).rename(columns={"condition": "contrast"})
    figures.conditions_forest(axes, table, by="contrast")
    assert axes.get_yticklabels()[0].get_text() == "magnets x 1" and axes.get_legend() is None


@pytest.mark.parametrize("figure", [figures.dose_response, figures.conditions_forest], ids=lambda f: f.__name__)
def test_two_measures_are_refused(axes: Axes, figure: object) -> None:
    with pytest.raises(ValueError, match="'measure'"):
        figure(axes, pd.concat([summary(), summary(measure="peak_to_mean")]))
