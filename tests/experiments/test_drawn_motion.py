"""Drawn motion: what captions name, what the judge sees, and what is counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from refam_analysis.experiments import drawn_motion, generation
from refam_analysis.models import load_model
from refam_analysis.scenes.moving import DIRECTIONS

RED = (214, 33, 38)


def sliding(across: int, down: int) -> np.ndarray:
    """Seven frames of a red square that moves by so many pixels a frame."""
    frames = np.full((7, 64, 64, 3), 120, np.uint8)
    for number, frame in enumerate(frames):
        x, y = 26 + number * across, 26 + number * down
        frame[y : y + 12, x : x + 12] = RED
    return frames


@pytest.mark.parametrize(
    ("way", "step"),
    list(zip(DIRECTIONS, ((-2, 0), (2, 1), (0, -3), (1, 2)), strict=True)),
)
def test_the_judge_sees_which_way_an_object_goes(way: str, step: tuple[int, int]) -> None:
    assert drawn_motion.seen_way(sliding(*step)) == way


def test_what_stands_still_or_is_not_there_goes_nowhere() -> None:
    assert drawn_motion.seen_way(sliding(0, 0)) == drawn_motion.NOWHERE
    assert drawn_motion.seen_way(np.full((7, 64, 64, 3), 120, np.uint8)) == drawn_motion.NOWHERE


def test_true_clips_go_the_way_that_they_are_said_to_go() -> None:
    clips = drawn_motion.captioned_clips(12)
    assert all(len(clip.motion.scene.objects) == 1 for clip in clips)
    assert [drawn_motion.seen_way(clip.frames) for clip in clips] == [drawn_motion.named_way(clip) for clip in clips]
    assert drawn_motion.captioned_clips(2, first=4) == clips[4:6]


def test_shares_are_counted_against_the_captions_of_others() -> None:
    ways = list(DIRECTIONS)
    drawn = pd.DataFrame({"named": ways, "drawn": [ways[0], ways[0], ways[3], "nowhere"], "true": ways})
    table = drawn_motion.drawn_summary(drawn).set_index("measure")
    assert table.loc["goes the named way", "share"] == 0.25
    assert table.loc["... the opposite way", "share"] == 0.5
    assert table.loc["... nowhere", "share"] == 0.25
    assert table.loc["judge of ways on true clips", "share"] == 1 and (table["clips"] == 4).all()
    same = pd.DataFrame({"named": ["moving up"] * 5, "drawn": ["moving up"] * 5, "true": ["moving up"] * 5})
    assert (drawn_motion.drawn_summary(same)["share"] == [1, 1, 0, 0, 1]).all()


def test_clips_are_drawn_as_the_model_draws_them_one_by_one() -> None:
    model = load_model("embedded-video")
    texts, seeds = ["a red ring moving up", "a blue star"], [3, 4]
    together = generation.draw(model, texts, seeds=seeds, steps=2, guidance=3.0)
    assert together.shape == (2, 13, 64, 64, 3)
    for text, seed, clip in zip(texts, seeds, together, strict=True):
        alone = np.stack([np.asarray(frame) for frame in model.generate(text, seed=seed, steps=2, guidance=3.0)])
        assert np.abs(alone.astype(int) - clip).max() <= 2
    rows = drawn_motion.drawn_ways(model, drawn_motion.captioned_clips(2), seed=1)
    again = drawn_motion.drawn_ways(model, drawn_motion.captioned_clips(1, first=1), first=1, seed=1)
    assert rows.loc[1].to_dict() == again.loc[0].to_dict()
