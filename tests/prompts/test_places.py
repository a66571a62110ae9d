"""Places: which words name one, what they mean along the axes, and which only look as if they did."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refam_analysis.prompts import EmptyExpressionError, Place, make_prompt, places

LEFT, RIGHT, TOP, BOTTOM = ("x", 0.0), ("x", 1.0), ("y", 0.0), ("y", 1.0)
MIDDLE_X, MIDDLE_Y = ("x", 0.5), ("y", 0.5)
Meaning = set[tuple[str, float]]


def meaning(place: Place) -> Meaning:
    """The axes that a place says something about, and the likeliest position on each."""
    return {(name, axis.position) for name, axis in (("x", place.x), ("y", place.y)) if axis is not None}


@pytest.mark.parametrize(
    ("expression", "text", "expected"),
    [
        ("the man on the left", "on the left", {LEFT}),
        ("left guy red shirt", "left", {LEFT}),
        ("guy right in red", "right", {RIGHT}),
        ("guy on the right next to the pole", "on the right", {RIGHT}),
        ("the top-left pizza", "top-left", {TOP, LEFT}),
        ("chair bottom right corner", "bottom right corner", {BOTTOM, RIGHT}),
        ("on the left-hand side of the picture", "on the left-hand side of the picture", {LEFT}),
        ("lower left hand corner", "lower left hand corner", {BOTTOM, LEFT}),
        ("the left-hand bag", "left-hand", {LEFT}),
        ("left of the photo", "left of the photo", {LEFT}),
        ("man left of center", "left of center", {LEFT}),
        ("upper shelf", "upper", {TOP}),
        ("the one on top", "on top", {TOP}),
        ("the dog above, in blue", "above", {TOP}),
        ("the lowest star", "lowest", {BOTTOM}),
        ("the red circle at the top", "at the top", {TOP}),
        ("the one in the middle", "in the middle", {MIDDLE_X, MIDDLE_Y}),
        ("centre left person", "centre left", {LEFT, MIDDLE_Y}),
        ("the middle row", "middle row", {MIDDLE_Y}),
        ("front zebra", "front", {BOTTOM}),
        ("person in the background", "in the background", {TOP}),
        ("the one behind", "behind", {TOP}),
        ("the car in front of us", "in front of us", {BOTTOM}),
        ("kid closest to the camera", "closest to the camera", {BOTTOM}),
        ("the closest guy to us", "closest guy to us", {BOTTOM}),
        ("farthest from the camera", "farthest from the camera", {TOP}),
        ("back right chair", "back right", {TOP, RIGHT}),
        ("standing to the left", "to the left", {LEFT}),
        ("the man walking on the left side", "on the left side", {LEFT}),
        ("a fish on the left moving to the right", "on the left", {LEFT}),
        ("the left one of the two", "left", {LEFT}),
        ("the picture's left", "left", {LEFT}),
        ("on your right", "on your right", {RIGHT}),
        ("girl in the blue top on the right", "on the right", {RIGHT}),
        ("left-handed pitcher on the right", "on the right", {RIGHT}),
        ("man with his right hand up on the left", "on the left", {LEFT}),
        ("man behind the car on the left", "on the left", {LEFT}),
        ("2 men on the left", "on the left", {LEFT}),
    ],
)  # fmt: skip
def test_a_place_is_found_with_its_words(expression: str, text: str, expected: Meaning) -> None:
    (place,) = places(expression)
    assert place.text == text
    assert meaning(place) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "the red square", "the man in the red shirt",
        # directions of motion and of gaze
        "a goose walking to the left", "a car turning right", "the man moving towards the left", "facing left",
        "a woman walking from left to right", "a dog running from the left to the right", "coming from the left",
        "kicking the ball to the left", "turns its head left", "turning its head to the left", "the left facing bird",
        "left-facing bird", "looking back", "the plane heading up to the top right", "with its head to the left",
        "a car making a right turn", "towards the bottom left",
        # relations to something else
        "the square left of the tree", "to the right of the dog", "the man to her left", "on the man's right",
        "the car behind the bus", "the cup on top of the table", "the dog in the middle of the road",
        "the left side of the pizza", "in front of the car", "near the tree", "closest to the wall", "next to the dog",
        "the closest one to the tree", "the one above the ring", "in the middle of the two men",
        # somebody's own side
        "the man raising his left hand", "right leg", "the front wheel", "right-handed batter", "man with left arm up",
        "the person whose back is to us",
        # other meanings
        "the one left over", "the leftovers", "only one left", "the bag left behind", "the one who has left",
        "man right behind the counter", "the woman right next to the pole", "all right", "girl in a white top",
        "a red tank top", "the middle-aged man", "man with back to the camera", "man in a top hat", "seen from behind",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_place_is_not_read(expression: str) -> None:
    assert places(expression) == ()


@pytest.mark.parametrize(
    "expression",
    ["not the left one", "the one not on the left", "the one that isn't on the left", "not left", "except the left one",
     "other than the guy in the middle", "not the tall man sitting on the left", "no left one", "not in front",
     "neither the left nor the right one"],
)  # fmt: skip
def test_negated_places_are_not_read(expression: str) -> None:
    assert places(expression) == ()


@pytest.mark.parametrize(
    ("expression", "texts"),
    [
        ("the left one, not the right one", ["left"]),
        ("not the left one but the right one", ["right"]),
        ("not red, on the left", ["on the left"]),
        ("the man not wearing a hat on the left", ["on the left"]),
        ("man with no hat on the left", ["on the left"]),
        ("the one that is not red on the left", ["on the left"]),
    ],
)
def test_a_negation_ends_at_a_comma_and_but_and_leaves_out_looks(expression: str, texts: list[str]) -> None:
    assert [place.text for place in places(expression)] == texts


@pytest.mark.parametrize(
    "expression",
    ["leftmost one", "the left-most one", "far left", "on the very left", "the car closest to the left",
     "nearest to the left side", "furthest to the left", "first from the left", "last one on the left"],
)  # fmt: skip
def test_extremes_are_narrower_than_sides(expression: str) -> None:
    (extreme,), (side,) = places(expression), places("on the left")
    assert extreme.x and side.x
    assert extreme.x.position == side.x.position == 0.0
    assert extreme.x.spread < side.x.spread


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("second from the left", "second from the left"),
        ("the second zebra from the left", "second from the left"),
        ("2nd guy on the left", "2nd on the left"),
        ("the second one in from the left", "second from the left"),
        ("two from the left", "two from the left"),
    ],
)
def test_counted_places_lie_between_the_end_and_the_middle(expression: str, text: str) -> None:
    (place,) = places(expression)
    assert place.text == text
    assert place.x and 0.0 < place.x.position < 0.5 and place.y is None


def test_counted_places_move_from_their_end_towards_the_middle() -> None:
    ranks = ["first", "second", "third", "fourth", "fifth", "6th", "7th", "8th", "9th", "10th"]
    found = [places(f"the {rank} dog from the left")[0].x for rank in ranks]
    positions = [axis.position for axis in found if axis]
    assert positions[0] == 0.0
    assert all(before < after < 0.5 for before, after in zip(positions, positions[1:], strict=False))


def test_rows_are_counted_down_the_picture_only() -> None:
    (from_top,), (on_left,) = places("second row from the top"), places("second row on the left")
    assert from_top.y and 0.0 < from_top.y.position < 0.5
    assert meaning(on_left) == {LEFT}


@pytest.mark.parametrize("expression", ["in the corner", "the one on the end", "the end one"])
def test_corners_and_ends_without_a_side_may_be_any(expression: str) -> None:
    (place,) = places(expression)
    assert place.x and place.x.either_end
    assert ("corner" in expression) == bool(place.y and place.y.either_end)


def test_depth_says_less_about_the_height_than_top_and_bottom() -> None:
    (front,), (bottom,) = places("the front one"), places("the bottom one")
    assert front.y and bottom.y and front.y.spread > bottom.y.spread


def test_words_are_those_of_the_prompt_with_its_magnets() -> None:
    expression = "the 2nd dog, from the left, in the TOP-LEFT corner"
    words = make_prompt(expression, [".", "left"]).words
    spoken = [[words[i].text for i in place.words] for place in places(expression)]
    assert spoken == [["in", "the", "TOP-LEFT", "corner"]]
    assert all(not words[i].is_magnet for place in places(expression) for i in place.words)


def test_several_places_come_in_the_order_of_the_expression() -> None:
    assert [place.text for place in places("third from left, back row")] == ["third from left", "back row"]
    assert [place.text for place in places("2nd from top on the right")] == ["2nd from top", "on the right"]


def test_an_empty_expression_is_refused() -> None:
    with pytest.raises(EmptyExpressionError):
        places(" ")


SIDED = st.sampled_from(
    ["the man on the {}", "{} guy", "the far {}", "the dog walking to the {}", "second from the {}",
     "the {} of the box", "not the {} one", "the one on the very {}, in red", "closest to the {}",
     "the {} side of the photo", "his {} hand", "the {}-hand one", "the third one on the {}"]
)  # fmt: skip


@pytest.mark.parametrize("sides", [("left", "right"), ("top", "bottom")], ids=lambda sides: "-".join(sides))
@given(template=SIDED, more=SIDED)
def test_opposite_words_mean_mirrored_places(sides: tuple[str, str], template: str, more: str) -> None:
    axis = "x" if "left" in sides else "y"
    assume(axis == "x" or "hand" not in template + more)
    one, other = (places(f"{template.format(a)}, {more.format(b)}") for a, b in (sides, sides[::-1]))
    assert len(one) == len(other)
    for place, mirrored in zip(one, other, strict=True):
        along, back = getattr(place, axis), getattr(mirrored, axis)
        assert along.position == pytest.approx(1.0 - back.position)
        assert along.spread == back.spread


WORDS = "left of the right second from not to in front walking , far corner middle dog near top".split()


@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_any_text_is_read_without_failing_and_words_lie_in_it(expression: str) -> None:
    try:
        words = make_prompt(expression).words
    except ValueError:
        return
    for place in places(expression):
        assert place.text == " ".join(words[i].text for i in place.words)
        assert list(place.words) == sorted(set(place.words))
        assert place.x is not None or place.y is not None
