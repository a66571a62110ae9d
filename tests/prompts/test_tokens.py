"""Tokens: every position of the text segment mapped to the right word and kind, whatever the tokenizer does."""

from collections.abc import Callable

import pytest
from diffusers import FluxPipeline
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from refam_analysis.prompts import (
    Prompt,
    PromptError,
    PromptTooLongError,
    SlowTokenizerError,
    Token,
    align_tokens,
    make_prompt,
)

Tokenizers = dict[str, PreTrainedTokenizerBase]
TOKENIZERS = ["t5", "clip", "bert", "bytes"]


def bert_like() -> PreTrainedTokenizerFast:
    """Lower-cases, strips accents, decomposes ligatures, drops control characters; a token a character."""
    letters = {letter: i + 4 for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz.,'-")}
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, **letters}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.BertNormalizer()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def byte_level() -> PreTrainedTokenizerFast:
    """A token a byte, spaces included, no special token but padding, which goes to the left."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate([*alphabet, "<pad>"])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", padding_side="left")


@pytest.fixture(scope="session")
def tokenizers(tiny_flux_pipeline: Callable[..., FluxPipeline]) -> Tokenizers:
    pipeline = tiny_flux_pipeline()
    return {"t5": pipeline.tokenizer_2, "clip": pipeline.tokenizer, "bert": bert_like(), "bytes": byte_level()}


def kinds(tokens: tuple[Token, ...]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for token in tokens:
        found.setdefault(token.word, set()).add(token.kind)
    return found


def prompt_of(expression: str, magnets: list[str]) -> Prompt:
    try:
        return make_prompt(expression, magnets)
    except PromptError:
        assume(False)
        raise


def test_whole_words_keep_their_order_and_padding_fills_the_rest(tokenizers: Tokenizers) -> None:
    tokens = align_tokens(make_prompt("the red circle", ["."]), tokenizers["t5"], length=8, encoder="t5")
    assert [token.text for token in tokens] == ["the", "red", "circle", "▁", ".", "</s>", "<pad>", "<pad>"]
    assert [token.word_index for token in tokens] == [0, 1, 2, 3, 3, None, None, None]
    expected = ["stop", "content", "content", "magnet", "magnet", "special", "padding", "padding"]
    assert [token.kind for token in tokens] == expected
    assert [token.index for token in tokens] == list(range(8))
    assert {token.encoder for token in tokens} == {"t5"}


def test_end_token_and_padding_are_told_apart_where_they_are_the_same_token(tokenizers: Tokenizers) -> None:
    tokens = align_tokens(make_prompt("ring"), tokenizers["clip"], length=9, encoder="clip")
    assert [token.kind for token in tokens] == ["special", *["content"] * 4, "special", *["padding"] * 3]
    assert tokens[5].text == tokens[6].text == "<|endoftext|>"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_pieces_know_their_whole_word(name: str, tokenizers: Tokenizers) -> None:
    tokens = align_tokens(make_prompt("the zebra runs"), tokenizers[name], length=40, encoder=name)
    pieces = [token for token in tokens if token.word == "zebra"]
    assert len(pieces) >= 5
    assert {token.word_index for token in pieces} == {1}
    assert "".join(token.text for token in pieces if token.text != "▁") in ("zebra", "Ġzebra")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_magnet_that_the_tokenizer_splits_is_one_magnet_of_several_tokens(name: str, tokenizers: Tokenizers) -> None:
    prompt = make_prompt("the ring", ["zebra", "zebra"])
    tokens = align_tokens(prompt, tokenizers[name], length=40, encoder=name)
    pieces = {index: [token for token in tokens if token.word_index == index] for index in (2, 3)}
    for magnet in pieces.values():
        assert len(magnet) >= 5
        assert {(token.kind, token.word) for token in magnet} == {("magnet", "zebra")}
        assert [token.index for token in magnet] == list(range(magnet[0].index, magnet[0].index + len(magnet)))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_stop_words_are_whole_words_and_shown_with_their_tokens(name: str, tokenizers: Tokenizers) -> None:
    """ "with" is a piece of "withhold" for some tokenizers, and no stop word there."""
    tokens = align_tokens(make_prompt("the withhold with a"), tokenizers[name], length=40, encoder=name)
    shown = {index: {t.kind for t in tokens if t.word_index == index} for index in range(4)}
    assert shown == {0: {"stop"}, 1: {"content"}, 2: {"stop"}, 3: {"stop"}}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_magnets_that_do_not_fit_are_named(name: str, tokenizers: Tokenizers) -> None:
    fits = len(tokenizers[name]("the ring")["input_ids"])
    with pytest.raises(PromptTooLongError, match=r"'red zebra' would be cut.*append fewer magnets"):
        align_tokens(make_prompt("the ring", ["red", "zebra"]), tokenizers[name], length=fits, encoder=name)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_first_kind_that_fits_is_given(name: str, tokenizers: Tokenizers) -> None:
    prompt = make_prompt("the ring, with red", ["with", ",", "blue", "zz"])
    tokens = align_tokens(prompt, tokenizers[name], length=80, encoder=name)
    by_word = {index: {t.kind for t in tokens if t.word_index == index} for index in range(len(prompt.words))}
    stop, content, magnet = {"stop"}, {"content"}, {"magnet"}
    expected = [stop, content, {"punctuation"}, stop, content, magnet, magnet, magnet, magnet]
    assert [by_word[index] for index in range(len(prompt.words))] == expected


def test_an_unknown_character_belongs_to_its_word(tokenizers: Tokenizers) -> None:
    tokens = align_tokens(make_prompt("the é🔴x ring"), tokenizers["t5"], length=16, encoder="t5")
    assert kinds(tokens)["é🔴x"] == {"content"}
    assert "é🔴" in [token.text for token in tokens]


def test_characters_that_normalising_expands_stay_with_their_word(tokenizers: Tokenizers) -> None:
    tokens = align_tokens(make_prompt("the ﬃ Ç ring"), tokenizers["bert"], length=16, encoder="bert")
    words = [token.word for token in tokens if token.word]
    assert words == ["the"] * 3 + ["ﬃ"] * 3 + ["Ç"] + ["ring"] * 4


def test_a_token_over_two_words_belongs_to_the_one_it_shares_most_with_or_to_the_first() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "a.": 1, "b...": 2}, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")
    tokens = align_tokens(make_prompt("a. b..."), fast, length=2, encoder="words")
    assert [(token.text, token.word) for token in tokens] == [("a.", "a"), ("b...", "...")]


def test_a_special_token_typed_by_the_user_is_special(tokenizers: Tokenizers) -> None:
    tokens = align_tokens(make_prompt("the ring </s>"), tokenizers["t5"], length=9, encoder="t5")
    typed = [token for token in tokens if token.text == "</s>"]
    assert [token.kind for token in typed] == ["special", "special"]
    assert {token.word for token in typed} == {""}


@pytest.mark.parametrize("name", TOKENIZERS)
@example(expression="the\u200bred \u0301 ring", magnets=["."])
@example(expression="𝐭𝐡𝐞 ŉ … ½ ㎏", magnets=["…"])
@given(expression=st.text(min_size=1, max_size=25), magnets=st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_alignment_holds_for_any_text(name: str, tokenizers: Tokenizers, expression: str, magnets: list[str]) -> None:
    prompt = prompt_of(expression, magnets)
    tokenizer = tokenizers[name]
    tokens = align_tokens(prompt, tokenizer, length=300, encoder=name)

    assert len(tokens) == 300
    own = [token for token in tokens if token.word_index is not None]
    assert [t.word_index for t in own] == sorted(t.word_index for t in own if t.word_index is not None)
    for token in own:
        word = prompt.words[token.word_index or 0]
        assert token.word == word.text
        assert (token.kind == "magnet") == word.is_magnet
    attended = tokenizer(prompt.text, padding="max_length", max_length=300)["attention_mask"]
    assert [token.kind == "padding" for token in tokens] == [not bit for bit in attended]


@pytest.mark.parametrize("name", ["t5", "clip", "bert"])
@given(chunks=st.lists(st.text(alphabet="abé.,Z-'9", min_size=1, max_size=6), min_size=1, max_size=6))
def test_alignment_equals_tokenizing_each_chunk_alone(name: str, tokenizers: Tokenizers, chunks: list[str]) -> None:
    """These tokenizers never look across a space, so each chunk's number of tokens is known without offsets."""
    alone = [len(tokenizers[name](chunk, add_special_tokens=False)["input_ids"]) for chunk in chunks]
    prompt = make_prompt(" ".join(chunks))
    starts = [sum(len(chunk) + 1 for chunk in chunks[:i]) for i in range(len(chunks) + 1)]
    tokens = align_tokens(prompt, tokenizers[name], length=100, encoder=name)
    places = [prompt.words[t.word_index].start for t in tokens if t.word_index is not None]
    found = [sum(starts[i] <= place < starts[i + 1] for place in places) for i in range(len(chunks))]
    assert found == alone


def test_too_long_a_prompt_names_the_words_that_would_be_cut(tokenizers: Tokenizers) -> None:
    prompt = make_prompt("the red circle on the left", ["with", "zebra"])
    with pytest.raises(PromptTooLongError, match=r"more than 6 tokens of the t5 encoder: 'left with zebra' would"):
        align_tokens(prompt, tokenizers["t5"], length=6, encoder="t5")


def test_a_word_of_which_only_the_last_piece_is_cut_is_named(tokenizers: Tokenizers) -> None:
    with pytest.raises(PromptTooLongError, match="'zebra' would be cut"):
        align_tokens(make_prompt("the zebra"), tokenizers["t5"], length=7, encoder="t5")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_prompt_that_just_fits_is_accepted(name: str, tokenizers: Tokenizers) -> None:
    prompt = make_prompt("the zebra on the left")
    needed = len(tokenizers[name](prompt.text)["input_ids"])
    assert all(t.kind != "padding" for t in align_tokens(prompt, tokenizers[name], length=needed, encoder=name))
    with pytest.raises(PromptTooLongError):
        align_tokens(prompt, tokenizers[name], length=needed - 1, encoder=name)


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(SlowTokenizerError, match="Slow reports no character offsets"):
        align_tokens(make_prompt("ring"), Slow(), length=8, encoder="slow")


# --- text around the prompt, and lower case ---


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_templates_tokens_are_told_from_the_prompts(name: str, tokenizers: Tokenizers) -> None:
    prompt, template = make_prompt("the red ring", ["a"]), ("a large one: ", ". on the left")
    tokenizer = tokenizers[name]
    tokens = align_tokens(prompt, tokenizer, length=80, encoder=name, template=template)
    ids = tokenizer(template[0] + prompt.text + template[1], padding="max_length", max_length=80)["input_ids"]
    assert [token.index for token in tokens] == list(range(80))
    own = [token for token in tokens if token.word_index is not None]
    alone = tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
    assert [ids[token.index] for token in own][-len(alone) + 1 :] == alone[1:]  # the first may have taken the space
    assert {token.word_index: token.word for token in own} == {0: "the", 1: "red", 2: "ring", 3: "a"}
    around = [token for token in tokens if token.kind == "template"]
    assert {token.word for token in around} == {""} and {token.word_index for token in around} == {None}
    assert {token.index < own[0].index for token in around} == {True, False}


def test_a_prompt_too_long_for_its_template_names_the_words_and_the_room_that_is_left(tokenizers: Tokenizers) -> None:
    prompt = make_prompt("the red circle")
    with pytest.raises(PromptTooLongError, match="more than 3 tokens of the t5 encoder: 'circle' would be cut"):
        align_tokens(prompt, tokenizers["t5"], length=6, encoder="t5", template=("a large one ", ""))
    assert len(align_tokens(prompt, tokenizers["t5"], length=7, encoder="t5", template=("a large one ", ""))) == 7


def test_a_template_longer_than_the_segment_leaves_no_room(tokenizers: Tokenizers) -> None:
    with pytest.raises(PromptTooLongError, match="more than 0 tokens of the t5 encoder: 'the ring' would be cut"):
        align_tokens(make_prompt("the ring"), tokenizers["t5"], length=2, encoder="t5", template=("a large one ", ""))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_lower_case_keeps_words_as_they_were_written(name: str, tokenizers: Tokenizers) -> None:
    """The lower case of the first word has one character more than the word."""
    prompt = make_prompt("İX The RING", ["A"])
    tokens = align_tokens(prompt, tokenizers[name], length=60, encoder=name, lower_case=True)
    own = [token for token in tokens if token.word_index is not None]
    lowered = tokenizers[name](prompt.text.lower(), add_special_tokens=False)["input_ids"]
    assert len(own) == len(lowered)
    assert list(dict.fromkeys(token.word for token in own)) == ["İX", "The", "RING", "A"]
    ring = "".join(token.text for token in own if token.word == "RING").replace("▁", "")
    assert ring in ("ring", "Ġring")
    assert own[-1].kind == "magnet"


def test_special_tokens_that_a_template_writes_are_special_and_are_not_added_again(tokenizers: Tokenizers) -> None:
    prompt, template = make_prompt("the ring"), ("</s> a ", " on</s>")
    tokens = align_tokens(prompt, tokenizers["t5"], length=8, encoder="t5", template=template, add_special_tokens=False)
    expected = ["special", "template", "stop", "content", "template", "special", "padding", "padding"]
    assert [token.kind for token in tokens] == expected
    with_its_own = align_tokens(prompt, tokenizers["t5"], length=8, encoder="t5", template=template)
    assert [token.kind for token in with_its_own][5:] == ["special", "special", "padding"]


def test_padding_to_the_left_moves_the_template_and_the_prompt(tokenizers: Tokenizers) -> None:
    tokens = align_tokens(make_prompt("a b"), tokenizers["bytes"], length=9, encoder="bytes", template=("xx", "y"))
    assert [token.kind for token in tokens] == [
        *["padding"] * 3, "template", "template", "stop", "content", "content", "template",
    ]  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    "template", [("the ", " ring"), ("the ", ""), ("bl", "ue")], ids=["both", "before", "one-word"]
)
def test_an_empty_prompt_is_the_template_alone(name: str, tokenizers: Tokenizers, template: tuple[str, str]) -> None:
    tokens = align_tokens(Prompt(""), tokenizers[name], length=20, encoder=name, template=template)
    assert {token.kind for token in tokens} - {"special"} == {"template", "padding"}
    alone = tokenizers[name]("".join(template), add_special_tokens=False)["input_ids"]
    assert sum(token.kind == "template" for token in tokens) == len(alone)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(expression=st.text(min_size=1, max_size=25), before=st.sampled_from(["", "a large one: ", "(", "¿é"]))
def test_alignment_holds_for_any_text_in_a_template(
    name: str, tokenizers: Tokenizers, expression: str, before: str
) -> None:
    prompt = prompt_of(expression, ["."])
    tokens = align_tokens(prompt, tokenizers[name], length=300, encoder=name, template=(before, "! on"))
    own = [token.index for token in tokens if token.word_index is not None]
    around = [token.index for token in tokens if token.kind == "template"]
    assert [tokens[i].word_index for i in own] == sorted(tokens[i].word_index or 0 for i in own)
    assert all(tokens[i].word == prompt.words[tokens[i].word_index or 0].text for i in own)
    assert not any(own[0] < index < own[-1] for index in around)
    assert any(index > own[-1] for index in around)
    if before.strip():
        assert any(index < own[0] for index in around)
