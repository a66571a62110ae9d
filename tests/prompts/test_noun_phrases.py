"""Noun phrases: what is kept and what is left out, by rules and by spaCy, and how often each is right."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.errors import RefamError
from refam_analysis.prompts import EmptyExpressionError, NoSpacyError, NounPhrase, make_prompt, noun_phrase, parsed
from refam_analysis.prompts.noun_phrases import Source
from refam_analysis.prompts.ruled import tag_of

needs_spacy = pytest.mark.skipif(not parsed.is_installed(), reason="the extra nlp is not installed")
PARSERS = ["rules", pytest.param("spacy", marks=needs_spacy)]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("expression", "phrase", "head"),
    [
        ("the man in the red shirt on the left", "the man in the red shirt", "man"),
        ("the square above the cross", "the square", "square"),
        ("the small red one left of the large ring", "the small red one", "one"),
        ("the leftmost blue circle", "the leftmost blue circle", "circle"),
        ("a goose walking to the left", "a goose", "goose"),
        ("the woman with a hat behind the car", "the woman with a hat", "woman"),
        ("the dog that is lying on the sofa", "the dog", "dog"),
        ("a glass of water on the table", "a glass of water", "glass"),
        ("the black and white cat", "the black and white cat", "cat"),
        ("the man in the car", "the man", "man"),
        ("the man in the blue jacket next to the woman in the red dress", "the man in the blue jacket", "man"),
        ("The Dog, on the left!", "The Dog", "Dog"),
        ("far right", "far right", "right"),
        ("left", "left", "left"),
    ],
)
def test_the_phrase_is_the_head_with_its_attributes(parser: Source, expression: str, phrase: str, head: str) -> None:
    found = noun_phrase(expression, parser=parser)
    assert (found.text, found.head, found.source) == (phrase, head, parser)


@pytest.mark.parametrize("parser", PARSERS)
def test_attributes_behind_a_mere_place_are_kept_and_leave_a_gap(parser: Source) -> None:
    found = noun_phrase("the man on the left in the red shirt", parser=parser)
    assert found.text == "the man in the red shirt"
    assert found.words == (0, 1, 5, 6, 7, 8)


@pytest.mark.parametrize("parser", PARSERS)
def test_words_are_those_of_the_prompt_whatever_magnets_follow(parser: Source) -> None:
    found = noun_phrase("the  man's red hat, on the left", parser=parser)
    words = make_prompt("the  man's red hat, on the left", [".", "a"]).words
    assert " ".join(words[i].text for i in found.words) == found.text == "the man's red hat"


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("expression", ["?!", "...", "-", "🔴", "of", "and and", "1", "a" * 300])
def test_an_expression_without_a_noun_is_its_own_phrase(parser: Source, expression: str) -> None:
    found = noun_phrase(expression, parser=parser)
    assert found.text == expression and found.head


@pytest.mark.parametrize("parser", PARSERS)
@given(expression=st.text(max_size=40) | st.lists(
    st.sampled_from("the man left in red of with , wearing that is and on dog standing one near top whose".split()),
    max_size=12).map(" ".join))  # fmt: skip
def test_any_text_gives_words_of_its_own_in_order(parser: Source, expression: str) -> None:
    try:
        words = make_prompt(expression).words
    except ValueError:
        return
    found = noun_phrase(expression, parser=parser)
    assert found.words and list(found.words) == sorted(set(found.words))
    assert found.text == " ".join(words[i].text for i in found.words)
    assert found.head in [words[i].text for i in found.words]


@needs_spacy
def test_spacy_is_taken_where_it_is_installed() -> None:
    assert noun_phrase("the red circle").source == "spacy"


class TestWithoutSpacy:
    @pytest.fixture(autouse=True)
    def no_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parsed, "MODELS", ("a_model_that_nobody_has",))

    def test_rules_take_its_place(self) -> None:
        expected = NounPhrase("the red circle", "circle", (0, 1, 2), "rules")
        assert noun_phrase("the red circle on the left") == expected

    def test_asking_for_it_says_what_to_install(self) -> None:
        with pytest.raises(NoSpacyError, match=r"pip install 'refam-analysis\[nlp\]', or ask for parser='rules'"):
            noun_phrase("the red circle", parser="spacy")


@pytest.mark.parametrize("parser", ["auto", "rules"])
def test_an_empty_expression_is_refused(parser: str) -> None:
    with pytest.raises(EmptyExpressionError):
        noun_phrase("  ", parser=parser)


def test_an_unknown_parser_is_refused() -> None:
    with pytest.raises(RefamError, match="'spaCy'.*'auto', 'spacy', 'rules'"):
        noun_phrase("the red circle", parser="spaCy")  # type: ignore[arg-type]


def test_every_source_is_a_parser_that_can_be_asked_for() -> None:
    assert set(get_args(Source)) == {"rules", "spacy"}


@pytest.mark.parametrize(
    ("word", "tag"),
    [("striped", "adjective"), ("tattooed", "participle"), ("walking", "participle"), ("building", "noun"),
     ("walks", "verb"), ("walk", "noun"), ("left-hand", "place"), ("red-haired", "adjective"), ("t-shirt", "noun"),
     ("greenish", "adjective"), ("17", "number"), ("2nd", "number"), (",", "mark"), ("zebra", "noun")],
)  # fmt: skip
def test_words_are_tagged_by_lists_and_endings(word: str, tag: str) -> None:
    assert tag_of(word) == tag
