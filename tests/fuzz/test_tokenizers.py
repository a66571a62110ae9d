"""Any text, through every class of tokenizer that a family uses, the embedded model's among them: words keep tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from families.chat import tiny_pixtral_processor, tiny_qwen_tokenizer
from families.hunyuan_video import tiny_llama_tokenizer
from families.parts import tiny_clip_tokenizer, tiny_t5_tokenizer
from families.sana import tiny_gemma_tokenizer
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from fuzz.mutating import examples, texts
from refam_analysis.prompts import Prompt, PromptError, PromptTooLongError, Token, align_tokens, make_prompt
from refam_analysis.weights import embedded_folder


def shipped(folder: str) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(embedded_folder("embedded-dit") / folder)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "t5": tiny_t5_tokenizer,
    "clip": tiny_clip_tokenizer,
    "gemma": tiny_gemma_tokenizer,
    "gemma of letters": lambda: tiny_gemma_tokenizer(joins=False),
    "llama": tiny_llama_tokenizer,
    "qwen": tiny_qwen_tokenizer,
    "mistral": lambda: tiny_pixtral_processor().tokenizer,
    "embedded clip": lambda: shipped("tokenizer"),
    "embedded t5": lambda: shipped("tokenizer_2"),
}
made = cache(lambda name: TOKENIZERS[name]())

LENGTH = 400
NAMES = ("</s>", "<pad>", "<|endoftext|>", "<|im_end|>", "<bos>", "[INST]", "<|eot_id|>", "▁", "Ġ", "</w>", "<0x0A>")
"""What tokenizers call their special tokens, and the marks that they write for a space."""
ODD = ("the", "Red", "İ", "ß", "ﬃ", "e\u0301", "👩\u200d👩\u200d👧", "שלום", "中文", "'s")
words = texts | st.sampled_from(NAMES) | st.sampled_from(ODD)
expressions = st.lists(words, min_size=1, max_size=6).map(" ".join)
templates = st.tuples(
    st.sampled_from(["", "a large one: ", "<|im_start|>user\n", "¿é"]), st.sampled_from(["", "! on", "\n"])
)


def prompt_of(expression: str, magnets: list[str]) -> Prompt | None:
    """The prompt, or None where it is refused in a sentence."""
    try:
        return make_prompt(expression, magnets)
    except PromptError as error:
        assert str(error).endswith(".")
        return None


def own(tokens: tuple[Token, ...]) -> list[Token]:
    return [token for token in tokens if token.word_index is not None]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(expression=expressions, magnets=st.lists(words, max_size=3), template=templates, lower_case=st.booleans())
@example(expression="\ud800", magnets=[], template=("", ""), lower_case=False)  # half a character
@examples(25)
def test_alignment_holds_for_any_text(
    name: str, expression: str, magnets: list[str], template: tuple[str, str], lower_case: bool
) -> None:
    prompt = prompt_of(expression, magnets)
    if prompt is None:
        return
    tokenizer = made(name)
    tokens = align_tokens(prompt, tokenizer, length=LENGTH, encoder="e", template=template, lower_case=lower_case)
    assert [token.index for token in tokens] == list(range(LENGTH))
    numbers = [token.word_index or 0 for token in own(tokens)]
    assert numbers == sorted(numbers)
    for token in own(tokens):
        word = prompt.words[token.word_index or 0]
        assert token.word == word.text and (token.kind == "magnet") == word.is_magnet
    assert all(token.word == "" and token.kind in ("special", "padding", "template") for token in tokens
               if token.word_index is None)  # fmt: skip
    # What is no padding is exactly what the tokenizer makes of the text, and padding is in one piece at one end.
    text = prompt.text.lower() if lower_case else prompt.text
    ids = tokenizer(template[0] + text + template[1])["input_ids"]
    filled = [token.index for token in tokens if token.kind != "padding"]
    assert len(filled) == len(ids) and filled == list(range(filled[0], filled[0] + len(ids)))
    assert filled[0] == (LENGTH - len(ids) if tokenizer.padding_side == "left" else 0)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(expression=expressions, magnets=st.lists(words, max_size=3))
@examples(15)
def test_any_text_fits_into_its_own_length_and_is_never_cut(name: str, expression: str, magnets: list[str]) -> None:
    prompt = prompt_of(expression, magnets)
    if prompt is None:
        return
    needed = len(made(name)(prompt.text)["input_ids"])
    assert not any(token.kind == "padding" for token in align_tokens(prompt, made(name), length=needed, encoder="e"))
    with pytest.raises(PromptTooLongError) as error:
        align_tokens(prompt, made(name), length=needed - 1, encoder="e")
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("name", TOKENIZERS)
@given(letters=st.text(st.sampled_from("abcxyz"), min_size=1, max_size=7), before=st.booleans())
@examples(10)
def test_a_word_of_plain_letters_has_tokens_that_spell_it(name: str, letters: str, before: bool) -> None:
    prompt = make_prompt(f"the {letters} ring" if before else letters, ["."])
    tokens = align_tokens(prompt, made(name), length=LENGTH, encoder="e")
    pieces = [token.text for token in own(tokens) if token.word_index == int(before)]
    assert "".join(piece for piece in pieces if piece not in ("▁", "Ġ")) == letters
