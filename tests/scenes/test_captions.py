"""Captions are true of their scenes, as varied as they should be, and within the words that the tokenizer knows."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from transformers import T5Tokenizer

from refam_analysis.scenes import COLOURS, SHAPES, SIZES, Scenes, describe, sample_scene
from refam_analysis.weights import embedded_folder

PHRASE = re.compile(rf"(?:({'|'.join(SIZES)}) )?(?:({'|'.join(COLOURS)}) )?({'|'.join(SHAPES)}|one)\b")
PLACE = re.compile(r"\b(left|right|top|bottom|middle)\b")
SCENES = Scenes("train", length=1000, kinds=())


@given(seed=st.integers(0, 2**32 - 1))
def test_every_object_named_in_a_caption_is_in_the_scene(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    for size, colour, shape in PHRASE.findall(describe(scene, rng, empty=0.0)):
        assert any(
            (not size or o.size == size) and (not colour or o.colour == colour) and shape in (o.shape, "one")
            for o in scene.objects
        )


def test_captions_name_one_some_or_all_objects_with_and_without_place() -> None:
    rng = np.random.default_rng(0)
    captions = [describe(SCENES.draw(i)[0], rng) for i in range(600)]
    assert 0.05 < np.mean([not c for c in captions]) < 0.15
    named = {len(PHRASE.findall(c)) for c in captions if c}
    assert {1, 2, 3} <= named
    place = np.mean([bool(PLACE.search(c)) for c in captions])
    assert 0.3 < place < 0.8


@given(seed=st.integers(0, 2**32 - 1))
def test_a_complete_caption_leaves_no_object_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    named = PHRASE.findall(describe(scene, rng, empty=0.0, complete=1.0))
    looks = [(item.colour, item.shape) for item in scene.objects]
    assert sorted((colour, shape) for _, colour, shape in named) == sorted(looks)


def test_complete_captions_nearly_always_say_where() -> None:
    rng = np.random.default_rng(0)
    scenes = [SCENES.draw(i)[0] for i in range(200)]
    places = np.mean([bool(PLACE.search(describe(scene, rng, empty=0.0, complete=1.0))) for scene in scenes])
    assert places > 0.9


def test_every_word_of_a_caption_is_one_token_of_the_embedded_model() -> None:
    tokenizer = T5Tokenizer.from_pretrained(embedded_folder("embedded-dit") / "tokenizer_2")
    rng = np.random.default_rng(1)
    words = {word for i in range(600) for word in describe(SCENES.draw(i)[0], rng).split()}
    assert {word: len(tokenizer.tokenize(word)) for word in words} == dict.fromkeys(words, 1)
