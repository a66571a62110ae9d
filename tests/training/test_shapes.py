"""Training of the judge of shapes: it learns, goes on where it stopped, and ships as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from refam_analysis.evaluation.shape_judge import judge_shapes, load_shape_judge, shape_accuracy, single_objects
from refam_analysis.scenes.rich_vocabulary import RICH_SHAPES
from refam_analysis.training.checkpoints import load_checkpoint
from refam_analysis.training.shapes import batch_of_scenes, export_judge, recoloured, shape_card, train


def test_a_batch_has_every_picture_with_its_shape_and_both_styles() -> None:
    pictures, shapes = batch_of_scenes(0, 16)
    assert pictures.shape == (16, 3, 96, 96) and 0 <= pictures.min() <= pictures.max() <= 1
    true = batch_of_scenes(0, 16)[1]
    assert torch.equal(shapes, true) and shapes.max() < len(RICH_SHAPES)
    assert not torch.equal(batch_of_scenes(1, 16)[0], pictures)


def test_recolouring_moves_channels_and_keeps_places() -> None:
    pictures = batch_of_scenes(3, 4)[0]
    changed = recoloured(pictures, torch.Generator().manual_seed(0))
    assert changed.shape == pictures.shape and not torch.allclose(changed, pictures)
    for before, after in zip(pictures, changed, strict=True):
        likeness = np.corrcoef(before.reshape(3, -1), after.reshape(3, -1))[:3, 3:]
        assert (np.abs(likeness).max(axis=0) > 0.9).all()


def test_training_goes_on_and_the_export_answers_alike(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = train(tmp_path / "run", steps=3, batch=8, seed=0)
    found = load_checkpoint(tmp_path / "run", "shapes")
    assert found is not None and found[1]["step"] == 3
    again = train(tmp_path / "run", steps=3, batch=8, seed=0)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    export_judge(network, tmp_path / "judge")
    pictures = np.stack([one.image for one in single_objects("plain", 4)])
    assert judge_shapes(pictures, judge=load_shape_judge(tmp_path / "judge")) == judge_shapes(pictures, judge=network)


def test_the_card_has_what_was_counted() -> None:
    table = shape_accuracy(load_shape_judge(), styles=["plain"], scenes=20).assign(right=[True] * 15 + [False] * 5)
    card = shape_card(table, "python -m refam_analysis.training.shapes --steps 7")
    assert "| plain | " in card and "| 20 | 0.750 (0.531 to 0.888) |" in card and "--steps 7" in card
