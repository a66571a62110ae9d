"""Captions of rich scenes are true, short enough, within their vocabulary, and free of words that are held out."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from refam_analysis.scenes import (
    COLOURS,
    HELD_OUT_SYNONYMS,
    MATERIALS,
    RICH_SHAPES,
    RICH_SIZES,
    SYNONYMS,
    SceneOptions,
    Scenes,
    caption_words,
    describe_rich,
    reword,
    sample_scene,
)
from refam_analysis.scenes.rich_captions import MOST_WORDS

OPTIONS = SceneOptions(objects=(1, 6), occlusion=0.4, style="rich")
OWN = {synonym: word for word, synonyms in SYNONYMS.items() for synonym in synonyms}
PHRASE = re.compile(
    rf"\b(?:({'|'.join(RICH_SIZES)}) )?(?:({'|'.join(MATERIALS)}) )?(?:({'|'.join(COLOURS)}) )?"
    rf"({'|'.join(RICH_SHAPES)})\b"
)


def in_own_words(caption: str) -> str:
    return " ".join(OWN.get(word, word) for word in caption.split())


def captions(number: int) -> list[str]:
    scenes, rng = Scenes("train", length=number, options=OPTIONS, kinds=()), np.random.default_rng(0)
    return [describe_rich(scenes.draw(i)[0], rng) for i in range(number)]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_every_object_named_in_a_caption_is_in_the_scene(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, OPTIONS)
    for size, material, colour, shape in PHRASE.findall(in_own_words(describe_rich(scene, rng, empty=0.0))):
        assert any(
            all(
                not word or word == own
                for word, own in ((size, o.size), (material, o.material), (colour, o.colour), (shape, o.shape))
            )
            for o in scene.objects
        )


SIDES = {"left": ("x", -1), "right": ("x", 1), "above": ("y", -1), "below": ("y", 1)}
RELATED = re.compile(
    rf"{PHRASE.pattern} (?:that is |which is |is )?(left|right|above|below)(?: of)? (?:a|the|an) {PHRASE.pattern}"
)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_a_relation_is_true_of_some_pair_of_objects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, OPTIONS)
    for *one, word, size, material, colour, shape in RELATED.findall(describe_rich(scene, rng, empty=0.0, synonyms=0)):
        axis, sign = SIDES[word]
        first, second = (
            [o for o in scene.objects if all(not w or w in (o.size, o.material, o.colour, o.shape) for w in words)]
            for words in (one, (size, material, colour, shape))
        )
        assert any(sign * (getattr(a, axis) - getattr(b, axis)) > 0 for a in first for b in second)


def test_captions_are_as_varied_as_they_should_be() -> None:
    drawn = captions(1500)
    assert 0.07 < np.mean([not c for c in drawn]) < 0.13
    said = [in_own_words(c) for c in drawn if c]
    assert {1, 2, 3} <= {len(PHRASE.findall(c)) for c in said}
    place = np.mean([bool(re.search(r"\b(left|right|top|upper|bottom|lower|middle|centre)\b", c)) for c in said])
    assert place > 0.6
    assert np.mean([bool(RELATED.search(c)) for c in said]) > 0.03
    synonyms = np.mean([bool(OWN.keys() & set(c.split())) for c in drawn])
    assert 0.3 < synonyms < 0.9


PLACE = re.compile(r"\b(left|right|top|upper|bottom|lower|middle|centre)\b")


def test_complete_captions_leave_nothing_out() -> None:
    options = SceneOptions(objects=(1, 3), style="rich")
    scenes, rng = Scenes("train", length=300, options=options, kinds=()), np.random.default_rng(0)
    named, placed, objects = 0, 0, 0
    for scene in (scenes.draw(i)[0] for i in range(300)):
        caption = describe_rich(scene, rng, empty=0.0, complete=1.0)
        said = [(colour, shape) for _, _, colour, shape in PHRASE.findall(in_own_words(caption))]
        assert len(caption.split()) <= MOST_WORDS
        assert set(said) <= {(o.colour, o.shape) for o in scene.objects}
        objects += len(scene.objects)
        named += len(said)
        placed += len(PLACE.findall(caption))
    assert named > 0.9 * objects
    assert placed > 0.6 * objects


def test_captions_are_the_same_as_ever_where_none_need_be_complete() -> None:
    scene = sample_scene(np.random.default_rng(4), OPTIONS)
    first, second = (np.random.default_rng(8) for _ in range(2))
    assert describe_rich(scene, first, complete=0.0) == describe_rich(scene, second)


def test_captions_keep_to_their_length_and_words() -> None:
    drawn = captions(1500)
    assert max(len(c.split()) for c in drawn) <= MOST_WORDS
    words = {word for c in drawn for word in c.split()}
    assert words <= set(caption_words())
    assert not words & set(HELD_OUT_SYNONYMS.values())


def test_held_out_synonyms_are_no_words_of_any_caption() -> None:
    assert not set(HELD_OUT_SYNONYMS.values()) & set(caption_words())
    assert set(HELD_OUT_SYNONYMS) >= set(SYNONYMS)


def test_rewording_replaces_what_it_is_asked_to() -> None:
    text = "the small red ring left of the heart"
    assert reword(text, held_out=False) == "the little crimson hoop left of the heart"
    assert reword(text, held_out=True) == "the miniature scarlet donut left of the valentine"
    assert reword(text, held_out=True, among=COLOURS) == "the small scarlet ring left of the heart"
