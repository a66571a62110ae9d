"""Phrases of a sentence, and how block-diagonal the attention among its words is with respect to them.

Here is one sentence at a time: where its phrases end, how its words attend to one another, and how much of that stays
within phrases, against other groupings of the same words. Tables over scenes are in `emergence`. The splitter knows
English function words and nothing else; who has a parser gives the phrases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import factorial, prod
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.analysis.units import block_numbers
from refam_analysis.errors import RefamError
from refam_analysis.prompts.magnets import is_punctuation, make_prompt

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]
Phrases = Sequence[Sequence[str]]
"""A sentence cut into phrases, each a sequence of words; together the words of the sentence in order."""

MEASURES = ("observed", "null", "excess", "as_block_diagonal")
"""What :func:`phrase_structure` says of every block and head."""

DETERMINERS = frozenset("the a an this that these those its his her their".split())
PLACES = frozenset("on at in to from".split())
"""Words that open a phrase of place, which holds the noun behind it: "on the left"."""
RELATIONS = frozenset("above below under over beside behind near between by with and or".split())
"""Words that relate two things, and are a phrase of their own: "above"."""

MOST_GROUPINGS = 200
"""A sentence with more orders of its phrases than this is compared with as many random ones: the mean of their shares
is then known to a fourteenth of the shares' own spread."""


class PhrasesError(RefamError, ValueError):
    """Phrases that are not those of the sentence, or a recording whose words are not known."""


def find_phrases(expression: str) -> tuple[tuple[str, ...], ...]:
    """Cut a sentence into noun phrases, phrases of place and relations, by its function words.

    A phrase begins at a determiner, at a preposition of place (:data:`PLACES`), at a word of relation
    (:data:`RELATIONS`, "left of", "right of", "next to"), and behind a word of relation or "of". A determiner behind
    the preposition that opened the phrase goes on with it. Punctuation ends the phrase that it stands in.

    The rules are exact for the sentences of the diagnostic scenes, and a guess for others.

    Args:
        expression: a sentence.

    Returns:
        The phrases, as words; joined they are the words of the sentence.

    Raises:
        EmptyExpressionError: the expression has no visible character.

    >>> [" ".join(phrase) for phrase in find_phrases("the red circle on the left")]
    ['the red circle', 'on the left']
    >>> [" ".join(phrase) for phrase in find_phrases("the square left of the small cross")]
    ['the square', 'left of', 'the small cross']
    """
    return _split([word.text for word in make_prompt(expression).words])


def word_attention(recording: Recording) -> xr.DataArray:
    """How the words of the sentence attend to one another, other tokens and the own word left out.

    With the tokens of words a and b,

        w_ab = sum over tokens i of a and j of b, attention[i, j]    (a != b; w_aa = 0)

    and every row divided by its sum. Padding, magnets, special tokens and the picture take no part, so the matrix says
    how a word shares out what it gives to the *rest of the sentence*, not how much that is. The diagonal is left out
    because a word is in its own phrase under every grouping: it would be added to the truth and to the null alike.

    Args:
        recording: with ``text_to_text`` or ``full`` kept.

    Returns:
        Axes (step, block, head, query, key), float64, of the conditional branch; a word along ``query`` and ``key``,
        with the coordinates ``word`` and ``key_word``. Rows sum to 1; NaN where a word attends to no other.

    Raises:
        PhrasesError: the words are not known, or a word has no queries.
        QuantityMissingError: neither quantity was kept, or the model has no text queries.
    """
    name = "full" if "full" in recording and "text_to_text" not in recording else "text_to_text"
    attention = recording[name].isel(branch=0)
    texts, tokens = _words(recording)
    every = np.concatenate(tokens)
    places = {axis: attention[axis].values - recording.layout.text.start for axis in ("query", "key")}
    used = {axis: np.flatnonzero(np.isin(places[axis], every)) for axis in ("query", "key")}
    attention = attention.isel(used).transpose("step", "block", "head", "query", "key")
    member = {axis: np.stack([np.isin(places[axis][used[axis]], one) for one in tokens]) * 1.0 for axis in used}
    recorded = member["query"].any(axis=1)
    if not recorded.all():
        raise PhrasesError(f"The queries of {texts[int(np.argmin(recorded))]!r} were not recorded: record all queries.")
    words = member["query"] @ attention.values.astype(np.float64) @ member["key"].T
    words[..., np.arange(len(texts)), np.arange(len(texts))] = 0.0
    total = words.sum(axis=-1, keepdims=True)
    words = np.divide(words, total, out=np.full(words.shape, np.nan), where=total > 0)
    labels = {name: attention[name] for name in ("step", "noise_level", "block", "head") if name in attention.coords}
    named = {"word": ("query", texts), "key_word": ("key", texts)}
    return xr.DataArray(words, dims=("step", "block", "head", "query", "key"), coords={**labels, **named})


def groupings(sizes: Sequence[int], *, most: int = MOST_GROUPINGS, seed: int = 0) -> list[tuple[int, ...]]:
    """Contiguous groupings of a sentence into phrases of these sizes: every order of the sizes, or random ones.

    Args:
        sizes: words in each phrase, in the order of the sentence.
        most: with more orders than this, so many different ones are drawn.
        seed: of the draws.

    Returns:
        Orders of the sizes, no two alike; the sentence's own comes first.

    >>> groupings([2, 1, 2])
    [(2, 1, 2), (1, 2, 2), (2, 2, 1)]
    """
    own, counts = tuple(sizes), Counter(sizes)
    if factorial(len(own)) // prod(factorial(count) for count in counts.values()) <= most:
        return [own, *(order for order in _orders(counts) if order != own)]
    generator = np.random.default_rng(seed)
    drawn = dict.fromkeys([own])  # a set that keeps the order
    while len(drawn) < most:
        drawn[tuple(int(size) for size in generator.permutation(own))] = None
    return list(drawn)


def within_phrase_mass(attention: Floats, sizes: Sequence[int]) -> Floats:
    """The share of a word's attention to other words that stays in its own phrase, mean over the words.

    Args:
        attention: (..., query, key), a word along each, as :func:`word_attention` has it; diagonal 0, rows sum to 1.
        sizes: words in each phrase, in order.

    Returns:
        (...), in [0, 1]. Even attention gives the sum over phrases of n_p (n_p - 1) / (n (n - 1)).

    >>> even = np.full((4, 4), 1 / 3) - np.eye(4) / 3
    >>> round(float(within_phrase_mass(even, [2, 2])), 3)
    0.333
    """
    phrase = np.repeat(np.arange(len(sizes)), sizes)
    same = phrase[:, None] == phrase
    share: Floats = np.where(same, attention, 0.0).sum(axis=-1).mean(axis=-1)
    return share


def phrase_structure(recording: Recording, phrases: Phrases | None = None, *, seed: int = 0) -> xr.DataArray:
    """How block-diagonal the attention among the words of one sentence is with respect to its phrases.

    Words that stand together attend to one another whatever they mean, and a long phrase holds more attention than
    two short ones. So the sentence's own grouping is compared with the other contiguous groupings into phrases of the
    same sizes: "the ring | on the left" with "the ring on the | left"; what distance alone brings about, both have.
    Groupings are of words, never of the pieces of one. Where there are two phrases there is one other grouping, and the
    excess is about the words near the boundary: whether they go with the phrase that they belong to.

    Args:
        recording: with ``text_to_text`` or ``full`` kept.
        phrases: of the sentence; None for :func:`find_phrases`.
        seed: of random groupings, where there are too many for all.

    Returns:
        Axes (measure, block, head), means over steps, no unit. ``observed``: :func:`within_phrase_mass` of the own
        grouping; ``null``: its mean over the other groupings; ``excess``: their difference; ``as_block_diagonal``: the
        share of all groupings, the own one among them, that are at least as block-diagonal. A short sentence has few
        groupings, so that this is no p to decide by: test the excess over scenes. All NaN for a sentence of one phrase
        or of phrases all of one size, which can be grouped in one way only.

    Raises:
        PhrasesError: the phrases are not the words of the sentence in order, or the words are not known.
        QuantityMissingError: neither quantity was kept, or the model has no text queries.

    Source: RefAM, Fig. 3 (the block-diagonal structure); the null of this library.
    """
    attention = word_attention(recording)
    words = [str(word) for word in attention["word"].values]
    sizes = _sizes(_split(words) if phrases is None else phrases, words)
    orders = groupings(sizes, seed=seed)
    values = np.full((len(MEASURES), *attention.shape[1:3]), np.nan)
    if len(orders) > 1:
        shares = np.stack([within_phrase_mass(attention.values, order) for order in orders])
        null = shares[1:].mean(axis=0)
        at_least = (shares >= shares[0] - 1e-12).mean(axis=0)  # as much as the rounding of a sum
        values = np.stack([shares[0], null, shares[0] - null, at_least]).mean(axis=1)
    heads = attention["head"].values if "head" in attention.coords else np.arange(attention.sizes["head"])
    coordinates = {"measure": list(MEASURES), "block": block_numbers(attention), "head": heads}
    return xr.DataArray(values, dims=("measure", "block", "head"), coords=coordinates)


def within_phrase_excess(recording: Recording, phrases: Phrases | None = None, *, seed: int = 0) -> xr.DataArray:
    """One scene's block-diagonality: the share of attention within phrases beyond that of other groupings.

    Args:
        recording: with ``text_to_text`` or ``full`` kept.
        phrases: of the sentence; None for :func:`find_phrases`.
        seed: of random groupings, where there are too many for all.

    Returns:
        Axes (block), mean over heads, in [-1, 1]; above 0 where phrases hold together. All NaN for a sentence that can
        be grouped in one way only.

    The errors are those of :func:`phrase_structure`.
    """
    return phrase_structure(recording, phrases, seed=seed).sel(measure="excess", drop=True).mean("head")


def _split(words: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    phrases: list[list[str]] = []
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if phrases and not _opens(word, after, phrases[-1]):
            phrases[-1].append(word)
        else:
            phrases.append([word])
    return tuple(tuple(phrase) for phrase in phrases)


def _opens(word: str, after: str, phrase: Sequence[str]) -> bool:
    """Whether a word begins the next phrase, given the words of this one."""
    word, after, before = word.casefold(), after.casefold(), phrase[-1].casefold()
    if is_punctuation(word) or (before, word) == ("next", "to"):
        return False
    if before == "of" or before in RELATIONS:
        return True
    if word in DETERMINERS:
        return not (len(phrase) == 1 and before in PLACES)
    if word in ("left", "right"):
        return after == "of" and before not in DETERMINERS
    return word in PLACES or word in RELATIONS or (word, after) == ("next", "to")


def _words(recording: Recording) -> tuple[list[str], list[list[int]]]:
    """The words of the sentence, and of each the positions of its tokens in the text segment, of all encoders."""
    texts: dict[int, str] = {}
    tokens: dict[int, list[int]] = {}
    for token in recording.attrs["tokens"]:
        if token["word_index"] is not None and token["kind"] in ("content", "stop", "punctuation"):
            texts[token["word_index"]] = token["word"]
            tokens.setdefault(token["word_index"], []).append(token["index"])
    if not texts:
        raise PhrasesError(
            "The recording does not know the words of its sentence: record with tokens, or with ra.record, which "
            "hands them on."
        )
    return [texts[index] for index in sorted(texts)], [tokens[index] for index in sorted(texts)]


def _sizes(phrases: Phrases, words: Sequence[str]) -> list[int]:
    """The number of words in each phrase, checked against the sentence."""
    given = [word.casefold() for phrase in phrases for word in phrase]
    if given != [word.casefold() for word in words] or not all(phrases):
        shown = " | ".join(" ".join(phrase) for phrase in phrases)
        raise PhrasesError(
            f"The phrases {shown!r} are not the sentence {' '.join(words)!r} cut into pieces: give all of its words, "
            "in order, each in one phrase."
        )
    return [len(phrase) for phrase in phrases]


def _orders(counts: Counter[int]) -> Iterator[tuple[int, ...]]:
    """Every order of a collection in which some are alike, each once, ascending."""
    if not counts:
        yield ()
    for size in sorted(counts):
        rest = counts - Counter([size])
        yield from ((size, *order) for order in _orders(rest))
