"""Clicks lie where they should, batched answers are SAM's own, and the counting is right."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from segment_anything.modeling import Sam

from refam_analysis.evaluation.clicks import (
    LEAST_PIXELS,
    click_accuracy,
    click_summary,
    draw_clicks,
    intersection_over_union,
    predict,
)
from refam_analysis.scenes import Scene, SceneObject, SceneOptions, Scenes
from refam_analysis.segmentation.segmenters.embedded import SamConfig, small_sam

SIZE = 48


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return small_sam(SamConfig(image_size=SIZE, patch_size=8, width=24, depth=1, heads=2))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    split = Scenes("validation", length=5, options=SceneOptions(objects=(1, 3), occlusion=0.5), kinds=())
    return [split.draw(i)[0] for i in range(5)]


def test_every_object_is_clicked_once_inside_what_is_seen_of_it(scenes: list[Scene]) -> None:
    clicks = draw_clicks(scenes, np.random.default_rng(0), SIZE)
    assert clicks.picture.tolist() == [i for i, scene in enumerate(scenes) for _ in scene.objects]
    for (x, y), mask in zip(clicks.points.int().tolist(), clicks.masks, strict=True):
        assert mask[y, x] == 1


def test_specks_are_not_clicked() -> None:
    seen, speck = (SceneObject("circle", "red", "large", x, 0.5, radius) for x, radius in ((0.3, 0.16), (0.8, 0.02)))
    clicks = draw_clicks([Scene((seen, speck), "gray")], np.random.default_rng(0), SIZE)
    assert len(clicks.points) == 1 and clicks.masks.sum() > LEAST_PIXELS


@torch.no_grad()
def test_batched_answers_are_those_of_sam_itself(sam: Sam, scenes: list[Scene]) -> None:
    clicks = draw_clicks(scenes, np.random.default_rng(0), SIZE)
    logits, predicted = predict(sam, clicks)
    for several, columns in ((True, slice(1, None)), (False, slice(0, 1))):
        for i, picture in enumerate(clicks.picture):
            asked = {
                "image": clicks.images[picture],
                "original_size": (SIZE, SIZE),
                "point_coords": clicks.points[None, i : i + 1],
                "point_labels": torch.ones(1, 1),
            }
            (answer,) = sam([asked], multimask_output=several)
            torch.testing.assert_close(predicted[i, columns], answer["iou_predictions"][0], atol=1e-5, rtol=1e-4)
            differing = (logits[i, columns] > 0) != answer["masks"][0]
            assert differing.float().mean() < 1e-3


def test_intersection_over_union_of_half_overlapping_squares() -> None:
    first, second = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    first[0, :4, :4] = second[0, :4, 2:6] = True
    assert intersection_over_union(first, second).item() == pytest.approx(8 / 24)


def test_a_scene_has_the_same_row_whichever_others_are_asked_for(sam: Sam) -> None:
    several = click_accuracy(sam, scenes=5, occlusion=0.5, seed=3)
    alone = click_accuracy(sam, scenes=2, first=2, occlusion=0.5, seed=3)
    rows = several[several["scene"].isin([2, 3])].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, alone, atol=1e-5)


def test_best_candidate_is_at_least_the_chosen_one(sam: Sam) -> None:
    table = click_accuracy(sam, scenes=5)
    assert (table["best"] >= table["iou"]).all() and table["best"].gt(table["iou"]).any()


def test_objects_are_in_full_sight_without_occlusion_and_hidden_in_part_with_it(sam: Sam) -> None:
    assert click_accuracy(sam, scenes=8)["visible"].min() == 1.0
    hidden = click_accuracy(sam, scenes=8, occlusion=1.0)["visible"]
    assert 0.3 < hidden.min() < 0.95


def test_summary_counts_by_size_and_occlusion() -> None:
    table = pd.DataFrame(
        {
            "scene": [0, 0, 1],
            "size": ["small", "large", "large"],
            "visible": [1.0, 0.6, 1.0],
            "iou": [0.2, 0.6, 1.0],
            "best": [0.4, 0.6, 1.0],
            "predicted": [0.1, 0.5, 0.9],
        }
    )
    groups = click_summary(table).set_index("group")
    assert groups["iou"].round(6).to_dict() == {
        "all": 0.6, "small": 0.2, "large": 0.8, "in full sight": 0.6, "occluded": 0.6,
    }  # fmt: skip
    assert groups["clicks"].to_dict() == {"all": 3, "small": 1, "large": 2, "in full sight": 2, "occluded": 1}
    assert groups.loc["all", "correlation"] == pytest.approx(1.0)
    assert groups.loc["all", "iou_low"] < 0.6 < groups.loc["all", "iou_high"]


def test_interval_of_the_mean_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(40):
        scene = np.repeat(np.arange(60), rng.integers(1, 5, 60))
        iou = 0.5 + 0.1 * rng.standard_normal(60)[scene] + 0.05 * rng.standard_normal(len(scene))
        table = pd.DataFrame({"scene": scene, "iou": iou, "best": iou, "predicted": iou})
        table = table.assign(size="small", visible=1.0)
        row = click_summary(table, seed=seed).iloc[0]
        covered.append(row["iou_low"] < 0.5 < row["iou_high"])
    assert 0.85 < np.mean(covered) <= 1.0


def test_rich_scenes_are_clicked_with_their_own_numbers_of_objects(sam: Sam) -> None:
    table = click_accuracy(sam, scenes=5, occlusion=0.5, style="rich")
    split = Scenes("test", length=5, size=SIZE, options=SceneOptions((2, 6), 0.5, style="rich"), kinds=())
    large_enough = [(split[i].masks.sum((1, 2)) >= LEAST_PIXELS).sum() for i in range(5)]
    assert table.groupby("scene").size().tolist() == large_enough
