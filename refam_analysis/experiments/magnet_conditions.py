"""What is appended to a sentence, and which words are read: the conditions of the experiment with magnets.

A condition is data: which words, how many, where they stand, and the kinds of words that the heatmap is read from. Here
it becomes the prompt of a scene. What comes of it is measured in :mod:`refam_analysis.experiments.magnets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS, Prompt, PromptTooLongError, Token, make_prompt
from refam_analysis.scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES

MORE_MAGNETS: tuple[str, ...] = (*DEFAULT_MAGNETS, "the", "of", "and", "is", "to")
"""The magnets of the dose response, in order: the default ones, then further stop words. Of them the first that the
sentence does not name are taken, so that there are as many as asked for."""

OTHER_WORDS: tuple[str, ...] = tuple(
    word for word in (*COLOURS, *SHAPES, *SIZES, *BACKGROUNDS) if word not in DEFAULT_MAGNETS
)
"""Content words of the scenes that are no default magnets: what is appended as a control."""

NONSENSE: tuple[str, ...] = ("zq", "xv", "qj", "vk", "jx", "wq", "kz", "xq", "jv", "qz", "vx", "zj")
"""Letters that are no word; a tokenizer cuts them into pieces."""

BASELINE = "none"


@dataclass(frozen=True)
class Condition:
    """One way of asking and reading.

    Attributes:
        name: of the row.
        words: what is appended: a key of :data:`WORDS`.
        number: how many; None for as many as the sentence gets default magnets.
        first: whether they stand in front of the sentence.
        reads: kinds of the words that the heatmap is read from.
        series: of the dose response; empty for a control.
    """

    name: str
    words: str = "nothing"
    number: int | None = None
    first: bool = False
    reads: tuple[str, ...] = ("content",)
    series: str = ""

    @property
    def asking(self) -> tuple[str, int | None, bool]:
        """What the model is asked: conditions that share it differ in the reading alone."""
        return self.words, self.number, self.first


CONTROLS: Sequence[Condition] = (
    Condition(BASELINE),
    Condition("magnets", "magnets"),
    Condition("stop words read", reads=("content", "stop")),
    Condition("magnets, stop words read", "magnets", reads=("content", "stop")),
    Condition("magnets, all words read", "magnets", reads=("content", "stop", "punctuation", "magnet")),
    Condition("magnets in front", "magnets", first=True),
    Condition("other words", "other words"),
    Condition("padding repeated", "padding", 4),
    Condition("nonsense", "nonsense"),
    Condition("colours shown", "colours shown"),
    Condition("colours absent", "colours absent"),
)
"""``none``: the sentence alone, read as by default, from its content words; so it filters stop words and appends
nothing. ``stop words read`` neither filters nor appends. The padding piece is repeated four times only, since CLIP,
which reads the prompt too, cuts each into several pieces, and has little room in a small model."""

CONTRASTS: Mapping[str, tuple[str, str]] = {
    "filtering, nothing appended": (BASELINE, "stop words read"),
    "appending, nothing filtered": ("magnets, stop words read", "stop words read"),
    "appending and filtering": ("magnets", "stop words read"),
    "filtering, magnets appended": ("magnets", "magnets, stop words read"),
    "appending, stop words filtered": ("magnets", BASELINE),
    "magnets against other words": ("magnets", "other words"),
    "magnets against repeated padding": ("magnets x 4", "padding repeated"),
    "magnets against nonsense": ("magnets", "nonsense"),
    "magnets behind against in front": ("magnets", "magnets in front"),
    "colours shown against absent": ("colours shown", "colours absent"),
}
"""Contrast -> the two conditions, of which the second is taken from the first."""


def dose_conditions(doses: Sequence[int]) -> list[Condition]:
    """Magnets, and other words, in growing numbers.

    Args:
        doses: the numbers.

    >>> [condition.name for condition in dose_conditions([2])]
    ['magnets x 2', 'other words x 2']
    """
    return [
        Condition(f"{words} x {number}", words, number, series=words)
        for words in ("magnets", "other words")
        for number in doses
    ]


def prompt_of(
    model: DiffusionModel, item: GroundingItem, condition: Condition, *, seed: Sequence[int]
) -> Prompt | None:
    """The prompt of one scene.

    Args:
        model: whose tokenizer it has to fit.
        item: picture and sentence.
        condition: what is appended.
        seed: of what is drawn at random, with the number of the scene; two conditions that draw the same words share
            the draw, so that a larger dose holds the smaller one.

    Returns:
        None where the scene cannot have the condition: nothing of the kind to append (a picture without a colour that
        the sentence leaves unnamed), too few words, or no room for them.
    """
    default = len(make_prompt(item.expression, DEFAULT_MAGNETS).magnets)
    number = default if condition.number is None else condition.number
    words = WORDS[condition.words](_Asked(model, item, number, np.random.default_rng(seed)))
    prompt = make_prompt(item.expression, words, magnets_first=condition.first)
    short = condition.words != "nothing" and (not words or len(prompt.magnets) < (condition.number or 1))
    try:
        model.tokens(prompt)
    except PromptTooLongError:
        return None
    return None if short else prompt


def appended(tokens: Sequence[Token], prompt: Prompt) -> list[int]:
    """Which positions of the text hold what was appended.

    A padding piece that is written into a prompt is a special token to the tokenizer, and belongs to no word.

    Args:
        tokens: of the whole text segment.
        prompt: that they are of.
    """
    written = set(prompt.magnets)
    return [
        place
        for place, token in enumerate(tokens)
        if token.kind == "magnet" or (token.kind == "special" and token.text in written)
    ]


@dataclass(frozen=True)
class _Asked:
    """What a recipe may use."""

    model: DiffusionModel
    item: GroundingItem
    number: int
    rng: np.random.Generator

    def unnamed(self, words: Sequence[str]) -> list[str]:
        """Those that the sentence does not hold: no colour that it names, no word of its own."""
        own = {word.text.casefold() for word in make_prompt(self.item.expression).words} - set(MORE_MAGNETS)
        return [word for word in make_prompt(self.item.expression, words).magnets if word.casefold() not in own]


def _magnets(asked: _Asked) -> Sequence[str]:
    return asked.unnamed(MORE_MAGNETS)[: asked.number]


def _other_words(asked: _Asked) -> Sequence[str]:
    return asked.unnamed(asked.rng.permutation(OTHER_WORDS).tolist())[: asked.number]


def _padding(asked: _Asked) -> Sequence[str]:
    """The padding token by its own name, which the tokenizer reads as that token."""
    tokens = asked.model.tokens(make_prompt(asked.item.expression))
    piece = next((token.text for token in tokens if token.kind == "padding"), "")
    return [piece] * asked.number if piece else []


def _nonsense(asked: _Asked) -> Sequence[str]:
    """As many words as make no more pieces than the asked number; at least one."""
    words = asked.rng.permutation(NONSENSE).tolist()
    for length in range(len(words), 1, -1):
        try:
            tokens = asked.model.tokens(make_prompt(asked.item.expression, words[:length]))
        except PromptTooLongError:
            continue
        if sum(token.kind == "magnet" for token in tokens) <= asked.number:
            return words[:length]
    return words[:1]


def _colours_shown(asked: _Asked) -> Sequence[str]:
    return asked.unnamed(list(dict.fromkeys(asked.item.colours)))


def _colours_absent(asked: _Asked) -> Sequence[str]:
    """As many as the picture shows and the sentence leaves unnamed."""
    absent = [colour for colour in asked.rng.permutation(list(COLOURS)).tolist() if colour not in asked.item.colours]
    return asked.unnamed(absent)[: len(_colours_shown(asked))]


WORDS: Mapping[str, Callable[[_Asked], Sequence[str]]] = {
    "nothing": lambda _: (),
    "magnets": _magnets,
    "other words": _other_words,
    "padding": _padding,
    "nonsense": _nonsense,
    "colours shown": _colours_shown,
    "colours absent": _colours_absent,
}
"""What can be appended, by name."""
