"""What may be chosen in a probe, what is asked of it, and what a browser sends that is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from refam_analysis.prompts import DEFAULT_MAGNETS, EmptyExpressionError, make_prompt
from refam_analysis.widgets.probe_message import FIRST_CHOICES, FIRST_VIEW, scene_of, state_of, view_of
from refam_analysis.widgets.probe_pictures import Picture, SceneChoice, SceneChoiceError, drawn
from refam_analysis.widgets.probe_state import ProbeInputError, ProbeState, View


@pytest.fixture(scope="module")
def picture() -> Picture:
    return drawn(SceneChoice())


@pytest.fixture
def state(picture: Picture) -> ProbeState:
    return ProbeState(picture, "the ring")


def test_both_groups_are_the_default_magnets(state: ProbeState) -> None:
    assert state.magnets == DEFAULT_MAGNETS


def test_magnets_follow_the_toggles(state: ProbeState) -> None:
    chosen = replace(state, stop_words=False, colours=False, own_words="  picture  of ")
    assert chosen.magnets == ("picture", "of")
    assert replace(state, stop_words=False).magnets == ("red", "green", "blue", "yellow", "black", "white")


@pytest.mark.parametrize(
    "comparison, other",
    [("nothing", None), ("no magnets", ("the ring", ())), ("another sentence", ("the star", DEFAULT_MAGNETS))],
)
def test_what_stands_beside_the_answer(state: ProbeState, comparison: Any, other: tuple | None) -> None:
    first, *beside = replace(state, comparison=comparison, other="the star").questions()
    assert first.prompt == make_prompt("the ring", DEFAULT_MAGNETS)
    assert [question.prompt for question in beside] == ([make_prompt(*other)] if other else [])


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"expression": "word " * 10_000}, "400 characters, and this has 50,000"),
        ({"expression": "a " * 100}, "80 words, and this has 100"),
        ({"own_words": "x" * 500}, "The magnets may have 400 characters"),
        ({"comparison": "another sentence", "other": "x" * 500}, "400 characters"),
        ({"noise_level": 1.5}, "noise level 1.5"),
        ({"seed": -1}, "seed -1"),
    ],
    ids=["10,000-words", "100-words", "long-magnets", "long-other", "noise", "seed"],
)
def test_refused_before_any_model_sees_it(state: ProbeState, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ProbeInputError, match=sentence):
        replace(state, **changes).questions()


def test_empty_expression_is_an_error(state: ProbeState) -> None:
    with pytest.raises(EmptyExpressionError):
        replace(state, expression="   ").questions()


def test_first_choices_are_a_state(picture: Picture) -> None:
    state = state_of({**FIRST_CHOICES, "expression": "the ring"}, picture)
    assert state == ProbeState(picture, "the ring")
    assert scene_of(FIRST_CHOICES) == SceneChoice()
    assert view_of(FIRST_VIEW) == View()


@pytest.mark.parametrize(
    "name, value",
    [
        ("expression", ["the ring"]), ("expression", None), ("stop_words", "yes"), ("seed", 1.5), ("seed", True),
        ("seed", "0"), ("noise_level", float("nan")), ("noise_level", -0.1), ("noun_phrase", 1), ("gas", "explode"),
        ("gas", ["none"]), ("comparison", "everything"), ("seed", 10**12),
    ],
    ids=str,
)  # fmt: skip
def test_browser_that_sends_something_else_is_refused(picture: Picture, name: str, value: Any) -> None:
    with pytest.raises(ProbeInputError, match=name):
        state_of({**FIRST_CHOICES, "expression": "the ring", name: value}, picture)


@pytest.mark.parametrize(
    "scene", [None, {}, {"number": -1}, {"number": 10**8}, {"objects": 7}, {"occlusion": 2}, {"shared_attribute": 0}]
)
def test_scene_that_a_browser_invents_is_refused(scene: dict[str, Any] | None) -> None:
    whole = {**FIRST_CHOICES["scene"], **scene} if scene else scene
    with pytest.raises((ProbeInputError, SceneChoiceError)):
        scene_of({"scene": whole})


def test_without_a_block_there_is_no_head() -> None:
    assert View(block=2, head=1).changed(block=None).head is None
    assert View(block=2, head=1).changed(token="red").head == 1
