"""The list of stop words: what is on it, and what must never be."""

import pytest

from refam_analysis.prompts import STOP_WORDS, is_stop_word
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


def test_no_word_of_the_scenes_looks_is_a_stop_word() -> None:
    assert STOP_WORDS.isdisjoint((*COLOURS, *SHAPES, *SIZES))


def test_case_and_curly_apostrophes_do_not_matter() -> None:
    assert is_stop_word("The") and is_stop_word("ISN’T")


def test_the_list_is_clean() -> None:
    assert len(STOP_WORDS) > 100
    assert all(word == word.strip().lower() and " " not in word for word in STOP_WORDS)
