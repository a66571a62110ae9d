"""How following is measured: against the same numbers computed from the masks by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from refam_analysis.evaluation import NoItemsError, contour_accuracy
from refam_analysis.evaluation.moving import (
    MOVING_SOURCES,
    MovingReport,
    follow_together,
    moving_accuracy,
    point_inside,
    settings_accuracy,
)
from refam_analysis.models import load_model
from refam_analysis.scenes import MovingSample, MovingScenes
from refam_analysis.segmentation import HeatmapSettings, Segmenter, load_segmenter
from refam_analysis.segmentation.video import FollowSettings, Reprompting, segment_video

SETTINGS = HeatmapSettings()


@pytest.fixture(scope="module")
def clips() -> list[MovingSample]:
    scenes = MovingScenes("validation", length=24)
    return [scenes[i] for i in (0, 18)]


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter("embedded")


@pytest.fixture(scope="module")
def report(clips: list[MovingSample], segmenter: Segmenter) -> MovingReport:
    return moving_accuracy(load_model("embedded"), clips, segmenter=segmenter, settings=SETTINGS, seed=5)


def test_the_pipelines_rows_are_those_of_segment_video(
    report: MovingReport, clips: list[MovingSample], segmenter: Segmenter
) -> None:
    for number, clip in enumerate(clips):
        found = segment_video(
            load_model("embedded"), clip.frames, clip.expression.text, segmenter=segmenter, settings=SETTINGS,
            seed=5 + number,
        )  # fmt: skip
        row = report.outcomes.query("source == 'pipeline' and clip == @number").iloc[0]
        masks, truth = np.asarray(found.masks), clip.truth
        both, either = (masks & truth).sum((1, 2)), (masks | truth).sum((1, 2))
        j = np.where(either > 0, both / np.maximum(either, 1), 1.0).mean()
        f = contour_accuracy(masks, truth)
        assert (row.x, row.y) == found.point
        assert (row.j, row.f, row.jf) == pytest.approx((j, f, (j + f) / 2))
        there = truth.any((1, 2))
        assert row.sight == (there == found.visible).mean()
        assert (row.missed, row.imagined) == ((there & ~found.visible).sum(), (~there & found.visible).sum())


def test_a_kept_mask_scores_what_the_first_one_does_in_every_frame(
    report: MovingReport, clips: list[MovingSample], segmenter: Segmenter
) -> None:
    first = Reprompting(segmenter).begin(clips[1].frames[0], point_inside(clips[1])).mask
    truth = clips[1].truth
    either = (truth | first).sum((1, 2))
    row = report.outcomes.query("source == 'point_inside_first_mask' and clip == 1").iloc[0]
    assert row.j == pytest.approx(((truth & first).sum((1, 2)) / either).mean())
    assert row.missed == 0 and row.refound in (0.0, 1.0)


def test_there_is_a_row_a_source_and_clip(report: MovingReport) -> None:
    pairs = list(zip(report.outcomes["source"], report.outcomes["clip"], strict=True))
    assert pairs == [(source, clip) for source in MOVING_SOURCES for clip in (0, 1)]
    inside = report.outcomes[report.outcomes["source"].str.startswith("point_inside")]
    assert inside["on_target"].all()
    free = report.outcomes[report.outcomes["event"] == "free"]
    assert free["refound"].isna().all()


def outcomes() -> pd.DataFrame:
    """Four clips of one source, on the target in two of them."""
    j = [0.9, 0.1, 0.5, 0.3]
    return pd.DataFrame(
        {
            "source": "pipeline", "clip": range(4), "kind": ["a", "a", "b", "b"], "event": "free", "speed": "slow",
            "on_target": [True, False, True, False], "j": j, "f": j, "jf": j, "sight": 1.0,
            "refound": [1.0, 0.0, np.nan, np.nan],
        }
    )  # fmt: skip


def test_the_summary_has_all_clips_and_those_with_the_point_on_the_target() -> None:
    table = MovingReport(outcomes()).summary().set_index("condition")
    assert table.loc["all", "jf"] == pytest.approx(0.45) and table.loc["on target", "jf"] == pytest.approx(0.7)
    assert table["scenes"].to_dict() == {"all": 4, "on target": 2}
    assert table.loc["all", "on_target"] == 0.5 and table.loc["all", "refound"] == 0.5
    assert (table["jf_low"] <= table["jf"]).all() and (table["jf"] <= table["jf_high"]).all()
    assert table.loc["all", "jf_low"] >= 0.1 and table.loc["all", "jf_high"] <= 0.9


def test_the_summary_by_kind_averages_each_kind() -> None:
    table = MovingReport(outcomes()).summary("kind").query("condition == 'all'").set_index("kind")
    assert table["jf"].to_dict() == pytest.approx({"a": 0.5, "b": 0.4})


def test_points_are_followed_together_as_alone(clips: list[MovingSample], segmenter: Segmenter) -> None:
    points = {"inside": point_inside(clips[0]), "corner": (2.0, 2.0)}
    together = follow_together(segmenter, clips[0].frames[:5], points, dict.fromkeys(points))
    for name, point in points.items():
        follower = Reprompting(segmenter)
        alone = [follower.begin(clips[0].frames[0], point), *map(follower.follow, clips[0].frames[1:5])]
        assert all(np.array_equal(*pair) for pair in zip((one.mask for one in together[name]),
                                                        (one.mask for one in alone), strict=True))  # fmt: skip


def test_candidates_are_scored_on_every_clip(clips: list[MovingSample], segmenter: Segmenter) -> None:
    blind = FollowSettings(lost=1.0, found=1.0, patience=0)
    table = settings_accuracy(clips, {"default": FollowSettings(), "blind": blind}, segmenter=segmenter)
    means = table.groupby("candidate")["jf"].mean()
    assert len(table) == 4 and means["default"] > means["blind"] + 0.2


def test_no_clip_is_an_error(segmenter: Segmenter) -> None:
    with pytest.raises(NoItemsError, match="no item"):
        moving_accuracy(load_model("embedded"), [], segmenter=segmenter)
