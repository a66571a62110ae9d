"""The segmenter's training computes what SAM computes, learns, and resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from refam_analysis.scenes import SceneOptions, Scenes
from refam_analysis.segmentation.segmenters.embedded import SamConfig, small_sam
from refam_analysis.training.sam import Clicks, draw_clicks, intersection_over_union, predict, sam_loss, train

SMALL = SamConfig(image_size=48, patch_size=8, width=24, depth=1, embedding=32)


@pytest.fixture
def clicks() -> Clicks:
    split = Scenes("train", length=3, size=48, options=SceneOptions(objects=(2, 3), occlusion=0.5), kinds=())
    return draw_clicks([split.draw(i)[0] for i in range(3)], np.random.default_rng(0), 48)


def test_clicks_lie_inside_their_objects(clicks: Clicks) -> None:
    x, y = clicks.points.long().T
    assert clicks.masks[torch.arange(len(clicks.points)), y, x].all()


def test_prediction_equals_sams_own_forward_pass(clicks: Clicks) -> None:
    torch.manual_seed(0)
    model = small_sam(SMALL)
    with torch.inference_mode():
        logits, scores = predict(model, clicks)
        for picture in range(3):
            mine = clicks.picture == picture
            points = clicks.points[mine][:, None]
            asked = {"image": clicks.images[picture], "original_size": (48, 48), "point_coords": points,
                     "point_labels": torch.ones(len(points), 1)}  # fmt: skip
            several = model([asked], multimask_output=True)[0]
            single = model([asked], multimask_output=False)[0]
            torch.testing.assert_close(scores[mine][:, 1:], several["iou_predictions"], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(scores[mine][:, :1], single["iou_predictions"], atol=1e-5, rtol=1e-5)
            assert torch.equal(logits[mine][:, 1:] > 0, several["masks"])
            assert torch.equal(logits[mine][:, :1] > 0, single["masks"])


def test_intersection_over_union_of_half_overlapping_squares() -> None:
    first, second = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    first[0, :4, :4] = second[0, :4, 2:6] = True
    assert intersection_over_union(first, second).item() == pytest.approx(8 / 24)


def test_the_loss_prefers_the_true_mask(clicks: Clicks) -> None:
    right = (clicks.masks * 20 - 10)[:, None].repeat(1, 4, 1, 1)
    ones = torch.ones(len(clicks.masks), 4)
    assert sam_loss(right, ones, clicks.masks) < 0.01
    assert sam_loss(-right, ones, clicks.masks) > 1.0
    one_right = -right
    one_right[:, 2] = right[:, 2]
    one_right[:, 0] = right[:, 0]
    scores = torch.zeros_like(ones)
    scores[:, [0, 2]] = 1.0
    assert sam_loss(one_right, scores, clicks.masks) < 0.05, "one good candidate of three is enough"


def test_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", minutes=5, steps=4, batch=2, seed=0, config=SMALL)
    train(tmp_path / "parts", minutes=0, steps=4, batch=2, seed=0, config=SMALL)
    again = train(tmp_path / "parts", minutes=5, steps=4, batch=2, seed=0, config=SMALL)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=1e-6, rtol=1e-6)
