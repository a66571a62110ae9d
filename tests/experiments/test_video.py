"""The experiment on moving scenes, on a few clips: what is chosen, what is measured, and that it goes on."""

from __future__ import annotations

import pandas as pd
import pytest

from refam_analysis.experiments import video
from refam_analysis.experiments.provenance import RESULTS, Result, load_result
from refam_analysis.models import load_model
from refam_analysis.segmentation.video import FollowSettings

TEST = video.VideoTest(clips=3, validation=2)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    few = {name: video.CANDIDATES[name] for name in ("default", "place=1", "reach=0.3")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "CANDIDATES", few)
        return video.run(TEST, results=tmp_path_factory.mktemp("video") / "results")


def test_the_candidate_that_is_followed_with_is_the_chosen_one(result: Result) -> None:
    choice = result["choice"]
    assert choice["candidate"].tolist() == ["default", "place=1", "reach=0.3"] and choice["chosen"].sum() == 1
    chosen = choice.loc[choice["chosen"], "candidate"].item()
    assert FollowSettings(**result.provenance.configuration["follow"]) == video.CANDIDATES[chosen]


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ({"place=1": [0.1, -0.1, 0.02, 0.0]}, "default"),
        ({"place=1": [0.1, 0.2, 0.1, 0.1], "reach=0.3": [0.2, 0.2, 0.3, 0.1]}, "reach=0.3"),
        ({"place=1": [-0.1, -0.2, -0.1, -0.1], "reach=0.3": [0.9, -0.5, 0.9, -0.5]}, "default"),
    ],
    ids=["no-clear-gain", "best-of-the-better", "larger-but-unsure"],
)
def test_the_default_stays_unless_another_is_surely_better(others: dict[str, list[float]], chosen: str) -> None:
    values = {"default": [0.5] * 4, **{name: [0.5 + gain for gain in gains] for name, gains in others.items()}}
    rows = [(name, clip, jf) for name, jfs in values.items() for clip, jf in enumerate(jfs)]
    table = video.choice_table(pd.DataFrame(rows, columns=["candidate", "clip", "jf"])).set_index("candidate")
    assert table.index[table["chosen"]].tolist() == [chosen]
    for name, gains in others.items():
        assert table.loc[name, "gain"] == pytest.approx(sum(gains) / 4)


def test_some_rows_are_the_same_again(result: Result) -> None:
    again = video.repeat(result, load_model("embedded"), first=1, number=2)
    rows = result["outcomes"].query("1 <= clip < 3").reset_index(drop=True)
    pd.testing.assert_frame_equal(again, rows, atol=1e-9)


def test_the_summary_is_that_of_the_outcomes(result: Result) -> None:
    pd.testing.assert_frame_equal(result["summary"], video.summary(result["outcomes"]))
    whole = result["summary"].query("by == 'all' and condition == 'all'").set_index("source")
    means = result["outcomes"].groupby("source")["jf"].mean()
    assert whole["jf"].to_dict() == pytest.approx(means.to_dict())
    assert set(result["summary"]["by"]) == {"all", "event", "speed", "kind"}
    assert (result["summary"]["passed"] == (result["summary"]["jf"] >= 0.6)).all()


def test_the_command_says_what_was_run(result: Result) -> None:
    assert result.provenance.command == "refam experiment video --items 3 --validation 2 --seed 0"
    assert {"embedded-dit/refam.json", "embedded-sam/model.safetensors"} <= set(result.provenance.weights)


def test_committed_clips_are_followed_alike() -> None:
    if not (RESULTS / video.NAME).is_dir():
        pytest.skip("results/video is not made yet")
    committed = load_result(video.NAME)
    again = video.repeat(committed, load_model("embedded"), first=6, number=2)
    rows = committed["outcomes"].query("6 <= clip < 8").reset_index(drop=True)
    assert again["expression"].tolist() == rows["expression"].tolist()
    pd.testing.assert_frame_equal(committed["summary"], video.summary(committed["outcomes"]))
    inside = again["source"].str.startswith("point_inside")
    # An argmax of the heatmap may tip to another patch where rounding differs; a point inside the target does not.
    pd.testing.assert_frame_equal(again[inside], rows[inside], atol=0.05)


def test_candidates_differ_from_the_default_in_one_setting() -> None:
    default = vars(FollowSettings())
    changed = [sum(vars(one)[name] != value for name, value in default.items()) for one in video.CANDIDATES.values()]
    assert changed == [0] + [1] * (len(video.CANDIDATES) - 1)
