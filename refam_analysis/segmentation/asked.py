"""What a recording's sentence was, and which of its words the noun phrase has."""

from __future__ import annotations

from functools import lru_cache

from refam_analysis.errors import RefamError
from refam_analysis.prompts import Prompt
from refam_analysis.prompts.noun_phrases import NounPhrase, noun_phrase
from refam_analysis.recording.recording import Recording


class UnknownExpressionError(RefamError, ValueError):
    """A recording does not say what its expression was."""

    def __init__(self) -> None:
        super().__init__(
            "Noun phrase and spatial bias are read off the expression, and this recording does not say what it was: "
            "record with record or record_batch, or switch both off."
        )


def expression_of(recording: Recording) -> str:
    """The referring expression, without magnets.

    Raises:
        UnknownExpressionError: the recording does not say.
    """
    expression = recording.attrs.get("expression")
    if not expression:
        raise UnknownExpressionError
    return str(expression)


@lru_cache(maxsize=4096)
def phrase_of(expression: str) -> NounPhrase:
    """Its noun phrase, found once: parsing takes longer than reading a map."""
    return noun_phrase(expression)


def phrase_words(recording: Recording) -> frozenset[int]:
    """The words of the noun phrase, as indices into the words of the prompt, magnets included.

    Raises:
        UnknownExpressionError: the recording does not say what its expression was.
    """
    expression, magnets = expression_of(recording), tuple(recording.attrs["magnets"])
    before = _magnet_words_in_front(expression, magnets, str(recording.attrs["prompt"]))
    return frozenset(before + index for index in phrase_of(expression).words)


def _magnet_words_in_front(expression: str, magnets: tuple[str, ...], text: str) -> int:
    """How many words of magnets stand before the expression in the prompt."""
    if text == Prompt(expression, magnets).text:
        return 0
    return sum(word.is_magnet for word in Prompt(expression, magnets, magnets_first=True).words)
