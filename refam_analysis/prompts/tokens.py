"""Tokens: what a tokenizer makes of a prompt, each piece aligned to its word and given a kind.

The alignment goes by character offsets, which a fast Hugging Face tokenizer reports with respect to the text that it
was given, so it holds for tokenizers that lower-case, normalise, split words or expand characters. Nothing is ever
cut: a prompt that does not fit is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from refam_analysis.errors import RefamError
from refam_analysis.prompts.magnets import Prompt, Word, is_punctuation
from refam_analysis.prompts.stop_words import is_stop_word

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

TokenKind = Literal["special", "padding", "template", "magnet", "punctuation", "stop", "content"]
"""The first that fits. ``template`` is for text that a model's chat template puts around the prompt."""

_BARE_MARKERS = frozenset(("▁", "Ġ"))
"""Pieces that stand for the space before a word and for nothing else."""


class PromptTooLongError(RefamError, ValueError):
    """The prompt with its magnets does not fit the text encoder."""

    def __init__(self, words: Sequence[str], fits: int, limit: int, encoder: str = "") -> None:
        cut = " ".join(words[fits:])
        whose = f" of the {encoder} encoder" if encoder else ""
        super().__init__(
            f"The prompt needs more than {limit} tokens{whose}: {cut!r} would be cut. "
            "Shorten the expression or append fewer magnets."
        )


class SlowTokenizerError(RefamError, TypeError):
    """The tokenizer does not say which characters its tokens came from."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The tokenizer {name} reports no character offsets, so its tokens cannot be aligned to words. "
            "Use the fast (tokenizers-backed) one of the same model."
        )


@dataclass(frozen=True)
class Token:
    """One position of the text segment.

    Attributes:
        index: position in the text segment, from 0.
        text: the piece, as the encoder reads it in the prompt; the token's own name for special tokens and padding.
        word: the whole word that the piece belongs to, as written; "" for special tokens, padding and template.
        kind: the first that fits of special, padding, template, magnet, punctuation, stop, content.
        encoder: name of the text encoder, such as "t5".
        word_index: which word of ``Prompt.words`` it belongs to, from 0; None where ``word`` is empty.
    """

    index: int
    text: str
    word: str
    kind: TokenKind
    encoder: str
    word_index: int | None


def align_tokens(
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int,
    encoder: str,
    template: tuple[str, str] = ("", ""),
    lower_case: bool = False,
    add_special_tokens: bool = True,
) -> tuple[Token, ...]:
    """What stands at every position of the text segment.

    A token belongs to the word with which it shares most characters (the first of them at a tie). One that shares
    none, such as a lone space marker, belongs to the word that follows it. One that lies in the template alone is
    ``template``, unless it is special.

    Args:
        prompt: the expression and its magnets.
        tokenizer: a fast Hugging Face tokenizer.
        length: positions of the text segment; what the prompt leaves is padding, on the tokenizer's padding side.
        encoder: name of the text encoder, copied into every token.
        template: what the model writes before and behind the prompt.
        lower_case: whether the model lower-cases the prompt before its tokenizer sees it.
        add_special_tokens: whether the tokenizer adds its own; not where the template has them already.

    Returns:
        Exactly ``length`` tokens, those of the template among them.

    Raises:
        PromptTooLongError: the prompt has more tokens; the message names the words that would be cut.
        SlowTokenizerError: the tokenizer reports no offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise SlowTokenizerError(type(tokenizer).__name__)
    text, words = _in_template(prompt, template, lower_case=lower_case)
    first, last = len(template[0]), len(text) - len(template[1])
    flags = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "verbose": False}
    flags["add_special_tokens"] = add_special_tokens
    unpadded = tokenizer(text, **flags)
    if len(unpadded["input_ids"]) > length:
        raise _too_long(words, unpadded, length, encoder, first=first, last=last)
    padded = tokenizer(text, padding="max_length", max_length=length, **flags)
    pieces = tokenizer.convert_ids_to_tokens(padded["input_ids"])
    rows = zip(pieces, padded["attention_mask"], padded["special_tokens_mask"], padded["offset_mapping"], strict=True)
    special = frozenset(str(name) for name in tokenizer.all_special_tokens)
    tokens = []
    for index, (piece, attended, added, (start, end)) in enumerate(rows):
        typed = text[start:end].strip()
        shown = piece if piece in _BARE_MARKERS or not typed else typed
        if not attended or added or (piece in special and typed == piece):
            tokens.append(Token(index, piece, "", "special" if attended else "padding", encoder, None))
        elif not words or _outside(start, end, first, last):
            tokens.append(Token(index, shown, "", "template", encoder, None))
        else:
            word_index = _word_at(words, start, end)
            word = words[word_index]
            tokens.append(Token(index, shown, word.text, _kind(typed, word), encoder, word_index))
    return tuple(tokens)


def _in_template(prompt: Prompt, template: tuple[str, str], *, lower_case: bool) -> tuple[str, tuple[Word, ...]]:
    """The text as the tokenizer is given it, and the prompt's words, as written, at their places in it."""
    before, behind = template
    text = prompt.text.lower() if lower_case else prompt.text
    # Lower case may be longer: that of "İ" has two characters.
    widths = (len(character.lower()) if lower_case else 1 for character in prompt.text)
    places = list(accumulate(widths, initial=len(before)))
    words = tuple(replace(word, start=places[word.start], end=places[word.end]) for word in prompt.words)
    return before + text + behind, words


def _outside(start: int, end: int, first: int, last: int) -> bool:
    """Whether a token's characters all lie before or behind the prompt's."""
    return (start < first and end <= first) or (end > last and start >= last)


def _kind(text: str, word: Word) -> TokenKind:
    if word.is_magnet:
        return "magnet"
    if is_punctuation(text or word.text):
        return "punctuation"
    return "stop" if is_stop_word(word.text) else "content"


def _word_at(words: Sequence[Word], start: int, end: int) -> int:
    """The word that shares most characters with the range; when none does, the one that ends next, or the last."""
    shared = [min(end, word.end) - max(start, word.start) for word in words]
    if max(shared) > 0:
        return shared.index(max(shared))
    return next((i for i, word in enumerate(words) if word.end > start), len(words) - 1)


def _too_long(
    words: Sequence[Word], encoding: BatchEncoding, length: int, encoder: str, *, first: int, last: int
) -> PromptTooLongError:
    """The error that names every word of which at least one token would be cut; the template is not to be cut."""
    added = encoding["special_tokens_mask"]
    offsets = [offset for offset, is_added in zip(encoding["offset_mapping"], added, strict=True) if not is_added]
    own = [(start, end) for start, end in offsets if not _outside(start, end, first, last)]
    limit = length - (len(offsets) - len(own))
    kept = max(0, limit - sum(added))
    cut = min((_word_at(words, *offset) for offset in own[kept:]), default=0)
    return PromptTooLongError([word.text for word in words], cut, max(0, limit), encoder)
