from __future__ import annotations

import random
from typing import Any

import pytest
from references.node import ask_node

import refam_analysis as ra
from refam_analysis.models import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS, PromptError, PromptTooLongError, make_prompt
from refam_analysis.scenes import Scenes
from refam_analysis.widgets.browser.words import word_tables

NASTY = (
    "🔴 the réd </s> a▁b ▁x 🔴🔴a",
    "the Straße's <|endoftext|> ΑΣ",
    "<|STARTOFTEXT|> Ⅷ ² ½ ٣ 一二三",
    "İstanbul ıI ſ K",
    "e\u0301 é \u1e9b\u0323 \ufb01 ﬃ",
    "a\u00a0b\u2003c\u3000d\u200be\ufefff\x85g\x1ch",
    "''s 't''re don't DON’T rock'n'roll",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ☂️ 1️⃣",
    "한국어 각 ㄱㅏㄱ",
    "नमस्ते क्षि",
    "مرحبا بالعالم",
    "שָׁלוֹם",
    "ไทยไทย",
    "日本語の文",
    "Ω Ω Å Å",
    "\u0300leading mark",
    "zero\u200dwidth\u200cjoin",
    "▁",
    "▁▁ ▁a▁",
    "<unk><pad></s>",
    "<unk> the</s>red",
    "<|endoftext|><|startoftext|>x",
    "\x00\x01null",
    "tab\tnew\nline\r\nend",
    "x" * 60,
    "☺☻☹ ☺",
    "\U0001d54f\U0001d550 math",
    "\U0010ffff \ue000",
    "!!!???...,,;;--__",
    "the (red) [circle] {on} <the> |left|",
    "$€£¥ + − × ÷ = ≠",
    "THE RED CIRCLE",
    "The Red circle , on the left .",
    "naïve façade œuvre",
    "ÅNGSTRÖM ŠČŘ ĐŁØ",
    "ǅ ǆ Ǆ",
    "ᾳ ᾼ ΐ",
    "ΌΣΟΣ ΣΣ",
    "ﷺ",
    "￾",
    "a\u0345\u0301",
    "\u1100\u1161\u11a8",
    "👍🏽 thumbs 👍",
)
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", ".,;:!?'’\"-_()[]{}<>|/\\@#%&*+=~^`$",
    "àâäçéèêëîïôöùûüÿñßøåæœžščřđł", "αβγδεζηθΑΒΓΔΣς", "абвгдАБВГД", "\u0300\u0301\u0308\u0323\u200d\u200b\ufeff",
    "你好世界日本語", "🔴🟢🔵⭐🙂👍🏽", "▁Ġ", "\u00a0\u2003\u3000\t\n",
)  # fmt: skip


def sentences(number: int) -> list[str]:
    """Hand-picked ones, expressions of scenes, and random ones of words, letters and signs."""
    rng = random.Random(7)
    found = list(NASTY)
    for sample in Scenes("train", length=60):
        found += [expression.text for expression in sample.expressions]
    words = " ".join(found[len(NASTY) :]).split()
    while len(found) < number:
        parts = []
        for _ in range(rng.randint(1, 7)):
            letters = rng.choice(ALPHABETS)
            made = "".join(rng.choice(letters) for _ in range(rng.randint(1, 8)))
            parts.append(rng.choice([rng.choice(words), made, made + rng.choice(words), rng.choice(words).title()]))
        found.append(rng.choice(["", " "]).join(parts) if rng.random() < 0.3 else " ".join(parts))
    return found[:number]


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return ra.load_model("embedded")


@pytest.fixture(scope="module")
def tables(model: DiffusionModel) -> dict[str, Any]:
    return word_tables(model)


SETUP = """
import { alignTokens, createClipTokenizer, createT5Tokenizer } from "./engine_tokenizer.js";
import { makePrompt } from "./engine_prompt.js";
const clip = createClipTokenizer(question.tables.clip);
const t5 = createT5Tokenizer(question.tables.t5);
const { stop, colours } = question.tables.lists;
const lists = { stop: new Set(stop), colours: new Set(colours) };
"""


def test_ids_are_those_of_python_on_a_thousand_sentences(model: DiffusionModel, tables: dict[str, Any]) -> None:
    texts = sentences(1000)
    code = "const reply = question.texts.map((text) => [clip.encode(text), t5.encode(text)]);"
    found = ask_node(SETUP + code, {"tables": tables, "texts": texts})
    tokenizers = (model.pipeline.tokenizer, model.pipeline.tokenizer_2)
    expected = [[tokenizer(text, verbose=False)["input_ids"] for tokenizer in tokenizers] for text in texts]
    assert [text for text, one, other in zip(texts, found, expected, strict=True) if one != other] == []


def test_padded_ids_are_those_that_the_text_encoders_are_given(model: DiffusionModel, tables: dict[str, Any]) -> None:
    texts = ["the red circle", "a star . a with"]
    code = "const reply = question.texts.map((text) => [clip, t5].map((one) => one.padded(one.encode(text))));"
    found = ask_node(SETUP + code, {"tables": tables, "texts": texts})
    lengths = ((model.pipeline.tokenizer, model.pipeline.tokenizer_max_length),
               (model.pipeline.tokenizer_2, model.text_length))  # fmt: skip
    assert found == [
        [one(text, padding="max_length", max_length=length)["input_ids"] for one, length in lengths] for text in texts
    ]


def test_words_kinds_and_refusals_are_those_of_python(model: DiffusionModel, tables: dict[str, Any]) -> None:
    texts = [text for text in sentences(400) if text.strip()]
    code = """
    const reply = question.texts.map((text) => {
      try {
        const prompt = makePrompt(text, question.magnets, lists);
        const tokens = alignTokens(prompt, { clip, t5 }, lists);
        return [prompt.text, tokens.map(({ text, word, kind, wordIndex }) => [text, word, kind, wordIndex])];
      } catch (error) {
        return error.message;
      }
    });"""
    found = ask_node(SETUP + code, {"tables": tables, "texts": texts, "magnets": DEFAULT_MAGNETS})
    wrong = []
    for text, reply in zip(texts, found, strict=True):
        try:
            prompt = make_prompt(text, DEFAULT_MAGNETS)
            aligned = [[token.text, token.word, token.kind, token.word_index] for token in model.tokens(prompt)]
            same = reply == [prompt.text, aligned]
        except PromptError:
            same = isinstance(reply, str)
        except PromptTooLongError as error:
            same = isinstance(reply, str) and reply.split("“")[0] == str(error).split("'")[0].split('"')[0]
        if not same:
            wrong.append(text)
    assert wrong == []


@pytest.mark.parametrize("typed", ["", "   ", "\u200b", "\ud83d", "\u00ad \u2003"], ids=ascii)
def test_what_python_refuses_is_refused_with_a_sentence(tables: dict[str, Any], typed: str) -> None:
    code = """
    let reply = null;
    try { makePrompt(question.typed, [], lists); } catch (error) { reply = [error.constructor.name, error.message]; }"""
    name, sentence = ask_node(SETUP + code, {"tables": tables, "typed": typed})
    with pytest.raises(ra.errors.RefamError):
        make_prompt(typed)
    assert name == "PromptError" and sentence.endswith(".")
