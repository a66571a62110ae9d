"""Noun phrases by rules: word lists and the order of the words, for when there is no parser.

Every word has one tag, by the lists of `lexicon` and by its ending; what no list knows is a noun. The first noun with
its neighbours is the head, and what follows is kept or passed over piece by piece. What is to be kept, is defined in
`noun_phrases`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from refam_analysis.prompts.lexicon import forms, lexicon
from refam_analysis.prompts.magnets import COLOUR_WORDS, Prompt, is_punctuation

Tag = Literal[
    "mark", "of", "with", "in", "than", "and", "determiner", "relative", "wear", "copula", "place", "preposition",
    "adverb", "number", "adjective", "participle", "verb", "noun", "end",
]  # fmt: skip

WORDS: dict[str, Tag] = {"of": "of", "with": "with", "without": "with", "in": "in", "than": "than", "and": "and",
                          "or": "and", "&": "and", "about": "participle"}  # fmt: skip
SECTIONS: dict[str, Tag] = {
    "relatives": "relative", "determiners": "determiner", "wear_verbs": "wear", "copulas": "copula",
    "place_words": "place", "place_prepositions": "preposition", "adverbs": "adverb", "ordinals": "number",
    "cardinals": "number", "adjectives": "adjective", "ing_nouns": "noun",
}  # fmt: skip
"""The first section that holds a word gives its tag."""

_BEFORE_HEAD: frozenset[Tag] = frozenset(
    ("determiner", "relative", "number", "adjective", "place", "participle", "adverb", "wear")
)
_IN_ATTRIBUTE: frozenset[Tag] = frozenset(("determiner", "number", "adjective", "noun", "of", "with", "wear", "than"))
_OPENS_NOUN: frozenset[Tag] = frozenset(("determiner", "number", "adjective", "of", "with", "wear", "in", "and"))
"""What is followed by a noun: a word that might be a verb is none behind these."""


def kept_words(prompt: Prompt) -> tuple[list[int], int]:
    """Which words belong to the noun phrase, and which of them is its head.

    Args:
        prompt: the expression, without magnets.

    Returns:
        Indices of the phrase's words, rising, and that of the head.
    """
    reader = _Reader([word.text.casefold().replace("’", "'") for word in prompt.words])
    return reader.read()


def tag_of(word: str) -> Tag:
    """The tag of a word by itself.

    >>> [tag_of(word) for word in "the bearded man walks near a left-hand railing".split()]
    ['determiner', 'adjective', 'noun', 'verb', 'place', 'determiner', 'place', 'noun']
    """
    if word in WORDS:
        return WORDS[word]
    if is_punctuation(word):
        return "mark"
    for section, tag in SECTIONS.items():
        if word in lexicon(section):
            return tag
    if word in COLOUR_WORDS:
        return "adjective"
    if word.isdigit():
        return "number"
    parts = word.split("-")
    if len(parts) > 1:
        is_place = set(parts) <= lexicon("place_words") | lexicon("place_parts")
        return "place" if is_place else "adjective" if tag_of(parts[-1]) in ("participle", "adjective") else "noun"
    return _by_ending(word)


def _by_ending(word: str) -> Tag:
    acts = any(word in forms(verbs) - lexicon(verbs) for verbs in ("action_verbs", "motion_verbs"))
    if word.endswith(("ing", "ed")) and len(word) > 4:
        return "participle"
    if acts:
        return "verb" if word.endswith("s") else "participle"
    return "adjective" if word.endswith(("ish", "less", "ful")) and len(word) > 5 else "noun"


class _Reader:
    """Reads an expression from left to right; ``at`` is the word that comes next."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self.tags = [tag_of(word) for word in words]
        self.at = 0
        self.kept: list[int] = []

    def read(self) -> tuple[list[int], int]:
        head = self._head()
        everything = [i for i, tag in enumerate(self.tags) if tag != "mark"] or [0]
        if head is None:
            return everything, self.kept[-1] if self.kept else everything[-1]
        while self.at < len(self.words):
            self._next()
        return sorted(self.kept), head

    def _tag(self, ahead: int = 0) -> Tag:
        place = self.at + ahead
        return self.tags[place] if place < len(self.tags) else "end"

    def _keep(self, number: int = 1) -> None:
        end = min(self.at + number, len(self.words))
        self.kept += range(self.at, end)
        self.at = end

    # The head and what stands before it

    def _head(self) -> int | None:
        """Reads up to the head noun and over it; None where there is none."""
        while (tag := self._tag()) != "end":
            if tag == "noun" or tag == "verb":
                head = self._nouns()
                if head is not None:
                    return head
            elif tag in _BEFORE_HEAD:
                self._keep()
                if self.words[self.at - 1] in ("one", "ones") and self._tag() not in ("noun", "adjective"):
                    return self.at - 1
            elif tag == "and" and self.kept and self._tag(1) in _BEFORE_HEAD:
                self._keep()
            elif tag == "mark":
                self.at += 1
            elif self._stands_alone() or not (tag in ("preposition", "in") and self._pass_place()):
                break
        return self.kept[-1] if self._stands_alone() else None

    def _stands_alone(self) -> bool:
        """Whether the last word kept is an adjective behind an article: without a noun it is the head ("the red")."""
        kept = [self.tags[i] for i in self.kept]
        return kept[-1:] == ["adjective"] and "determiner" in kept

    def _nouns(self) -> int | None:
        """Nouns in a row, of which the last is the head; None behind a possessive, which only leads to a head."""
        while self._tag() == "noun" or (self._tag() == "verb" and self._could_be_noun()):
            self._keep()
            if self.words[self.at - 1].endswith(("'s", "s'")):
                return None
        if self._tag() == "number" and self.words[self.at - 1] == "number" and len(self.kept) > 1:
            return self.kept[-2]
        return self.at - 1

    def _could_be_noun(self) -> bool:
        """Whether the word, by its form a verb, follows what leads to a noun, or nothing."""
        return self.at == 0 or self.tags[self.at - 1] in (*_OPENS_NOUN, "place")

    # What follows the head

    def _next(self) -> None:
        tag = self._tag()
        if tag in ("of", "with", "wear") or (tag == "in" and self._is_clothing(self.at + 1)):
            self._attribute()
        elif tag in ("adjective", "number") or (tag == "participle" and self._tag(1) == "noun" and self._ends_in_ed()):
            self._attribute()
        elif tag in ("relative", "copula"):
            self._clause()
        elif tag in ("preposition", "in") or (tag == "place" and self.words[self.at].startswith("near")):
            if not self._pass_place():
                self._pass_thing()
        elif tag == "place":
            self._pass_places()
        elif tag in ("participle", "verb"):
            self._pass_action()
        elif tag == "noun" and self.at and self.tags[self.at - 1] in ("place", "mark"):
            self._attribute()
        elif tag in ("determiner", "noun"):
            self._pass_thing()
        else:
            self.at += 1

    def _ends_in_ed(self) -> bool:
        return self.words[self.at].endswith("ed")

    def _attribute(self) -> None:
        """Keeps an attribute, from the word that opens it to the last that belongs to it."""
        self._keep()
        while self._goes_on():
            self._keep()

    def _goes_on(self) -> bool:
        tag, before = self._tag(), self.tags[self.at - 1]
        if tag in _IN_ATTRIBUTE:
            return True
        if tag == "in":
            return self._is_clothing(self.at + 1)
        if tag == "and":
            return self._tag(1) in _IN_ATTRIBUTE
        if tag in ("participle", "place", "verb") and before in _OPENS_NOUN:
            return tag == "verb" or self._tag(1) in ("noun", "adjective") or self._is_garment(self.at)
        return False

    def _clause(self) -> None:
        """A relative clause or a predicate: kept when it says what the thing wears or what it looks like."""
        opener = self._tag()
        length = 1 + (opener == "relative" and self._tag(1) == "copula")
        follows = self._tag(length)
        says_look = follows == "wear" or (follows == "adjective" and self._tag(length - 1) == "copula")
        if says_look or self.words[self.at] == "whose":
            self._keep(length)
            self._attribute()
            if self._tag() == "copula" and self._tag(1) == "adjective":
                self._keep()
                self._attribute()
        elif opener == "copula" or length == 2 or follows in ("verb", "participle"):
            self.at += length
        else:
            self._pass_thing()

    # What is passed over

    def _pass_place(self) -> bool:
        """Passes a preposition and the place that follows it; False, with nothing passed, where a thing follows."""
        start = self.at
        self.at += 1
        while self._tag() in ("determiner", "preposition", "in", "adverb", "and"):
            self.at += 1
        if self._pass_places():
            return True
        self.at = start
        return False

    def _pass_places(self) -> bool:
        """Passes words of place; False where there are none, or where they belong to a thing ("left of the tree")."""
        start = self.at
        while self._tag() in ("place", "adverb") or self._word_in("place_parts", "viewer"):
            self.at += 1
        if self.at == start or (self._tag() == "noun" and self.tags[start - 1] != "noun"):
            return False
        if self._tag() == "of":
            return self._pass_picture()
        if self._word_at(self.at) == "to" and self._viewer_follows():
            return self._pass_place()
        return True

    def _pass_picture(self) -> bool:
        """Passes "of the picture"; elsewhere the whole thing that follows, which ends what is read."""
        last = self.at + 1
        while last < len(self.words) and self.tags[last] in ("determiner", "adjective"):
            last += 1
        if self._word_at(last) in lexicon("picture"):
            self.at = last + 1
        else:
            self._pass_thing()
        return True

    def _viewer_follows(self) -> bool:
        return any(self._word_at(self.at + ahead) in lexicon("viewer") for ahead in (1, 2))

    def _pass_action(self) -> None:
        """Passes a verb with its adverbs; behind an object nothing belongs to the head any more."""
        self.at += 1
        while self._tag() == "adverb" or self._word_in("particles"):
            self.at += 1
        if self._tag() in ("determiner", "noun", "number", "adjective"):
            self._pass_thing()

    def _pass_thing(self) -> None:
        """Passes everything up to the next comma, or to the end."""
        while self._tag() not in ("mark", "end"):
            self.at += 1

    # Clothing

    def _is_clothing(self, start: int) -> bool:
        """Whether the words from here to the end of their noun name clothing or a colour."""
        last = start
        while last < len(self.words) and (
            self.tags[last] in ("determiner", "number", "adjective", "noun", "and")
            or (self.tags[last] == "participle" and last + 1 < len(self.tags) and self.tags[last + 1] == "noun")
            or self._is_garment(last)
        ):
            last += 1
        while last > start and self.tags[last - 1] in ("and", "determiner"):
            last -= 1
        return last > start and self.words[last - 1] in lexicon("clothing") | COLOUR_WORDS

    def _is_garment(self, place: int) -> bool:
        """Whether "top" is something that one wears: behind a colour, a pattern or "a"."""
        is_top = place > 0 and self._word_at(place) == "top"
        return is_top and (self.tags[place - 1] == "adjective" or self.words[place - 1] in ("a", "tank", "crop"))

    def _word_at(self, place: int) -> str:
        return self.words[place] if place < len(self.words) else ""

    def _word_in(self, *sections: str) -> bool:
        return any(self._word_at(self.at) in lexicon(section) for section in sections)
