"""Any English text becomes tokens, and capitals mean what small letters mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer, T5EncoderModel, T5Tokenizer

from refam_analysis.prompts import DEFAULT_MAGNETS, STOP_WORDS
from refam_analysis.training.data import strew
from refam_analysis.training.text import (
    empty_words,
    make_clip_tokenizer,
    make_t5_encoder,
    scene_words,
    share_case,
)
from refam_analysis.weights import embedded_folder


@pytest.fixture(scope="module")
def t5() -> T5Tokenizer:
    return T5Tokenizer.from_pretrained(embedded_folder("embedded-dit") / "tokenizer_2")


@pytest.fixture(scope="module")
def clip() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(embedded_folder("embedded-dit") / "tokenizer")


@given(text=st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_every_printable_ascii_text_has_tokens_without_unknowns(t5: T5Tokenizer, text: str) -> None:
    assert t5.unk_token_id not in t5(text).input_ids


@given(text=st.text(max_size=40))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_the_pooled_encoder_finds_the_end_of_every_text(clip: CLIPTokenizer, text: str) -> None:
    ids = clip(text).input_ids
    # An unknown byte would become the end token, and the pooled vector would be read in the middle of the text.
    assert ids.index(clip.eos_token_id) == len(ids) - 1


@pytest.mark.parametrize("word", ["red", "circle", "leftmost", "background", "with"])
def test_capitals_share_the_embedding(t5: T5Tokenizer, word: str) -> None:
    encoder = make_t5_encoder(t5)
    share_case(encoder, t5)
    forms = (word, word.capitalize(), word.upper())
    states = [encoder(t5(form, return_tensors="pt").input_ids)[0] for form in forms]
    torch.testing.assert_close(states[0], states[1])
    torch.testing.assert_close(states[0], states[2])


def test_the_shipped_encoder_reads_capitals_as_small_letters(t5: T5Tokenizer) -> None:
    encoder = T5EncoderModel.from_pretrained(embedded_folder("embedded-dit") / "text_encoder_2").float()
    with torch.inference_mode():
        texts = ("the red ring", "The RED Ring")
        small, large = (encoder(t5(text, return_tensors="pt").input_ids)[0] for text in texts)
    torch.testing.assert_close(small, large)


def test_strewn_words_leave_the_caption_in_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        strewn = strew("a red ring", ["though"], rng, probability=1.0).split()
        assert [word for word in strewn if word != "though"] == ["a", "red", "ring"]
        assert 1 <= strewn.count("though") <= 2


def test_empty_captions_stay_empty() -> None:
    assert strew("", ["though"], np.random.default_rng(0), probability=1.0) == ""


def test_scene_words_are_whole_tokens_of_a_newly_made_tokenizer() -> None:
    made = make_clip_tokenizer()
    words = ["the", "small", "red", "ring", "on", "the", "left", "."]
    assert made.tokenize("The small red ring on the left.") == [f"{word}</w>" for word in words]


@pytest.mark.parametrize("magnet", DEFAULT_MAGNETS)
def test_every_default_magnet_is_one_token(t5: T5Tokenizer, magnet: str) -> None:
    assert len(t5.tokenize(magnet)) == 1


def test_empty_words_name_nothing_in_a_scene() -> None:
    assert not set(empty_words()) & (set(scene_words()) - STOP_WORDS)
    assert {"black", "the", "crimson"} <= set(empty_words())
