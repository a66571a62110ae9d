"""The word lists: clean, and the forms of their verbs."""

import pytest

from refam_analysis.prompts.lexicon import forms, lexicon


@pytest.mark.parametrize("section", ["clothing", "place_words", "motion_verbs", "adjectives", "viewer"])
def test_words_are_lower_case_and_single(section: str) -> None:
    assert lexicon(section)
    assert all(word == word.strip().lower() and " " not in word for word in lexicon(section))


def test_an_unknown_section_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        lexicon("weather")


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("walk", "walk walks walking walked"),
        ("move", "move moves moving moved"),
        ("run", "run runs running ran"),
        ("fly", "fly flies flying flew flown"),
        ("pass", "pass passes passing passed"),
        ("jog", "jog jogs jogging jogged"),
    ],
)
def test_verbs_have_all_their_forms(base: str, expected: str) -> None:
    assert base in lexicon("motion_verbs")
    assert set(expected.split()) <= forms("motion_verbs")


def test_nouns_are_no_forms() -> None:
    assert forms("motion_verbs").isdisjoint({"left", "right", "ring", "wing", "red"})
