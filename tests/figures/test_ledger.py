"""The forest of claims: distances from the margin on one scale, verdicts told apart without colour."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from refam_analysis import figures


@pytest.fixture(name="axes")
def _axes() -> Axes:
    with figures.figure_style():
        figure, axes = plt.subplots(figsize=(6, 3))
        yield axes
        figure.canvas.draw()  # a figure that cannot be laid out fails here, since warnings are errors
        plt.close(figure)


def ledger() -> pd.DataFrame:
    nothing = dict.fromkeys(["effect", "low", "high", "deviation", "control_effect"], np.nan)
    table = pd.DataFrame(
        [
            {"criterion": "c1_rise", "effect": 3.0, "low": 2.0, "high": 4.0, "deviation": 2.0, "margin": 1.0,
             "scenes": 50, "control_effect": 0.0, "verdict": "supported"},
            {"criterion": "c2_draws_evenly", "effect": -1.0, "low": -2.0, "high": 0.5, "deviation": 1.0, "margin": 0.0,
             "scenes": 40, "control_effect": np.nan, "verdict": "not supported"},
            {"criterion": "c3_point", **nothing, "margin": 0.0, "scenes": 0, "verdict": "not testable here"},
        ]
    )  # fmt: skip
    table.attrs["confidence"] = 0.95
    return table


def test_distances_are_in_standard_deviations_from_the_margin(axes: Axes) -> None:
    figures.claims_forest(axes, ledger())
    bars = [collection.get_segments()[0][:, 0] for collection in axes.collections]
    np.testing.assert_allclose(bars, [[0.5, 1.5], [-2.0, 0.5]])
    crosses = next(line for line in axes.lines if line.get_label() == "control")
    np.testing.assert_allclose(crosses.get_xydata(), [[-0.5, 0.0]])


def test_verdicts_differ_in_marker_and_filling(axes: Axes) -> None:
    figures.claims_forest(axes, ledger())
    dots = [line for line in axes.lines if line.get_marker() in ("o", "D") and len(line.get_xdata()) == 1]
    assert [(dot.get_marker(), dot.get_markerfacecolor() == "none") for dot in dots] == [("o", False), ("D", True)]


def test_what_could_not_be_tested_is_named(axes: Axes) -> None:
    figures.claims_forest(axes, ledger())
    assert [text.get_text() for text in axes.texts] == ["not testable here"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["C1 rise", "C2 draws evenly", "C3 point"]
    assert axes.get_xlabel().endswith("n = 40 to 50 scenes, 95 % interval over scenes")


def test_trainings_stand_side_by_side_on_the_line_of_their_criterion(axes: Axes) -> None:
    other = ledger()
    other[["effect", "low", "high"]] += 2.0
    other.loc[1, "verdict"] = "supported"
    figures.claims_by_training(axes, {"seed 0": ledger(), "seed 1": other})
    bars = [collection.get_segments() for collection in axes.collections]
    found = sorted((round(bar[0, 1], 3), *np.round(bar[:, 0], 3)) for group in bars for bar in group)
    assert found == [(-0.3, 0.5, 1.5), (0.3, 1.5, 2.5), (0.7, -2.0, 0.5), (1.3, 0.0, 2.5)]
    hollow = [line.get_ydata().tolist() for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert [rows for rows in hollow if rows] == [[0.7]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["seed 0", "seed 1"]


def test_profiles_of_models_of_other_sizes_share_one_axis(axes: Axes) -> None:
    tables = {}
    for name, blocks in (("small", 3), ("large", 5)):
        value = np.linspace(0.0, 1.0, blocks)
        tables[name] = pd.DataFrame({"measure": "row_entropy", "depth": value, "value": value, "low": value - 0.1,
                                     "high": value + 0.1, "scenes": 7})  # fmt: skip
        tables[name].attrs["confidence"] = 0.95
    figures.profiles_over_depth(axes, tables, "row_entropy", label="row entropy (share of log N)")
    assert [len(line.get_xdata()) for line in axes.lines] == [3, 5]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["small", "large"]
    assert axes.get_xlabel().endswith("n = 7 scenes, 95 % interval over scenes")
