"""Which scenes and sentences are measured on."""

from __future__ import annotations

import numpy as np
import pytest

from refam_analysis.evaluation.items import (
    GroundingItem,
    ItemsError,
    hard_items,
    moving_items,
    moving_options,
    scene_items,
)
from refam_analysis.scenes import SHAPES, MovingScenes, SceneOptions, Scenes


@pytest.fixture(scope="module")
def hard() -> list[GroundingItem]:
    return hard_items("test", 30, size=48)


def test_hard_items_are_of_the_kinds_in_equal_shares(hard: list[GroundingItem]) -> None:
    assert [item.kind for item in hard] == ["attribute", "location"] * 15


def test_hard_items_are_of_scenes_of_their_own(hard: list[GroundingItem]) -> None:
    assert len({item.scene for item in hard}) == len({item.image.tobytes() for item in hard}) == 30


def test_in_hard_items_a_distractor_shares_the_targets_colour_or_shape_and_the_likest_is_first(
    hard: list[GroundingItem],
) -> None:
    options = SceneOptions(objects=(3, 3), shared_attribute=True)
    scenes = Scenes("test", length=3000, size=48, options=options, kinds=("attribute", "location"), balanced=True)
    for item in hard:
        scene, (expression,) = scenes.draw(item.scene)
        assert (expression.text, expression.target) == (item.expression, item.target)
        target = scene.objects[item.target]
        shared = [
            sum(getattr(target, name) == getattr(scene.objects[i], name) for name in ("colour", "shape"))
            for i in item.distractors
        ]
        assert sorted({item.target, *item.distractors}) == [0, 1, 2]
        assert shared[0] == max(shared) >= 1


def test_the_mask_of_the_target_is_that_of_the_sentence(hard: list[GroundingItem]) -> None:
    """Location sentences say where the target is, so its mask must lie there."""
    sides = {"on the left": (1, 0, 0.4), "on the right": (1, 0.6, 1), "at the top": (0, 0, 0.4)}
    checked = 0
    for item in hard:
        for phrase, (axis, low, high) in sides.items():
            if item.expression.endswith(phrase):
                checked += 1
                centre = (np.argwhere(item.masks[item.target]).mean(axis=0)[axis] + 0.5) / 48
                assert low - 0.05 <= centre <= high + 0.05
    assert checked >= 3


def test_splits_share_no_hard_item(hard: list[GroundingItem]) -> None:
    others = {item.image.tobytes() for item in hard_items("validation", 30, size=48)}
    assert not others & {item.image.tobytes() for item in hard}


def test_skipping_goes_on_where_fewer_items_ended(hard: list[GroundingItem]) -> None:
    rest = hard_items("test", 3, size=48, skip=4)
    assert [item.expression for item in rest] == [item.expression for item in hard[4:7]]


def test_every_expression_of_every_scene_is_an_item() -> None:
    scenes = Scenes("validation", length=5, size=32)
    items = scene_items(scenes)
    assert [item.expression for item in items] == [e.text for sample in scenes for e in sample.expressions]
    assert all(len(item.masks) == 1 + len(item.distractors) for item in items)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"objects": 1}, {"kinds": ()}], ids=str)
def test_no_items_are_refused(wrong: dict) -> None:
    with pytest.raises(ItemsError, match="make no items"):
        hard_items("test", **{"count": 1, **wrong})


@pytest.fixture(scope="module")
def rich() -> list[GroundingItem]:
    return hard_items("test", 24, size=48, style="rich")


def test_rich_hard_items_have_three_or_four_objects_of_more_shapes(rich: list[GroundingItem]) -> None:
    assert {len(item.masks) for item in rich} == {3, 4}
    assert {shape for item in rich for shape in item.shapes} - set(SHAPES)


def test_rich_hard_items_need_more_than_one_attribute(rich: list[GroundingItem]) -> None:
    for item in rich:
        first = item.distractors[0]
        assert item.colours[first] == item.colours[item.target] or item.shapes[first] == item.shapes[item.target]


def test_as_many_objects_as_asked_for_stand_in_a_rich_scene() -> None:
    assert {len(item.masks) for item in hard_items("test", 6, size=48, style="rich", objects=3)} == {3}


def test_moving_items_are_the_first_frames_of_clips() -> None:
    kinds = ("attribute", "direction")
    items = moving_items("test", 3, frames=7, kinds=kinds, size=48, skip=1, style="rich")
    clips = MovingScenes("test", length=4, size=48, kinds=kinds, options=moving_options("rich"))
    for number, item in enumerate(items, 1):
        clip = clips[number]
        assert (item.scene, item.expression, item.kind) == (number, clip.expression.text, kinds[number % 2])
        assert np.array_equal(item.shown, clip.frames[:7]) and np.array_equal(item.image, clip.frames[0])
        assert np.array_equal(item.masks[item.target], clip.truth[0])
        assert sorted({item.target, *item.distractors}) == [0, 1, 2]


def test_longer_moving_items_go_on_from_shorter_ones() -> None:
    short, long = (moving_items("validation", 1, frames=frames, size=48)[0] for frames in (5, 30))
    assert np.array_equal(np.asarray(long.shown)[:5], short.shown) and len(long.shown) == 30


@pytest.mark.parametrize("wrong", [{"count": 0}, {"frames": 0}, {"kinds": ()}])
def test_no_moving_items_are_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ItemsError, match="ask for at least one item, one frame and one kind"):
        moving_items("test", **{"count": 1, "frames": 7, **wrong})


def test_a_still_item_is_shown_as_its_picture() -> None:
    (item,) = hard_items("test", 1, size=48)
    assert item.shown is item.image
