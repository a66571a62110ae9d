"""Noun phrases: which words of an expression say what is looked for, and not where it is.

Here is what a noun phrase is and how one is asked for. How it is found is in two files: `parsed` goes by spaCy's
dependency parse, `ruled` by the order of the words alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from refam_analysis.errors import RefamError
from refam_analysis.prompts import parsed, ruled
from refam_analysis.prompts.magnets import make_prompt

Source = Literal["spacy", "rules"]
Parser = Literal["auto", "spacy", "rules"]


@dataclass(frozen=True)
class NounPhrase:
    """What an expression looks for.

    Attributes:
        text: the phrase's words as written, joined by single spaces.
        head: the noun that the rest describes; where there is no noun, the word that stands for it.
        words: the phrase's words as indices into ``make_prompt(expression).words``, rising. They are the ``word_index``
            of tokens, whatever magnets are appended; magnets that stand first shift them by their number of words.
            There may be gaps.
        source: what found it.
    """

    text: str
    head: str
    words: tuple[int, ...]
    source: Source


def noun_phrase(expression: str, *, parser: Parser = "auto") -> NounPhrase:
    """The noun phrase of a referring expression: its head noun and what describes that, without places and relations.

    Kept are

    - all that stands before the head and belongs to it: article, number, adjectives, nouns, and words of place too
      ("the second left guy"), because they are part of the phrase by grammar; :func:`places` tells which they are;
    - attributes behind the head: phrases with "of", "with" and "without"; with "in" where clothing or a colour
      follows; what it wears, has, holds or carries, as a participle or a clause ("wearing a hat", "that has a beard");
      adjectives that a copula joins or nothing ("that is red", "guy red shirt").

    Left out are

    - phrases of place, and all that relates it to another thing: every other preposition and what follows it. Behind a
      mere place attributes go on ("the man on the left in red"); behind a thing they belong to that;
    - every other clause: what it does, or what is done with it;
    - what "and" joins to the head, and punctuation.

    An expression without a noun ("far right") is its own noun phrase.

    So the noun phrase of "the square above the cross" is "the square": it deletes relations, and with them what an
    expression may rest on. :func:`refam_analysis.evaluation.expression_readings` measures how often the phrase still
    means the target: on the diagnostic scenes always for attributes and superlatives, never for locations and
    relations. How often each parser finds the phrase is in :func:`refam_analysis.evaluation.noun_phrase_accuracy`.

    Args:
        expression: the referring expression.
        parser: ``spacy``: by the dependency parse of spaCy's small English model. ``rules``: by word lists and the
            order of the words, which needs nothing. ``auto``: ``spacy`` where it is installed, else ``rules``.

    Returns:
        Its words, and the head among them.

    Raises:
        EmptyExpressionError: the expression has no visible character.
        RefamError: there is no such parser.
        NoSpacyError: ``spacy`` was asked for, and it or its English model is not installed.

    Source: the switch NP of RefAM's ablation. The paper does not define it further; this definition is ours.

    >>> noun_phrase("the man in the red shirt on the left", parser="rules")
    NounPhrase(text='the man in the red shirt', head='man', words=(0, 1, 2, 3, 4, 5), source='rules')
    """
    if parser not in get_args(Parser):
        raise RefamError(f"parser is {parser!r}. Choose one of {', '.join(map(repr, get_args(Parser)))}.")
    source: Source = parser if parser != "auto" else "spacy" if parsed.is_installed() else "rules"
    prompt = make_prompt(expression)
    kept, head = (parsed if source == "spacy" else ruled).kept_words(prompt)
    words = prompt.words
    return NounPhrase(" ".join(words[i].text for i in kept), words[head].text, tuple(kept), source)
