"""Splits are fixed, disjoint, balanced, and hold out what they say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from refam_analysis.scenes import HELD_OUT, KINDS, ExpressionKind, SceneOptions, Scenes, expressions
from refam_analysis.scenes.expressions import FEWEST_OBJECTS, rivals

HARD = SceneOptions(objects=(3, 3), shared_attribute=True)


def pairs(split: str) -> set[tuple[str, str]]:
    scenes = Scenes(split, length=400, kinds=())
    return {(o.colour, o.shape) for i in range(400) for o in scenes.draw(i)[0].objects}


def test_only_the_test_split_shows_held_out_pairs() -> None:
    assert not pairs("train") & HELD_OUT
    assert not pairs("validation") & HELD_OUT
    assert pairs("test") >= HELD_OUT


def test_splits_share_no_scene() -> None:
    splits = [Scenes(split, length=300, kinds=()) for split in ("train", "validation", "test")]
    drawn = [split.draw(i)[0] for split in splits for i in range(300)]
    assert len(set(drawn)) == 900


def test_a_scene_does_not_depend_on_the_length_of_the_split() -> None:
    short, long = Scenes("test", length=5, balanced=True), Scenes("test", length=500, balanced=True)
    assert short[3].scene == long[3].scene
    assert np.array_equal(short[3].image, long[3].image)


def test_kinds_have_equal_shares_when_balanced() -> None:
    scenes = Scenes("validation", length=200, balanced=True)
    counts = Counter(scenes.draw(i)[1][0].kind for i in range(200))
    assert counts == dict.fromkeys(KINDS, 50)


def test_hard_scenes_have_a_rival_that_shares_an_attribute_with_the_target() -> None:
    scenes = Scenes("test", length=100, options=HARD, kinds=("attribute", "location"), balanced=True)
    for i in range(100):
        scene, (expression,) = scenes.draw(i)
        assert len(scene.objects) == 3
        assert rivals(scene, expression.target)


def test_masks_belong_to_the_objects() -> None:
    sample = Scenes("test", length=3)[2]
    assert sample.masks.shape == (len(sample.scene.objects), 96, 96)
    for item, mask in zip(sample.scene.objects, sample.masks, strict=True):
        rows, columns = mask.nonzero()
        assert abs(columns.mean() / 96 - item.x) < 0.05 and abs(rows.mean() / 96 - item.y) < 0.06


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, "unknown: choose one of train"),
        ({"kinds": ["colour"]}, "unknown: choose among attribute"),
        ({"kinds": (), "balanced": True}, "at least one kind"),
        ({"kinds": ["relation"], "options": SceneOptions(objects=(1, 2))}, "the 2 objects .* relation 3"),
        ({"balanced": True, "options": SceneOptions(objects=(2, 2))}, "the 2 objects .* relation 3"),
    ],
    ids=["split", "kind", "no-kind", "too-few-objects", "too-few-for-one-kind"],
)
def test_choices_that_no_scene_fits_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scenes(**({"split": "test"} | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_found_among_the_fewest_objects_and_not_among_fewer(kind: ExpressionKind) -> None:
    fewest = FEWEST_OBJECTS[kind]
    Scenes("test", length=2, options=SceneOptions(objects=(fewest, fewest)), kinds=[kind]).draw(0)
    for number in range(1, fewest):
        fewer = Scenes("test", length=20, options=SceneOptions(objects=(number, number)), kinds=())
        assert not any(expressions(fewer.draw(i)[0], kind) for i in range(20))


@pytest.mark.parametrize("index", [5, -6])
def test_a_scene_beyond_the_end_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError, match="has 5 scenes"):
        Scenes("test", length=5)[index]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": (0, 2)}, "1 <= least"),
        ({"objects": (3, 2)}, "1 <= least"),
        ({"occlusion": 1.5}, "probability"),
        ({"objects": (1, 2), "shared_attribute": True}, "at least two"),
    ],
    ids=["none", "reversed", "occlusion", "lonely"],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneOptions(**options)  # type: ignore[arg-type]


def test_moving_objects_are_displaced_by_their_velocity() -> None:
    from refam_analysis.scenes import Scene, SceneObject

    scene = Scene((SceneObject("star", "red", "small", 0.2, 0.4, 0.1, velocity=(0.1, -0.2)),), "teal")
    moved = scene.at(2.0).objects[0]
    assert (moved.x, moved.y) == pytest.approx((0.4, 0.0))
