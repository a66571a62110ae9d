"""The segmenter's training prefers true masks, and resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from refam_analysis.evaluation.clicks import Clicks, draw_clicks
from refam_analysis.scenes import SceneOptions, Scenes
from refam_analysis.segmentation.segmenters.embedded import SamConfig
from refam_analysis.training.sam import sam_loss, train

SMALL = SamConfig(image_size=48, patch_size=8, width=24, depth=1, embedding=32)


@pytest.fixture
def clicks() -> Clicks:
    split = Scenes("train", length=3, size=48, options=SceneOptions(objects=(2, 3), occlusion=0.5), kinds=())
    return draw_clicks([split.draw(i)[0] for i in range(3)], np.random.default_rng(0), 48)


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
