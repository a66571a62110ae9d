"""The figure of costs at scale: bars are as long as the parts say, and tell themselves apart without colour."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from refam_analysis import figures

TABLE = pd.DataFrame({"transformer": [0.2, 1.8], "text": [0.1, 0.1]}, index=["small", "large"])


def test_bars_stand_end_to_end_and_say_their_sum() -> None:
    with figures.figure_style():
        figure, axes = plt.subplots()
        assert figures.cost_shares(axes, TABLE) is axes
        ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
        np.testing.assert_allclose(ends, [(0, 0.2), (0, 1.8), (0.2, 0.3), (1.8, 1.9)])
        assert [text.get_text() for text in axes.texts] == ["0.3", "1.9"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["small", "large"]
        figure.canvas.draw()
        plt.close(figure)


def test_parts_differ_in_more_than_colour() -> None:
    with figures.figure_style():
        figure, axes = plt.subplots()
        figures.cost_shares(axes, TABLE)
        assert len({bar.get_hatch() for bar in axes.patches}) == 2
        plt.close(figure)


def test_too_many_parts_are_refused() -> None:
    figure, axes = plt.subplots()
    with pytest.raises(ValueError, match="8 parts cannot be told apart"):
        figures.cost_shares(axes, pd.DataFrame(np.ones((1, 8))))
    plt.close(figure)
