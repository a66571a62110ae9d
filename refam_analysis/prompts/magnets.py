"""Prompts: a referring expression, the magnets appended to it, and the words of both with their places in the text.

What a word is, is decided here, without any tokenizer; how a tokenizer's pieces map to these words is in `tokens`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from refam_analysis.errors import RefamError

DEFAULT_MAGNETS: tuple[str, ...] = (".", "a", "with", "red", "green", "blue", "yellow", "black", "white")
"""The stop words that the paper's project page names, and the six colours that English names first."""

COLOUR_WORDS: frozenset[str] = frozenset(
    "red orange yellow green blue purple pink white black gray grey brown teal navy cyan magenta violet indigo "
    "turquoise beige maroon crimson scarlet gold golden silver olive lime tan khaki ivory cream coral salmon "
    "lavender".split()
)
"""A magnet among these is not appended when the expression itself names the colour: it would draw mass for real."""

_JOINERS = "'’-"


class PromptError(RefamError, ValueError):
    """A text that cannot be made a prompt."""


class EmptyExpressionError(PromptError):
    """The referring expression has no visible character."""

    def __init__(self, expression: str) -> None:
        super().__init__(f"The expression {expression!r} is empty. Name what to look for, such as 'the red circle'.")


class UnreadableTextError(PromptError):
    """The text holds half a character (a lone surrogate), which no tokenizer accepts."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"The text {text!r} holds a lone surrogate, which is half a character. "
            "Decode the text that it came from as UTF-8 again."
        )


class EmptyMagnetError(PromptError):
    """A magnet has no visible character."""

    def __init__(self, magnet: str) -> None:
        super().__init__(f"The magnet {magnet!r} is empty. Leave it out, or give a word or a punctuation mark.")


class MagnetsTypeError(PromptError, TypeError):
    """One string stands where a list of magnets should."""

    def __init__(self, magnets: str) -> None:
        super().__init__(
            f"magnets={magnets!r} is one string, of which every letter would be a magnet. Give a list of words, such "
            "as magnets.split()."
        )


@dataclass(frozen=True)
class Word:
    """A word or a run of punctuation.

    Attributes:
        text: as written in the prompt.
        start: index of its first character in ``Prompt.text``.
        end: index after its last character.
        is_magnet: whether it was appended.
    """

    text: str
    start: int
    end: int
    is_magnet: bool


@dataclass(frozen=True)
class Prompt:
    """What the text encoder is given. Make one with :func:`make_prompt`, which checks it.

    Attributes:
        expression: the referring expression, single spaces between its words.
        magnets: what is appended, in order.
        magnets_first: whether they stand before the expression instead of behind it, to see what their place does.
    """

    expression: str
    magnets: tuple[str, ...] = ()
    magnets_first: bool = False

    @property
    def text(self) -> str:
        """The expression and the magnets, joined by single spaces.

        >>> make_prompt("the red circle", (".", "a")).text
        'the red circle . a'
        """
        parts = (*self.magnets, self.expression) if self.magnets_first else (self.expression, *self.magnets)
        return " ".join(parts)

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """The words of the text, in order; punctuation stands apart, "left-most" and "it's" are one word.

        >>> [word.text for word in make_prompt("the left-most one, please").words]
        ['the', 'left-most', 'one', ',', 'please']
        """
        text = self.text
        first = len(text) - len(self.expression) if self.magnets_first else 0
        own = range(first, first + len(self.expression))
        return tuple(Word(text[start:end], start, end, start not in own) for start, end in _spans(text))


def make_prompt(expression: str, magnets: Sequence[str] = (), *, magnets_first: bool = False) -> Prompt:
    """Check an expression and the magnets to append, and put them together.

    Args:
        expression: the referring expression; runs of white space become single spaces, nothing else changes.
        magnets: words or punctuation marks to append, in order; repetitions are kept. A magnet that names a colour
            which the expression itself names, alone or within a word ("blue-eyed"), is left out.
        magnets_first: put them in front of the expression, as a control of their place.

    Returns:
        The prompt; magnets whose colour the expression names are left out of it.

    Raises:
        EmptyExpressionError: the expression has no visible character.
        EmptyMagnetError: a magnet has none.
        MagnetsTypeError: the magnets are one string.
        UnreadableTextError: half a character.

    >>> make_prompt("the Red circle", DEFAULT_MAGNETS).magnets
    ('.', 'a', 'with', 'green', 'blue', 'yellow', 'black', 'white')
    """
    expression = " ".join(expression.split())
    if not _is_visible(expression):
        raise EmptyExpressionError(expression)
    if isinstance(magnets, str):
        raise MagnetsTypeError(magnets)
    cleaned = [" ".join(magnet.split()) for magnet in magnets]
    for text in (expression, *cleaned):
        if any(unicodedata.category(character) == "Cs" for character in text):
            raise UnreadableTextError(text)
    for magnet in cleaned:
        if not _is_visible(magnet):
            raise EmptyMagnetError(magnet)
    named = _colours(expression)
    kept = tuple(magnet for magnet in cleaned if named.isdisjoint(_colours(magnet)))
    return Prompt(expression, kept, magnets_first)


def _colours(text: str) -> set[str]:
    """The colours that a text names, parts of hyphenated words among them; "gray" and "grey" are one."""
    parts = {part for word in Prompt(text).words for part in re.split("['’-]", word.text.casefold())}
    return {"grey" if part == "gray" else part for part in parts & COLOUR_WORDS}


def is_punctuation(text: str) -> bool:
    """Whether the text has punctuation, signs of mathematics and currency, and the invisible only.

    Pictographs have a meaning: they are not punctuation.

    >>> [is_punctuation(text) for text in (".", "?!", "a.", "🔴")]
    [True, True, False, False]
    """
    return bool(text) and all(_is_mark(character) or not _is_visible(character) for character in text)


def _is_mark(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "P" or category in ("Sm", "Sc", "Sk")


def _is_visible(text: str) -> bool:
    return any(unicodedata.category(character) not in _INVISIBLE for character in text)


_INVISIBLE = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf", "Cn", "Co"))
_WORD = re.compile(r"w+(?:jw+)*|[mj]+")


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every word, found in a sketch of the text: w word, m mark, j joiner, space."""
    sketch = "".join(
        " " if c.isspace() else "j" if c in _JOINERS else "m" if _is_mark(c) else "w" for c in text
    )  # fmt: skip
    return (match.span() for match in _WORD.finditer(sketch))
