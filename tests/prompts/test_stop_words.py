"""The list of stop words: what is on it, and what must never be."""

from importlib.resources import files

import pytest

from refam_analysis.prompts import STOP_WORDS, is_stop_word
from refam_analysis.prompts.lexicon import lexicon
from refam_analysis.prompts.magnets import COLOUR_WORDS
from refam_analysis.scenes import COLOURS, SHAPES, SIZES


@pytest.mark.parametrize("word", ["the", "a", "with", "and", "is", "of", "that", "isn't", "its"])
def test_function_words_are_stop_words(word: str) -> None:
    assert is_stop_word(word)


@pytest.mark.parametrize(
    "word",
    "left right top bottom front back middle centre center above below under over behind beside between near next in "
    "on at by from there here before after one two three first second both largest more most small red".split(),
)
def test_words_that_an_expression_may_rest_on_are_not(word: str) -> None:
    assert not is_stop_word(word)


SECTIONS = "place_words place_parts sides depths near_words far_words ordinals cardinals clothing adjectives".split()


@pytest.mark.parametrize("section", SECTIONS)
def test_no_word_of_place_number_or_look_is_a_stop_word(section: str) -> None:
    assert STOP_WORDS.isdisjoint(lexicon(section))


def test_no_preposition_of_place_is_a_stop_word_but_those_with_another_use() -> None:
    """ "to" marks infinitives and "for" a purpose far more often than a place."""
    assert STOP_WORDS & lexicon("place_prepositions") == {"to", "for"}


def test_no_colour_is_a_stop_word() -> None:
    assert STOP_WORDS.isdisjoint(COLOUR_WORDS)


@pytest.mark.parametrize(
    "word",
    "top bottom front back side empty full call move show name system part whole off out down up anywhere everywhere "
    "once twice few several many none nobody nothing".split(),
)  # fmt: skip
def test_words_of_machine_learning_lists_that_carry_content_are_not_on_it(word: str) -> None:
    assert not is_stop_word(word)


@pytest.mark.parametrize("word", ["with-it", "them-selves", "a.", "thee", "withhold", "ofthe"])
def test_only_whole_words_are_stop_words(word: str) -> None:
    assert not is_stop_word(word)


def test_the_list_names_its_source() -> None:
    text = files("refam_analysis.prompts").joinpath("data", "stop_words.txt").read_text(encoding="utf-8")
    assert "# Source: " in text


def test_no_word_of_the_scenes_looks_is_a_stop_word() -> None:
    assert STOP_WORDS.isdisjoint((*COLOURS, *SHAPES, *SIZES))


def test_case_and_curly_apostrophes_do_not_matter() -> None:
    assert is_stop_word("The") and is_stop_word("ISN’T")


def test_the_list_is_clean() -> None:
    assert len(STOP_WORDS) > 100
    assert all(word == word.strip().lower() and " " not in word for word in STOP_WORDS)
