"""What is known of an expression beside its truth, for the slices of a report: its place words, length, target, rivals.

Every data set has ``words``, ``place`` and, where the truth is known, ``target_area``; with object classes there are
``distractors`` too. Data sets add facts of their own, named in their readers.
"""

from __future__ import annotations

from functools import lru_cache

from refam_analysis.evaluation.datasets.base import Fact
from refam_analysis.evaluation.datasets.rle import Rle, mask_area
from refam_analysis.prompts.magnets import make_prompt
from refam_analysis.prompts.places import places


def sentence_facts(text: str) -> dict[str, Fact]:
    """What the sentence alone tells.

    Args:
        text: the expression.

    Returns:
        ``words``: its length in words, punctuation not counted; ``place``: 1 where it says where in the picture its
        target is (see :func:`refam_analysis.prompts.places.places`), else 0.

    Raises:
        EmptyExpressionError: it has no visible character.

    >>> sentence_facts("the dog on the left, sleeping")
    {'words': 6, 'place': 1}
    """
    words, place = _read(text)
    return {"words": words, "place": place}


# Short expressions ("left", "man on right") come back hundreds of times in RefCOCO.
@lru_cache(maxsize=1 << 16)
def _read(text: str) -> tuple[int, int]:
    words = [word for word in make_prompt(text).words if any(letter.isalnum() for letter in word.text)]
    return len(words), int(bool(places(text)))


def area_share(mask: Rle) -> float:
    """The share of the picture that a mask covers, in [0, 1].

    >>> area_share({"size": [2, 2], "counts": b"22"})
    0.5
    """
    height, width = mask["size"]
    return mask_area(mask) / (height * width)


def place_kind(facts: dict[str, Fact]) -> str:
    """Say "place" where a sentence names one, "no place" elsewhere: the kind in data sets that have none of their own.

    >>> place_kind({"place": 1})
    'place'
    """
    return "place" if facts["place"] else "no place"
