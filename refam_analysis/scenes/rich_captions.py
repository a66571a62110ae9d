"""Sentences that describe a rich scene, as training sees them: longer, with synonyms, relations and function words.

Captions, not referring expressions: true of the picture, but they need not single anything out. Words of place, and
shapes at equal colour, are named often: they are what a small model learns last.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from refam_analysis.scenes.expressions import EXTREMES, PLACES, RELATIONS, expressions
from refam_analysis.scenes.rich_vocabulary import (
    HELD_OUT_SYNONYMS,
    MATERIALS,
    RICH_SHAPES,
    RICH_SIZES,
    SYNONYMS,
    TEXTURES,
)
from refam_analysis.scenes.scene import Scene, SceneObject
from refam_analysis.scenes.vocabulary import COLOURS

MOST_WORDS = 28
"""Of a caption, punctuation included: with two more words and the end token it fits into the 32 tokens of a prompt."""

_OPENINGS = ("a picture of", "a photo of", "an image with", "we see", "you can see", "this is", "here is", "there is",
             "in this picture there is", "it shows", "look at")  # fmt: skip
_JOINS = ("and", "and", "and", ",", "with", ", and", "as well as", "but also", "next to")
_PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "on the left": ("to the left", "on the left side", "at the left"),
    "on the right": ("to the right", "on the right side", "at the right"),
    "at the top": ("on top", "in the upper part", "at the top of the picture"),
    "at the bottom": ("in the lower part", "at the bottom of the picture"),
    "in the middle": ("in the centre", "in the middle of the picture"),
    "in the top left corner": ("in the upper left corner", "at the top left"),
    "in the top right corner": ("in the upper right corner", "at the top right"),
    "in the bottom left corner": ("in the lower left corner", "at the bottom left"),
    "in the bottom right corner": ("in the lower right corner", "at the bottom right"),
}
_RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "left of": ("to the left of", "on the left of"),
    "right of": ("to the right of", "on the right of"),
    "above": ("over", "higher than"),
    "below": ("under", "lower than"),
}
_AFTER = {"striped": ("with stripes", "that has stripes"), "dotted": ("with dots", "that has dots"),
          "shiny": ("that shines",), "matt": ("that does not shine",)}  # fmt: skip
_LINKS = ("that is", "which is", "that stands", "lying")
_VERBS = ("is", "is", "stands", "lies", "can be seen", "should be")


def describe_rich(
    scene: Scene, rng: np.random.Generator, *, empty: float = 0.1, synonyms: float = 0.3, complete: float = 0.0
) -> str:
    """A caption drawn at random.

    Args:
        scene: what to describe, with its texture and its objects' materials.
        rng: the only source of randomness.
        empty: probability of an empty caption, for classifier-free guidance.
        synonyms: probability that a synonym of ``SYNONYMS`` stands in place of a word that has one.
        complete: probability that a caption which is not empty names as many objects as it has room for, each with its
            colour and its shape and nearly always with a place; otherwise it says some things of some objects.

    Returns:
        At most ``MOST_WORDS`` words, lower case; punctuation stands between spaces.

    >>> star = SceneObject("star", "red", "large", 0.2, 0.5, 0.16, material="shiny")
    >>> describe_rich(Scene((star,), "grass"), np.random.default_rng(5), empty=0.0)
    'a picture of a large shiny star on a lawn .'
    """
    if rng.random() < empty:
        return ""
    author = _Author(rng, synonyms)
    if complete and rng.random() < complete:
        return author.inventory(scene)
    kind = rng.random()
    if kind < 0.15 and len(scene.objects) > 1 and (text := author.relation(scene)):
        return text
    if kind < 0.25 and (text := author.superlative(scene)):
        return text
    return author.clauses(scene) if kind < 0.45 else author.list_of(scene)


def reword(text: str, *, held_out: bool, among: Collection[str] | None = None) -> str:
    """An expression in other words: every word that has a synonym is replaced by it.

    Args:
        text: of words that stand between spaces.
        held_out: take the synonyms that training never held, instead of the first that it did.
        among: replace only these words, such as ``COLOURS``; None for all that have a synonym.

    Returns:
        The expression, true of the same object.

    >>> reword("the small red ring on the left", held_out=True, among=("red", "ring"))
    'the small scarlet donut on the left'
    """
    synonyms = HELD_OUT_SYNONYMS if held_out else {word: first for word, (first, *_) in SYNONYMS.items()}
    words = (word if among is not None and word not in among else synonyms.get(word, word) for word in text.split())
    return " ".join(words)


def caption_words() -> list[str]:
    """Every word and mark that a caption or an expression of a rich scene can hold, sorted.

    Returns:
        Words and marks in lower case, each once.
    """
    own = [*COLOURS, *RICH_SHAPES, *RICH_SIZES, *MATERIALS, *TEXTURES, *PLACES, *RELATIONS, *EXTREMES]
    groups = (SYNONYMS, TEXTURES, _PLACE_WORDS, _RELATION_WORDS, _AFTER)
    others = [text for group in groups for texts in group.values() for text in texts]
    texts = [*own, *others, *_OPENINGS, *_JOINS, *_LINKS, *_VERBS, "a an the one is and while but there . ,"]
    return sorted({word for text in texts for word in text.split()})


class _Author:
    """Writes with one source of randomness and one liking for synonyms."""

    def __init__(self, rng: np.random.Generator, synonyms: float) -> None:
        self.rng, self.synonyms = rng, synonyms

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one_of(self, choices: Sequence[str]) -> str:
        return choices[int(self.rng.integers(len(choices)))]

    def word(self, own: str) -> str:
        """The word or, now and then, a synonym."""
        return self.one_of(SYNONYMS[own]) if own in SYNONYMS and self.chance(self.synonyms) else own

    def list_of(self, scene: Scene) -> str:
        """One, some or all objects, one after the other."""
        definite = self.chance(0.5)
        parts: list[str] = []
        ground = self.one_of(TEXTURES[scene.background]) if self.chance(0.4) else ""
        first = self.chance(0.3)
        if ground and first:
            parts.append(f"{ground} there is")
        elif self.chance(0.5):
            parts.append(self.one_of(_OPENINGS))
        spare = MOST_WORDS - _length(parts) - 1 - (0 if first else len(ground.split()))
        order = self._order(scene)
        for position, item in enumerate(order[: int(self.rng.integers(1, len(order) + 1))]):
            text = self.phrase(item, definite=definite, place=0.75)
            if position:
                text = f"{self.one_of(_JOINS)} {text}"
            if len(text.split()) > spare:
                break
            parts.append(text)
            spare -= len(text.split())
        if ground and not first:
            parts.append(ground)
        return self._end(" ".join(parts))

    def inventory(self, scene: Scene) -> str:
        """All objects, as far as there is room, none without its colour, its shape and, where one fits, its place."""
        definite, text = self.chance(0.5), ""
        for item in self._order(scene):
            phrase = self.phrase(item, definite=definite, place=0.9, complete=True)
            longer = f"{text} {self.one_of(_JOINS)} {phrase}" if text else phrase
            if len(longer.split()) > MOST_WORDS - 1:
                break
            text = longer
        return self._end(text)

    def clauses(self, scene: Scene) -> str:
        """Whole sentences: the red ring is on the left and the red cross stands on the right."""
        text = ""
        for item in self._order(scene)[:3]:
            place = self.place(item)
            rest = f"{self.one_of(_VERBS)} {place}" if place else f"is {self.one_of(TEXTURES[scene.background])}"
            sentence = f"{self.phrase(item, definite=True, place=0.0)} {rest}"
            longer = f"{text} {self.one_of(('and', ', and', 'while', ', but'))} {sentence}" if text else sentence
            if len(longer.split()) > MOST_WORDS - 1:
                break
            text = longer
        return self._end(text)

    def relation(self, scene: Scene) -> str:
        """One object and how it stands to another; empty where no relation is clear."""
        first, second = (scene.objects[i] for i in self.rng.permutation(len(scene.objects))[:2])
        for relation, holds in RELATIONS.items():
            if holds(first.x - second.x, first.y - second.y):
                how = self.one_of((relation, relation, *_RELATION_WORDS[relation]))
                link = self.one_of(("", "", "that is ", "which is ", "is "))
                definite = self.chance(0.7)
                one, two = (self.phrase(item, definite=definite, place=0.0) for item in (first, second))
                return self._end(f"{one} {link}{how} {two}")
        return ""

    def superlative(self, scene: Scene) -> str:
        """A superlative that is true of one object, in its own words or in synonyms; empty where there is none."""
        offers = expressions(scene, "superlative")
        if not offers:
            return ""
        words = offers[int(self.rng.integers(len(offers)))].text.split()
        return self._end(" ".join(self.word(word) for word in words))

    def phrase(self, item: SceneObject, *, definite: bool, place: float, complete: bool = False) -> str:
        """One object with an article, some of its attributes and, with a probability, its place.

        Where it is complete, its colour and its shape are among them.
        """
        material, after = "", ""
        if self.chance(0.35):
            if self.chance(0.25):
                after = self.one_of(_AFTER[item.material])
            else:
                material = self.word(item.material)
        size = self.word(item.size) if self.chance(0.3) else ""
        colour = self.word(item.colour) if complete or self.chance(0.75) else ""
        nameless = not complete and (size or colour or material) and self.chance(0.08)
        shape = "one" if nameless else self.word(item.shape)
        words = " ".join(word for word in (size, material, colour, shape) if word)
        article = "the" if definite else ("an" if words[0] in "aeiou" and not words.startswith("one") else "a")
        where = self.place(item) if self.chance(place) else ""
        if where and self.chance(0.25):
            where = f"{self.one_of(_LINKS)} {where}"
        return " ".join(part for part in (article, words, after, where) if part)

    def place(self, item: SceneObject) -> str:
        """A phrase of place that is true of the object; empty where none is."""
        fitting = [place for place, holds in PLACES.items() if holds(item.x, item.y)]
        if not fitting:
            return ""
        own = self.one_of(fitting)
        return self.one_of(_PLACE_WORDS[own]) if self.chance(self.synonyms) else own

    def _order(self, scene: Scene) -> list[SceneObject]:
        """All objects, shuffled; in half of the cases two of one colour and different shapes come first."""
        order = [scene.objects[i] for i in self.rng.permutation(len(scene.objects))]
        if self.chance(0.5):
            for i, item in enumerate(order):
                for other in order[i + 1 :]:
                    if item.colour == other.colour and item.shape != other.shape:
                        return [item, other, *(one for one in order if one is not item and one is not other)]
        return order

    def _end(self, text: str) -> str:
        return f"{text} ." if self.chance(0.4) else text


def _length(parts: Sequence[str]) -> int:
    return sum(len(part.split()) for part in parts)
