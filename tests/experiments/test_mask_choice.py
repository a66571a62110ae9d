"""The comparison of two ways to choose a mask: a tiny run, repeated, and the rule that decides."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from refam_analysis.experiments.mask_choice import MaskChoiceTest, better, repeat, run, summary
from refam_analysis.models import load_model
from refam_analysis.segmentation.segmenters import load_segmenter


def test_a_run_is_repeated_row_by_row(tmp_path: Path) -> None:
    result = run(MaskChoiceTest(validation=2, test=3, part=2), results=tmp_path / "results")
    outcomes = result["outcomes"]
    assert outcomes.groupby("split").size().to_dict() == {"validation": 2, "test": 3}
    assert (outcomes["iou_best"] >= outcomes[["iou_score", "iou_agreement"]].max(axis=1)).all()
    assert not (tmp_path / ".cache").exists() or not list((tmp_path / ".cache").iterdir())
    again = repeat(result, load_model("embedded"), load_segmenter("embedded"), split="test", first=1, number=2)
    expected = outcomes[outcomes["split"] == "test"].iloc[1:].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, expected)


def outcomes(score: list[float], agreement: list[float]) -> pd.DataFrame:
    rows = [
        {"split": "validation", "scene": scene, "kind": "attribute", "candidate_score": 0, "candidate_agreement": 1,
         "candidate_best": 2, "iou_score": one, "iou_agreement": other, "iou_best": 1.0}
        for scene, (one, other) in enumerate(zip(score, agreement, strict=True))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_summary_pairs_scenes() -> None:
    table = summary(outcomes([0.5, 0.7], [0.6, 0.8])).query("kind == 'all'").set_index("way")
    assert table["mean_iou"].round(6).to_dict() == {"score": 0.6, "agreement": 0.7, "best": 1.0}
    assert table.loc["agreement", ["change_low", "change", "change_high"]].tolist() == pytest.approx([0.1] * 3)
    assert table["differs"].to_dict() == {"score": 0.0, "agreement": 1.0, "best": 1.0}


@pytest.mark.parametrize(
    ("agreement", "chosen"), [([0.7] * 20, "agreement"), ([0.3] * 20, "score"), ([0.9, 0.2] * 10, "score")],
    ids=["surely-better", "worse", "unclear"],
)  # fmt: skip
def test_the_score_is_left_only_for_what_is_surely_better(agreement: list[float], chosen: str) -> None:
    assert better(summary(outcomes([0.5] * 20, agreement))) == chosen
