"""Prompts: which texts are refused, where magnets go, and what counts as a word."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.prompts import (
    DEFAULT_MAGNETS,
    EmptyExpressionError,
    EmptyMagnetError,
    MagnetsTypeError,
    PromptError,
    UnreadableTextError,
    make_prompt,
)
from refam_analysis.prompts.magnets import COLOUR_WORDS, is_punctuation


@pytest.mark.parametrize("expression", ["", "   ", "\n\t", "\u200b", "\x00"], ids=ascii)
def test_an_expression_without_a_visible_character_is_refused(expression: str) -> None:
    with pytest.raises(EmptyExpressionError, match="is empty"):
        make_prompt(expression)


def test_an_empty_magnet_is_refused() -> None:
    with pytest.raises(EmptyMagnetError, match="' '|''"):
        make_prompt("the ring", [" "])


def test_one_string_is_no_list_of_magnets() -> None:
    with pytest.raises(MagnetsTypeError, match="every letter"):
        make_prompt("the ring", "red blue")


@pytest.mark.parametrize("where", ["expression", "magnet"])
def test_half_a_character_is_refused(where: str) -> None:
    half = "a\ud800b"
    with pytest.raises(UnreadableTextError, match="surrogate"):
        make_prompt(*((half,) if where == "expression" else ("ring", [half])))


def test_magnets_are_appended_after_single_spaces() -> None:
    assert make_prompt("  the\nred  ring ", [".", "a", "a"]).text == "the red ring . a a"


def test_a_magnet_that_is_a_colour_of_the_expression_is_dropped() -> None:
    assert "red" not in make_prompt("the RED, small ring", DEFAULT_MAGNETS).magnets
    assert "red" in make_prompt("the hundred rings", DEFAULT_MAGNETS).magnets


@pytest.mark.parametrize(("named", "magnet"), [("gray", "grey"), ("grey", "gray")])
def test_both_spellings_of_gray_are_one_colour(named: str, magnet: str) -> None:
    assert make_prompt(f"the {named} ring", [magnet]).magnets == ()


@pytest.mark.parametrize("expression", ["the blue-eyed girl", "the dark-blue one", "the BLUE’s rim", "a 'blue' ring"])
def test_a_colour_within_a_word_of_the_expression_counts(expression: str) -> None:
    assert make_prompt(expression, ["red", "blue"]).magnets == ("red",)


@pytest.mark.parametrize("magnet", ["light blue", "sky-blue", "Blue"])
def test_a_magnet_that_contains_a_colour_of_the_expression_is_dropped(magnet: str) -> None:
    assert make_prompt("the blue ring", [magnet, "."]).magnets == (".",)


def test_a_colour_that_only_looks_like_one_of_the_expression_stays() -> None:
    assert make_prompt("the bluetooth tanker", ["blue", "tan"]).magnets == ("blue", "tan")


def test_a_stop_word_of_the_expression_may_be_a_magnet_too() -> None:
    assert make_prompt("a ring with a dot .", [".", "a", "with"]).magnets == (".", "a", "with")


def test_default_magnets_begin_with_those_of_the_paper_and_go_on_with_colours() -> None:
    assert DEFAULT_MAGNETS[:3] == (".", "a", "with")
    assert set(DEFAULT_MAGNETS[3:]) <= COLOUR_WORDS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the red circle.", ["the", "red", "circle", "."]),
        ("left-most, it's the boy's", ["left-most", ",", "it's", "the", "boy's"]),
        ("'quoted' words- and -dashes", ["'", "quoted", "'", "words", "-", "and", "-", "dashes"]),
        ("wait... what?!", ["wait", "...", "what", "?!"]),
        ("the 🔴 one", ["the", "🔴", "one"]),
        ("rot--grün é1_2", ["rot", "--", "grün", "é1", "_", "2"]),
    ],
)
def test_words_and_punctuation_are_told_apart(text: str, words: list[str]) -> None:
    assert [word.text for word in make_prompt(text).words] == words


def test_only_what_was_appended_is_a_magnet() -> None:
    words = make_prompt("a ring with red", ["a", "light blue", "."]).words
    assert [word.text for word in words if word.is_magnet] == ["a", "light", "blue", "."]


@given(st.text(max_size=40), st.lists(st.text(min_size=1, max_size=5), max_size=3))
def test_words_cover_every_character_but_spaces_once_and_in_order(expression: str, magnets: list[str]) -> None:
    try:
        prompt = make_prompt(expression, magnets)
    except PromptError:
        return
    assert "".join(word.text for word in prompt.words) == "".join(prompt.text.split())
    ends = [0, *(word.end for word in prompt.words)]
    assert all(end <= word.start < word.end for end, word in zip(ends, prompt.words, strict=False))
    assert all(prompt.text[word.start : word.end] == word.text for word in prompt.words)


@given(st.text(min_size=1, alphabet=st.characters(categories=["L", "N", "So"])))
def test_letters_numbers_and_pictographs_are_no_punctuation(text: str) -> None:
    assert not is_punctuation(text)


def test_magnets_in_front_are_magnets_and_the_expression_is_not() -> None:
    prompt = replace(make_prompt("the ring", (".", "a")), magnets_first=True)
    assert prompt.text == ". a the ring"
    assert [(word.text, word.is_magnet) for word in prompt.words] == [
        (".", True), ("a", True), ("the", False), ("ring", False)
    ]  # fmt: skip


def test_make_prompt_puts_magnets_in_front_when_asked() -> None:
    prompt = make_prompt("the red ring", (".", "red", "blue"), magnets_first=True)
    assert prompt == replace(make_prompt("the red ring", (".", "red", "blue")), magnets_first=True)
    assert prompt.text == ". blue the red ring"
