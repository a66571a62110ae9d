"""Moving scenes: what was planned happens, masks are exact, sentences are true, and clips are the same everywhere."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.prompts.places import places
from refam_analysis.scenes import (
    HELD_OUT,
    MOVING_KINDS,
    MovingOptions,
    MovingSample,
    MovingScenes,
    SceneOptions,
    Scenes,
)
from refam_analysis.scenes.motion import EVENTS, Limits
from refam_analysis.scenes.rendering import render, visible_masks
from refam_analysis.scenes.scene import SceneObject

PAIRS, ALONE = (MovingOptions(SceneOptions(objects=(number, number))) for number in (2, 1))
CLIPS = [MovingScenes("test", length=48)[i] for i in range(48)]
WAYS = {"to the left": (-1, 0), "to the right": (1, 0), "up": (0, -1), "down": (0, 1)}


def share_in_sight(clip: MovingSample) -> np.ndarray:
    areas = clip.truth.sum((1, 2))
    return areas / areas[0]


def of_event(event: str) -> list[MovingSample]:
    return [clip for clip in CLIPS if clip.event == event]


def test_kinds_and_events_have_equal_shares() -> None:
    assert Counter((clip.expression.kind, clip.event) for clip in CLIPS) == {
        (kind, event): 2 for kind in MOVING_KINDS for event in EVENTS
    }


def test_every_object_is_in_full_sight_in_the_first_frame() -> None:
    for clip in CLIPS:
        for index, item in enumerate(clip.motion.scene.objects):
            alone = replace(clip.motion.scene, objects=(item,))
            whole = visible_masks([alone], size=clip.size)[0, 0].numpy()
            assert np.array_equal(clip.masks[0, index], whole)


def test_a_hidden_target_is_out_of_sight_inside_the_picture_and_returns() -> None:
    for clip in of_event("hidden"):
        share = share_in_sight(clip)
        hidden = np.flatnonzero(share < 0.05)
        assert len(hidden) >= 2 and share[hidden[0] :].max() > 0.75
        for time in hidden:
            item = clip.motion.at(int(time)).objects[clip.expression.target]
            assert 0 < item.x < 1 and 0 < item.y < 1


def test_a_leaving_target_is_out_of_the_picture_and_returns() -> None:
    for clip in of_event("leaving"):
        items = [clip.motion.at(time).objects[clip.expression.target] for time in range(clip.length)]
        outside = [not (0 < item.x < 1 and 0 < item.y < 1) for item in items]
        assert any(outside) and share_in_sight(clip)[-4:].max() > 0.5
        assert (share_in_sight(clip) < 0.05).sum() >= 2


def test_a_crossed_target_is_covered_in_part_only() -> None:
    for clip in of_event("crossed"):
        assert 0.05 < share_in_sight(clip).min() < 0.75


def test_a_free_target_stays_in_sight() -> None:
    assert all(share_in_sight(clip).min() > 0.5 for clip in of_event("free"))


@pytest.mark.parametrize("clip", [clip for clip in CLIPS if clip.expression.kind in ("moving", "direction")],
                         ids=lambda clip: clip.expression.text.replace(" ", "-"))  # fmt: skip
def test_a_named_direction_is_the_targets_and_of_no_rival(clip: MovingSample) -> None:
    match = re.fullmatch(r"the (.+) moving (.+)", clip.expression.text)
    assert match
    named, way = [word for word in match[1].split() if word != "one"], WAYS[match[2]]
    objects = clip.motion.scene.objects
    fitting = [i for i, o in enumerate(objects) if set(named) <= {o.size, o.colour, o.shape}]
    pace = {i: objects[i].velocity[0] * way[0] + objects[i].velocity[1] * way[1] for i in fitting}
    assert pace[clip.expression.target] >= 0.004
    assert all(other <= 0 for i, other in pace.items() if i != clip.expression.target)
    assert (len(fitting) == 1) == (clip.expression.kind == "moving")
    # The pixels move that way too.
    before, after = (np.argwhere(mask).mean(0) for mask in clip.truth[:4:3])
    assert (after - before) @ np.array(way[::-1]) > 0


def test_directions_of_motion_are_no_places() -> None:
    texts = [clip.expression.text for clip in CLIPS if clip.expression.kind in ("moving", "direction")]
    assert texts and [places(text) for text in texts] == [()] * len(texts)


def test_a_clip_depends_on_split_number_and_options_only() -> None:
    short, long = MovingScenes("validation", length=3)[2], MovingScenes("validation", length=90, frames=40)[2]
    assert short.motion == long.motion and short.expression == long.expression
    assert np.array_equal(short.frames, long.frames[:24])
    assert MovingScenes("validation", length=3, size=48)[2].motion == short.motion
    assert MovingScenes("test", length=3)[2].motion != short.motion


def test_only_the_test_split_shows_held_out_pairs() -> None:
    pairs = {
        split: {
            (o.colour, o.shape) for i in range(60) for o in MovingScenes(split, length=60)[i].motion.scene.objects
        }
        for split in ("validation", "test")
    }  # fmt: skip
    assert not pairs["validation"] & HELD_OUT and pairs["test"] & HELD_OUT


def test_chunks_are_the_whole_clip() -> None:
    clip = MovingScenes("test", length=2, frames=70)[1]
    assert clip.frames.shape == (70, 96, 96, 3) and clip.masks.shape == (70, 3, 96, 96)
    pictures = render([clip.motion.at(time) for time in (33, 69)], size=96)
    drawn = (pictures.images.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(drawn, clip.frames[[33, 69]])


def test_noise_differs_from_frame_to_frame() -> None:
    first, second = CLIPS[0].motion.at(0), CLIPS[0].motion.at(1)
    assert first.grain != second.grain and first.noise == second.noise > 0


def test_visible_masks_are_those_of_the_pictures() -> None:
    scenes = [sample.scene for sample in Scenes("test", length=12)]
    assert torch.equal(visible_masks(scenes, size=40), render(scenes, size=40).masks)


@given(
    start=st.floats(0.15, 0.85), velocity=st.floats(-0.2, 0.2), time=st.integers(0, 300), step=st.integers(1, 9)
)  # fmt: skip
def test_turning_back_is_what_single_steps_give(start: float, velocity: float, time: int, step: int) -> None:
    """A ball that is moved in small steps and turned at each wall ends where the formula says."""
    limits = Limits(x=(0.1, 0.9), y=(0.0, 1.0))
    moved = limits.moved(SceneObject("star", "red", "small", start, 0.5, 0.1, velocity=(velocity, 0.0)), time)
    place, pace = start, velocity / step
    for _ in range(time * step):
        place += pace
        if place > 0.9:
            place, pace = 1.8 - place, -pace
        if place < 0.1:
            place, pace = 0.2 - place, -pace
    assert moved.x == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, "split=.*choose among train"),
        ({"kinds": ["colour"]}, "kinds=.*choose among attribute"),
        ({"events": []}, "events=none.*choose among free"),
        ({"frames": 10}, "at least 24"),
        ({"options": PAIRS}, r"kinds=\['relation'\] cannot be with 2 objects: .* at least 3"),
        ({"options": ALONE, "kinds": ["moving"]}, r"events=\['crossed', 'hidden'\] cannot be with 1 objects"),
    ],
    ids=["split", "kind", "no-event", "short", "too-few-for-a-kind", "too-few-for-an-event"],
)
def test_unknown_choices_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MovingScenes(**({"split": "test"} | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [3, -4])
def test_a_clip_beyond_the_end_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError, match="has 3 clips"):
        MovingScenes("test", length=3)[index]
