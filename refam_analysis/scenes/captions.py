"""Sentences that describe a scene, as training sees them: one, some or all of its objects, with and without place.

These are captions, not referring expressions: true of the picture, but they need not single anything out. Half of
them are nevertheless worded like one ("the red ring on the left"), as captions of photographs often are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refam_analysis.scenes.expressions import PLACES, RELATIONS, Look, expressions
from refam_analysis.scenes.scene import Scene, SceneObject

_OPENINGS = ("", "", "", "", "there is ", "a picture of ", "an image with ", "we see ", "this is ")
_JOINS = (" and ", " and ", " , ", " with ", " next to ", " , and ")


class _Shares(NamedTuple):
    """How often a phrase says what of an object."""

    size: float
    colour: float
    shape: float
    place: float


_SOME_OF_IT = _Shares(0.35, 0.8, 0.85, 0.75)
_ALL_OF_IT = _Shares(0.2, 1.0, 1.0, 0.95)


def describe(scene: Scene, rng: np.random.Generator, *, empty: float = 0.1, complete: float = 0.0) -> str:
    """A caption drawn at random.

    Args:
        scene: what to describe.
        rng: the only source of randomness.
        empty: probability of an empty caption, for classifier-free guidance.
        complete: probability that a caption which is not empty names every object, each with its colour and its shape
            and nearly always with a place; otherwise it says some things of some objects.

    Returns:
        Lower case; punctuation stands between spaces.

    >>> scene = Scene((SceneObject("star", "red", "large", 0.2, 0.5, 0.16),), "navy")
    >>> "star" in describe(scene, np.random.default_rng(3), empty=0.0)
    True
    """
    if rng.random() < empty:
        return ""
    says_all = complete > 0.0 and rng.random() < complete
    if not says_all and rng.random() < 0.12 and (text := _comparison(scene, rng)):
        return text
    order = rng.permutation(len(scene.objects))
    number = len(order) if says_all else int(rng.integers(1, len(order) + 1))
    definite = rng.random() < 0.5
    shares = _ALL_OF_IT if says_all else _SOME_OF_IT
    phrases = [_phrase(scene.objects[i], rng, "the" if definite else "a", shares) for i in order[:number]]
    text = _OPENINGS[int(rng.integers(len(_OPENINGS)))] + phrases[0]
    for phrase in phrases[1:]:
        text += _JOINS[int(rng.integers(len(_JOINS)))] + phrase
    if rng.random() < 0.3:
        text += f" on a {scene.background} background"
    return text + " ." if rng.random() < 0.4 else text


def _phrase(item: SceneObject, rng: np.random.Generator, article: str, shares: _Shares) -> str:
    look = Look(
        size=item.size if rng.random() < shares.size else None,
        colour=item.colour if rng.random() < shares.colour else None,
        shape=item.shape if rng.random() < shares.shape else None,
    )
    words = look.words
    if article == "a" and words[0] in "aeiou" and not words.startswith("one"):
        article = "an"
    fitting = [place for place, holds in PLACES.items() if holds(item.x, item.y)]
    if fitting and rng.random() < shares.place:
        words += " " + fitting[int(rng.integers(len(fitting)))]
    return f"{article} {words}"


def _comparison(scene: Scene, rng: np.random.Generator) -> str:
    """A relation or a superlative, where the scene has one; otherwise nothing."""
    if rng.random() < 0.3:
        offers = expressions(scene, "superlative")
        return offers[int(rng.integers(len(offers)))].text if offers else ""
    if len(scene.objects) < 2:
        return ""
    first, second = rng.permutation(len(scene.objects))[:2]
    item, landmark = scene.objects[first], scene.objects[second]
    for phrase, holds in RELATIONS.items():
        if holds(item.x - landmark.x, item.y - landmark.y):
            return f"{_bare(item, rng)} {phrase} {_bare(landmark, rng)}"
    return ""


def _bare(item: SceneObject, rng: np.random.Generator) -> str:
    size = item.size if rng.random() < 0.3 else None
    return ("the " if rng.random() < 0.6 else "a ") + Look(size, item.colour, item.shape).words
