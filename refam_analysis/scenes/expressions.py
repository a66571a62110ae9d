"""Referring expressions: sentences that are true of exactly one object of a scene.

The four kinds are those of RefCOCO: what the object looks like, where it is, how it stands to another object, and how
it compares with the rest. An expression is made as a candidate and kept only when its meaning, as written here, picks
one object; the tests check that against an evaluator of their own that reads nothing but the sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np

from refam_analysis.scenes.scene import Scene, SceneObject

ExpressionKind = Literal["attribute", "location", "relation", "superlative"]
"""By what an expression tells its object apart: looks, place, another object beside it, or being the most so."""
KINDS: tuple[ExpressionKind, ...] = get_args(ExpressionKind)
"""Every kind of expression, in the order of tables."""

FEWEST_OBJECTS: Mapping[str, int] = {"attribute": 1, "location": 2, "relation": 3, "superlative": 2}
"""Fewest objects of a scene that can have an expression of a kind: place, comparison and relation need a rival, and a
relation another object to stand beside."""

NEAR_EDGE = 0.40
"""An object is on the left when its centre lies in the left 40 % of the picture; likewise for the other sides."""
MIDDLE = (0.35, 0.65)
"""An object is in the middle when both coordinates of its centre lie between these, in shares of the picture's side."""
RELATION_GAP = 0.12
"""Shares of the picture's side that two centres are apart at least, for one to be left of or above the other."""
SIZE_RATIO = 1.2
"""The largest object's radius is at least this many times that of the next; likewise the smallest's."""


@dataclass(frozen=True)
class Expression:
    """A sentence and the one object that it refers to.

    Attributes:
        text: lower case, without punctuation.
        kind: what the sentence relies on.
        target: index into ``Scene.objects``.
    """

    text: str
    kind: ExpressionKind
    target: int


@dataclass(frozen=True)
class Look:
    """What an object is called: any of size, colour, shape and material; ``one`` where the shape is not named."""

    size: str | None = None
    colour: str | None = None
    shape: str | None = None
    material: str | None = None

    @property
    def words(self) -> str:
        """The words in English order.

        >>> Look(colour="red", size="small").words
        'small red one'
        """
        return " ".join(word for word in (self.size, self.material, self.colour, self.shape or "one") if word)

    def fits(self, item: SceneObject) -> bool:
        """Whether every named attribute is true of the object."""
        return all(
            word is None or word == actual
            for word, actual in (
                (self.size, item.size),
                (self.colour, item.colour),
                (self.shape, item.shape),
                (self.material, item.material),
            )
        )


PLACES: dict[str, Callable[[float, float], bool]] = {
    "on the left": lambda x, y: x < NEAR_EDGE,
    "on the right": lambda x, y: x > 1 - NEAR_EDGE,
    "at the top": lambda x, y: y < NEAR_EDGE,
    "at the bottom": lambda x, y: y > 1 - NEAR_EDGE,
    "in the middle": lambda x, y: MIDDLE[0] < x < MIDDLE[1] and MIDDLE[0] < y < MIDDLE[1],
    "in the top left corner": lambda x, y: x < NEAR_EDGE and y < NEAR_EDGE,
    "in the top right corner": lambda x, y: x > 1 - NEAR_EDGE and y < NEAR_EDGE,
    "in the bottom left corner": lambda x, y: x < NEAR_EDGE and y > 1 - NEAR_EDGE,
    "in the bottom right corner": lambda x, y: x > 1 - NEAR_EDGE and y > 1 - NEAR_EDGE,
}
"""Phrases of place and what they mean for a centre (x, y) in shares of the picture's side."""

RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "left of": lambda dx, dy: dx < -RELATION_GAP and abs(dx) > abs(dy),
    "right of": lambda dx, dy: dx > RELATION_GAP and abs(dx) > abs(dy),
    "above": lambda dx, dy: dy < -RELATION_GAP and abs(dy) > abs(dx),
    "below": lambda dx, dy: dy > RELATION_GAP and abs(dy) > abs(dx),
}
"""Phrases of relation and what they mean for (object minus landmark) in shares of the picture's side."""

EXTREMES: dict[str, Callable[[SceneObject], float]] = {
    "largest": lambda o: np.log(o.radius) / np.log(SIZE_RATIO),
    "smallest": lambda o: -np.log(o.radius) / np.log(SIZE_RATIO),
    "leftmost": lambda o: -o.x / RELATION_GAP,
    "rightmost": lambda o: o.x / RELATION_GAP,
    "topmost": lambda o: -o.y / RELATION_GAP,
    "lowest": lambda o: o.y / RELATION_GAP,
}
"""Superlatives, as a value of which the winner must exceed every rival's by 1."""


def expressions(scene: Scene, kind: ExpressionKind) -> list[Expression]:
    """All expressions of one kind that refer to exactly one object of the scene.

    Args:
        scene: the scene.
        kind: ``attribute``, ``location``, ``relation`` or ``superlative``.

    Returns:
        Unambiguous expressions in a fixed order; empty where the scene has none of this kind.

    >>> red = SceneObject("circle", "red", "large", 0.2, 0.5, 0.16)
    >>> blue = SceneObject("circle", "blue", "large", 0.8, 0.5, 0.16)
    >>> [e.text for e in expressions(Scene((red, blue), "gray"), "location")][:2]
    ['the circle on the left', 'the one on the left']
    """
    return list(dict.fromkeys(_CANDIDATES[kind](scene)))


def looks(item: SceneObject, *, least: int = 1) -> Iterator[Look]:
    """Every way of naming an object by at least ``least`` attributes, its shape first of all."""
    materials = (None, item.material) if item.material else (None,)
    for material, size, colour, shape in product(materials, (None, item.size), (None, item.colour), (item.shape, None)):
        if sum(word is not None for word in (material, size, colour, shape)) >= least:
            yield Look(size, colour, shape, material)


def rivals(scene: Scene, target: int) -> list[int]:
    """The objects that share their colour or their shape with the target, as indices into ``scene.objects``."""
    item = scene.objects[target]
    return [
        i for i, o in enumerate(scene.objects) if i != target and (o.colour == item.colour or o.shape == item.shape)
    ]


def _only(scene: Scene, index: int, test: Callable[[SceneObject], bool]) -> bool:
    return [test(item) for item in scene.objects] == [i == index for i in range(len(scene.objects))]


def _attribute(scene: Scene) -> Iterator[Expression]:
    for index, item in enumerate(scene.objects):
        for look in looks(item):
            if _only(scene, index, look.fits):
                yield Expression(f"the {look.words}", "attribute", index)


def _location(scene: Scene) -> Iterator[Expression]:
    """Only where place is needed: the look alone fits several objects."""
    for index, item in enumerate(scene.objects):
        for look in looks(item, least=0):
            others = [o for i, o in enumerate(scene.objects) if i != index and look.fits(o)]
            if not others:
                continue
            for phrase, holds in PLACES.items():
                if holds(item.x, item.y) and _clear_of(item, others, phrase):
                    yield Expression(f"the {look.words} {phrase}", "location", index)


def _clear_of(item: SceneObject, others: Sequence[SceneObject], phrase: str) -> bool:
    """Whether no other object could be meant: none in the same half or quarter, or all clearly further from the side.

    So the strict reading ("in that part of the picture") and the loose one ("nearest to that side") agree.
    """
    holds = PLACES[phrase]
    if any(holds(o.x, o.y) for o in others):
        return False
    if phrase == "in the middle":
        return True
    sides = [word for word in _SIDES if word in phrase.split()]
    if len(sides) == 2:
        return not any(all(_depth(o, side) < 0.5 for side in sides) for o in others)
    return all(_depth(item, sides[0]) < _depth(o, sides[0]) - RELATION_GAP for o in others)


_SIDES = ("left", "right", "top", "bottom")


def _depth(item: SceneObject, side: str) -> float:
    """How far the centre is from a side of the picture."""
    return {"left": item.x, "right": 1 - item.x, "top": item.y, "bottom": 1 - item.y}[side]


def _relation(scene: Scene) -> Iterator[Expression]:
    for index, item in enumerate(scene.objects):
        for other, landmark in enumerate(scene.objects):
            if other == index:
                continue
            for phrase, holds in RELATIONS.items():
                if holds(item.x - landmark.x, item.y - landmark.y):
                    yield from _related(scene, index, other, phrase)


def _related(scene: Scene, index: int, other: int, phrase: str) -> Iterator[Expression]:
    item, landmark = scene.objects[index], scene.objects[other]
    for look in looks(item):
        others = [o for i, o in enumerate(scene.objects) if i not in (index, other) and look.fits(o)]
        # A rival on the wrong side of the landmark only, by the looser reading "anywhere on that side".
        if not others or any(_loosely(phrase, o, landmark) for o in others):
            continue
        for mark in looks(landmark, least=2):
            if _only(scene, other, mark.fits) and not look.fits(landmark):
                yield Expression(f"the {look.words} {phrase} the {mark.words}", "relation", index)


def _loosely(phrase: str, item: SceneObject, landmark: SceneObject) -> bool:
    dx, dy = item.x - landmark.x, item.y - landmark.y
    return {"left of": dx < 0, "right of": dx > 0, "above": dy < 0, "below": dy > 0}[phrase]


def _superlative(scene: Scene) -> Iterator[Expression]:
    for word, value in EXTREMES.items():
        for index, item in enumerate(scene.objects):
            for look in looks(item, least=0):
                if look.size is not None:
                    continue
                others = [o for i, o in enumerate(scene.objects) if i != index and look.fits(o)]
                if others and all(value(item) >= value(o) + 1 for o in others):
                    yield Expression(f"the {word} {look.words}", "superlative", index)


_CANDIDATES: dict[ExpressionKind, Callable[[Scene], Iterator[Expression]]] = {
    "attribute": _attribute,
    "location": _location,
    "relation": _relation,
    "superlative": _superlative,
}
