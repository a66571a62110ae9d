"""Words of place: where in the picture an expression says that its target is.

Here is what a place means along the two axes of the picture. Which words speak of one is found out in `mentions`; the
prior that places put on a heatmap is in :mod:`refam_analysis.segmentation.spatial_bias`.
"""

from __future__ import annotations

from dataclasses import dataclass

from refam_analysis.prompts.lexicon import lexicon
from refam_analysis.prompts.magnets import make_prompt
from refam_analysis.prompts.mentions import Mention, mentions

SIDE_SPREAD = 0.5
"""Of "left": halfway across the picture the prior is exp(-1/2) = 0.61, at the other side exp(-2) = 0.14."""
EXTREME_SPREAD = 0.35
"""Of "leftmost": 0.36 halfway, 0.02 at the other side."""
MIDDLE_SPREAD = 0.25
"""Of "middle": exp(-2) = 0.14 at the picture's sides."""
COUNTED_SPREAD = 0.25
"""Of "second from the left"."""
DEPTH_SPREAD = 1.0
"""Of "front" and "behind", which say little about the height in a picture: exp(-1/2) = 0.61 at the other side."""


@dataclass(frozen=True)
class Along:
    """What a place says about one axis of the picture.

    Attributes:
        position: the likeliest one, in shares of the picture's side: 0 is its left or its top, 1 its right or bottom.
        spread: standard deviation of the normal curve around it, in the same unit.
        either_end: the position may be counted from the other end too ("in the corner").
    """

    position: float
    spread: float
    either_end: bool = False


@dataclass(frozen=True)
class Place:
    """A place in the picture that an expression names.

    Attributes:
        text: the words that name it, as written.
        words: their indices into ``make_prompt(expression).words``, rising; see ``NounPhrase.words``.
        x: from left to right; None where the place says nothing about it.
        y: from top to bottom; likewise.
    """

    text: str
    words: tuple[int, ...]
    x: Along | None
    y: Along | None


SIDES: dict[str, tuple[str, float]] = {
    "left": ("x", 0.0), "leftmost": ("x", 0.0), "right": ("x", 1.0), "rightmost": ("x", 1.0),
    "top": ("y", 0.0), "upper": ("y", 0.0), "above": ("y", 0.0), "topmost": ("y", 0.0), "uppermost": ("y", 0.0),
    "highest": ("y", 0.0), "bottom": ("y", 1.0), "lower": ("y", 1.0), "below": ("y", 1.0), "bottommost": ("y", 1.0),
    "lowermost": ("y", 1.0), "lowest": ("y", 1.0),
}  # fmt: skip
SUPERLATIVES = frozenset(("leftmost", "rightmost", "topmost", "uppermost", "highest", "bottommost", "lowermost",
                           "lowest"))  # fmt: skip
DEPTHS: dict[str, float] = {
    **dict.fromkeys(("front", "foreground", *lexicon("near_words")), 1.0),
    **dict.fromkeys(("back", "background", "rear", "behind", "distance", "distant", *lexicon("far_words")), 0.0),
}
"""What is near the camera stands lower in most pictures, what is far away higher."""
_MIDDLES = frozenset(("middle", "center", "centre", "central"))


def places(expression: str) -> tuple[Place, ...]:
    """The places in the picture at which an expression says that its target is.

    Read are sides ("left", "top", "upper"), extremes ("leftmost", "far left", "on the very right", "closest to the
    bottom"), the middle, corners, counted places ("second from the left"), and depth ("front", "behind", "nearest",
    "far", "closest to us"), which becomes a weak guess about the height: what is near the camera stands lower. Words
    that stand together are one place ("top left corner").

    Not read, because they say nothing about where in the picture the target is:

    - negated places: "not the left one", "except the one on the left". The negation reaches to the next comma, "but" or
      verb; a negated look ("not red, on the left") or garment ("with no hat on the left") does not reach a place;
    - directions of motion and gaze: "walking to the left", "turning right", "towards the left", "coming from the left",
      "facing left", "from left to right", "left-facing". But "walking on the left" is a place;
    - relations to something else: "left of the tree", "to the right of the dog", "on his left", "on top of the car",
      "behind the bus", "in the middle of the road", "the left side of the pizza". Only where the something is the
      picture ("the left side of the photo") or a group ("the left one of the two") is it a place;
    - a person's or a thing's own side: "his left hand", "right leg", "front wheel"; "left-hand side" and the
      "left-hand bag" are places, "right-handed" is not;
    - other meanings: "the one left over", "only one left", "left behind", "right behind", "right next to",
      "a tank top", "middle-aged", "back to the camera".

    A place behind another thing ("the man behind the car on the left") is taken for the target's: it is either the
    target's, or that of a thing beside it.

    Args:
        expression: the referring expression.

    Returns:
        In the order of the expression; empty where it names none.

    Raises:
        EmptyExpressionError: the expression has no visible character.

    >>> [place.text for place in places("the second dog from the left at the bottom, not the one on the right")]
    ['second from the left', 'at the bottom']
    >>> places("a goose walking to the left")
    ()
    """
    words = make_prompt(expression).words
    found = []
    for mention in mentions([word.text for word in words]):
        x, y = _meaning(mention)
        if x or y:
            found.append(Place(" ".join(words[i].text for i in mention.words), mention.words, x, y))
    return tuple(found)


def _meaning(mention: Mention) -> tuple[Along | None, Along | None]:
    """What the words that stand together say about x and about y."""
    axes: dict[str, Along] = {}
    for word in mention.core:
        if word in SIDES and SIDES[word][0] not in axes:
            axis, end = SIDES[word]
            axes[axis] = _towards(end, mention.rank, extreme=mention.is_extreme or word in SUPERLATIVES)
    for word in mention.core:
        if word in DEPTHS:
            axes.setdefault("y", Along(_counted(DEPTHS[word], mention.rank or 1), DEPTH_SPREAD))
    if "corner" in mention.core:
        for axis in ("x", "y"):
            axes.setdefault(axis, Along(0.0, SIDE_SPREAD, either_end=True))
    if mention.core == ("end",):
        axes["x"] = Along(0.0, SIDE_SPREAD, either_end=True)
    if not _MIDDLES.isdisjoint(mention.core):
        for axis, other in (("x", "row"), ("y", "column")):
            if other not in mention.core:
                axes.setdefault(axis, Along(0.5, MIDDLE_SPREAD))
    return axes.get("x"), axes.get("y")


def _towards(end: float, rank: int | None, *, extreme: bool) -> Along:
    """A place at one end of an axis, or counted from it."""
    if rank is not None and rank > 1:
        return Along(_counted(end, rank), COUNTED_SPREAD)
    return Along(end, EXTREME_SPREAD if extreme or rank == 1 else SIDE_SPREAD)


def _counted(end: float, rank: int) -> float:
    """Where the thing of a rank is, counted from an end; the first is at the end itself.

    How many things there are is not said. One counts from the nearer end, so for rank k there are hardly less than
    2k - 1: it is taken to be the k-th of 2k things spread evenly, in the middle of its share, at (k - 1/2) / 2k.
    """
    if rank == 1:
        return end
    share = (rank - 0.5) / (2 * rank)
    return share if end == 0.0 else 1.0 - share
