"""Every expression is true of its target and of nothing else, by a reading of the sentence written anew here."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.scenes import (
    COLOURS,
    KINDS,
    MATERIALS,
    RICH_SHAPES,
    SIZES,
    Expression,
    Scene,
    SceneObject,
    SceneOptions,
    sample_scene,
)
from refam_analysis.scenes import expressions as expressions_of

SENTENCE = re.compile(
    r"the (?:(?P<extreme>largest|smallest|leftmost|rightmost|topmost|lowest) )?(?P<look>[a-z ]+?)"
    r"(?: (?P<place>(?:on|at|in) the .+))?(?: (?P<relation>left of|right of|above|below) the (?P<landmark>.+))?"
)


def meant(sentence: str, scene: Scene) -> list[int]:
    """The objects that a person could mean by the sentence, given the picture. Reads the sentence word by word."""
    match = SENTENCE.fullmatch(sentence)
    assert match, f"not a sentence of the data set: {sentence!r}"
    candidates = called(match["look"], scene)
    if match["relation"]:
        landmarks = called(match["landmark"], scene)
        assert len(landmarks) == 1, f"the landmark of {sentence!r} is not clear"
        mark = scene.objects[landmarks[0]]
        candidates = [i for i in candidates if i != landmarks[0] and stands(scene.objects[i], match["relation"], mark)]
    if match["place"]:
        candidates = [i for i in candidates if lies(scene.objects[i], match["place"])]
    if match["extreme"]:
        candidates = [most(match["extreme"], candidates, scene)]
    return candidates


def called(look: str, scene: Scene) -> list[int]:
    words = look.split()
    assert words[-1] in (*RICH_SHAPES, "one")
    assert all(word in (*SIZES, *MATERIALS, *COLOURS) for word in words[:-1])
    return [
        i
        for i, item in enumerate(scene.objects)
        if all(word in (item.size, item.material, item.colour, item.shape, "one") for word in words)
    ]


def lies(item: SceneObject, place: str) -> bool:
    """Halves for sides; so a rival in the other half cannot be meant, and one in the same half is a real ambiguity."""
    words = place.split()
    if "middle" in words:
        return max(abs(item.x - 0.5), abs(item.y - 0.5)) < 0.15
    sides = {"left": item.x < 0.5, "right": item.x > 0.5, "top": item.y < 0.5, "bottom": item.y > 0.5}
    return all(holds for side, holds in sides.items() if side in words)


def stands(item: SceneObject, relation: str, mark: SceneObject) -> bool:
    return {
        "left of": item.x < mark.x,
        "right of": item.x > mark.x,
        "above": item.y < mark.y,
        "below": item.y > mark.y,
    }[relation]


def most(extreme: str, candidates: list[int], scene: Scene) -> int:
    key = {
        "largest": lambda o: -o.radius,
        "smallest": lambda o: o.radius,
        "leftmost": lambda o: o.x,
        "rightmost": lambda o: -o.x,
        "topmost": lambda o: o.y,
        "lowest": lambda o: -o.y,
    }[extreme]
    return min(candidates, key=lambda i: key(scene.objects[i]))


def scenes() -> st.SearchStrategy[Scene]:
    return st.builds(
        lambda seed, number, style: sample_scene(
            np.random.default_rng(seed), SceneOptions(objects=(number, number), style=style)
        ),
        st.integers(0, 2**32 - 1),
        st.integers(1, 4),
        st.sampled_from(["plain", "rich"]),
    )


@pytest.mark.parametrize("kind", KINDS)
@given(scene=scenes())
def test_expression_means_its_target_alone(kind: str, scene: Scene) -> None:
    for expression in expressions_of(scene, kind):
        candidates = meant(expression.text, scene)
        if kind == "location" and len(candidates) > 1:
            # A rival may lie in the same half, but then the target lies clearly nearer to the side that is named.
            assert nearest_to_side(expression, scene, candidates) == expression.target
        else:
            assert candidates == [expression.target], expression.text


def nearest_to_side(expression: Expression, scene: Scene, candidates: list[int]) -> int:
    words = expression.text.split()
    towards = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
    dx, dy = (sum(towards[w][axis] for w in words if w in towards) for axis in (0, 1))
    return max(candidates, key=lambda i: dx * scene.objects[i].x + dy * scene.objects[i].y)


@pytest.mark.parametrize("kind", ["location", "relation", "superlative"])
@given(scene=scenes())
def test_location_relation_and_superlative_are_needed(kind: str, scene: Scene) -> None:
    for expression in expressions_of(scene, kind):
        match = SENTENCE.fullmatch(expression.text)
        assert match is not None
        assert len(called(match["look"], scene)) > 1, f"{expression.text!r} would be clear by its look alone"


@given(scene=scenes())
def test_kinds_are_told_apart_by_their_words(scene: Scene) -> None:
    for kind, part in (("location", "place"), ("relation", "relation"), ("superlative", "extreme")):
        for expression in expressions_of(scene, kind):
            match = SENTENCE.fullmatch(expression.text)
            assert match is not None and match[part]


def test_ambiguous_attribute_is_not_offered() -> None:
    twins = Scene(
        (
            SceneObject("ring", "red", "small", 0.2, 0.2, 0.1),
            SceneObject("ring", "red", "large", 0.7, 0.7, 0.16),
        ),
        "navy",
    )
    texts = [e.text for e in expressions_of(twins, "attribute")]
    assert "the red ring" not in texts and "the small ring" in texts


def test_occluded_and_crowded_scenes_keep_their_number_of_objects() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        assert len(sample_scene(rng, SceneOptions(objects=(4, 4), occlusion=0.5)).objects) == 4
