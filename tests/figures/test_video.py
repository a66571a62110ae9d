"""Figures of clips: the right frame, mask and number in each panel."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figures import tables
from figures.samples import moving_frames, moving_masks, moving_truth
from matplotlib.axes import Axes

from refam_analysis import figures


@pytest.fixture(name="row")
def _row() -> list[Axes]:
    with figures.figure_style():
        figure, axes = plt.subplots(1, 3, figsize=(8, 2.5))
        yield list(axes)
        figure.canvas.draw()
        plt.close(figure)


def test_each_panel_shows_its_frame_with_its_mask(row: list[Axes]) -> None:
    frames, masks = moving_frames(), moving_masks()
    figures.clip_strip(row, frames, masks, [0, 2, 3], truth=moving_truth(), point=(34.0, 20.0))
    for ax, number in zip(row, (0, 2, 3), strict=True):
        drawn = np.asarray(ax.images[0].get_array())
        np.testing.assert_allclose(drawn[~masks[number]], frames[number][~masks[number]] / 255.0)
        assert ax.get_title() == f"frame {number}"
    assert [ax.get_xlabel() for ax in row] == ["", "", "no mask"]
    assert [len(ax.lines) for ax in row] == [1, 0, 0]  # the point belongs to the first frame


def test_maps_share_a_scale_and_have_their_peaks_marked(row: list[Axes]) -> None:
    maps = np.zeros((3, 4, 6))
    maps[0, 1, 2], maps[1, 3, 5], maps[2, 0, 0] = 1.0, 0.5, 0.2
    figures.frame_heatmaps(row, moving_frames(), maps, [0, 1, 3])
    assert {ax.images[1].get_clim() for ax in row} == {(0.0, 1.0)}
    np.testing.assert_allclose(row[1].lines[-1].get_xydata(), [[5.5 * 8 - 0.5, 3.5 * 8 - 0.5]])


def test_sight_is_drawn_where_it_is(row: list[Axes]) -> None:
    figures.following_over_time(row[0], [1.0, np.nan, 0.5], [0.9, 0.1, 0.4], in_sight=[1, 0, 1], said=[1, 1, 0])
    lines = {line.get_label(): line.get_ydata() for line in row[0].lines}
    np.testing.assert_array_equal(np.isfinite(lines["in sight"]), [True, False, True])
    np.testing.assert_array_equal(np.isfinite(lines["said to be in sight"]), [True, True, False])
    np.testing.assert_array_equal(lines["IoU with the truth"], [1.0, np.nan, 0.5])


def test_frames_and_axes_have_to_agree(row: list[Axes]) -> None:
    with pytest.raises(ValueError, match="2 frames and 3 Axes"):
        figures.clip_strip(row, moving_frames(), moving_masks(), [0, 1])
    with pytest.raises(ValueError, match="2 maps, 3 frames and 3 Axes"):
        figures.frame_heatmaps(row, moving_frames(), np.ones((2, 3, 3)), [0, 1, 2])


def test_shares_between_frames_are_those_of_one_frame_and_others_are_refused(row: list[Axes]) -> None:
    table = tables.frame_shares()
    figures.shares_between_frames(row[0], table, query_frame=1)
    lines = {line.get_label(): line.get_ydata() for line in row[0].lines if not line.get_label().startswith("_")}
    assert list(lines) == ["text", "frame 0", "frame 1, its own", "frame 2"]
    expected = table.query("query_frame == 1 and keys == 'frame 1'")["value"]
    np.testing.assert_array_equal(lines["frame 1, its own"], expected)
    with pytest.raises(ValueError, match=r"query_frame=3 is not in the table: choose among \[0, 1, 2\]"):
        figures.shares_between_frames(row[1], table, query_frame=3)
