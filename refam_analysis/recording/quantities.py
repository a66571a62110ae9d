"""What can be kept of an attention, as data: names, axes, and which rows and columns each one needs.

Rows are queries, columns are keys, sides are ``text`` and ``image``. How a quantity is computed is in `reductions`,
which axes it has in `labels`, how it is stored in `storage`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from refam_analysis.errors import RefamError
from refam_analysis.models.family import Family
from refam_analysis.models.layout import CALLS, Attention, Role

Side = Literal["text", "image", "all"]
Sides = Mapping[str, slice]
"""Where each side lies among the queries, or among the keys: "text", "image", and always "all"."""


@dataclass(frozen=True)
class Quantity:
    """One thing that a recording can keep.

    Attributes:
        name: what `keep` calls it.
        rows: the queries that it needs.
        columns: the keys that it needs.
        form: "map": those rows and columns themselves; "by_query": one number a row; "by_key": one number a column.
        meaning: one line for the reader, with the unit.
    """

    name: str
    rows: Side
    columns: Side
    form: Literal["map", "by_query", "by_key"]
    meaning: str


_MAP = "attention probabilities, each full row sums to 1"
QUANTITIES: Mapping[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity("full", "all", "all", "map", _MAP),
        Quantity("text_to_text", "text", "text", "map", _MAP),
        Quantity("text_to_image", "text", "image", "map", _MAP),
        Quantity("image_to_text", "image", "text", "map", _MAP),
        Quantity("image_to_image", "image", "image", "map", _MAP),
        Quantity("entropy", "all", "all", "by_query", "entropy of each query's row over all keys, in nats"),
        Quantity("entropy_over_text", "all", "text", "by_query", "entropy of the part over text keys, in nats"),
        Quantity("entropy_over_image", "all", "image", "by_query", "entropy of the part over image keys, in nats"),
        Quantity("mass_on_text", "all", "text", "by_query", "sum of each query's row over text keys"),
        Quantity("received_from_text", "text", "all", "by_key", "mean over text queries, 1 = as uniform"),
        Quantity("received_from_image", "image", "all", "by_key", "mean over image queries, 1 = as uniform"),
        Quantity("uniformity_from_text", "text", "all", "by_key", "evenness over text queries, 1 = perfectly even"),
        Quantity("uniformity_from_image", "image", "all", "by_key", "evenness over image queries, 1 = perfectly even"),
    )
}
"""Everything that can be kept, by name; what it is stands in :class:`~refam_analysis.recording.recording.Recording`."""

DEFAULT_KEEP: tuple[str, ...] = (
    "text_to_image",
    "image_to_text",
    "entropy",
    "received_from_text",
    "received_from_image",
)
"""What a joint attention keeps where nothing is asked for."""

_OVER_EACH = ("entropy_over_text", "entropy_over_image")
_BESIDE: Mapping[Attention, tuple[str, ...]] = {
    "separate": _OVER_EACH,
    "cross": _OVER_EACH,
    "text_only": ("text_to_text",),
}
"""What other attentions keep then, beside what they have of that."""

_FROM_IMAGE = ("received_from_image", "uniformity_from_image")
SHOWN_BY: Mapping[Role, tuple[str, ...]] = {
    "joint": tuple(QUANTITIES),
    "image": ("image_to_image", "entropy_over_image", *_FROM_IMAGE),
    "text": ("image_to_text", "entropy_over_text", *_FROM_IMAGE),
    "other": (),
}
"""Which quantities an attention call of a role shows. Received mass and evenness of image keys come from the first of
the separate attentions, those of text keys from the second."""

_APART = "image queries attend to image keys and to text keys apart here, each with a softmax of its own"
_NO_TEXT_QUERIES = "this model has no text queries: its text is attended to by cross-attention, and attends to nothing"
_ALONE: Mapping[Attention, Side] = {"text_only": "text", "image_only": "image"}
_ABSENT: Mapping[str, str] = {
    "full": f"{_APART}. Keep 'image_to_image' and 'image_to_text'.",
    "entropy": f"{_APART}. Keep 'entropy_over_image' and 'entropy_over_text'.",
    "mass_on_text": f"{_APART}, so each is 1.",
}


def absent_quantities(attention: Attention) -> dict[str, str]:
    """What a kind of attention does not have, and why, as half a sentence.

    >>> sorted(set(QUANTITIES) - set(absent_quantities("separate")))[:3]
    ['entropy_over_image', 'entropy_over_text', 'image_to_image']
    """
    if attention in _ALONE:
        return _absent_alone(_ALONE[attention])
    shown = {name for role in CALLS[attention] for name in SHOWN_BY[role]}
    lacking = "the attention among image tokens of this model has no softmax, or is not recorded."
    reasons = {name: f"{_NO_TEXT_QUERIES}." if QUANTITIES[name].rows == "text" else lacking for name in QUANTITIES}
    return {name: _ABSENT.get(name, reason) for name, reason in reasons.items() if name not in shown}


def absent_from(family: Family) -> dict[str, str]:
    """What a family does not have, and why: for its kind of attention, and for what is peculiar to it.

    >>> from refam_analysis.models.flux import FluxModel
    >>> absent_from(FluxModel.family)
    {}
    """
    return {**absent_quantities(family.attention), **family.absent}


def _absent_alone(side: Side) -> dict[str, str]:
    """What a refiner of one side does not have."""
    reason = f"this stack of blocks runs over the {side} alone."
    lacking = {quantity.name: reason for quantity in QUANTITIES.values() if not _is_of(quantity, side)}
    return lacking | ({"mass_on_text": "all keys are text in this stack, so each is 1."} if side == "text" else {})


def _is_of(quantity: Quantity, side: Side) -> bool:
    return {quantity.rows, quantity.columns} <= {side, "all"}


def default_keep(attention: Attention, absent: Container[str] = ()) -> tuple[str, ...]:
    """What is kept where nothing is asked for: maps, entropy and received mass, as far as the attention has them.

    >>> default_keep("cross"), default_keep("text_only")
    (('image_to_text', 'entropy_over_text', 'received_from_image'), ('text_to_text', 'entropy', 'received_from_text'))
    """
    wanted = (*DEFAULT_KEEP, *_BESIDE.get(attention, ()))
    missing = absent_quantities(attention)
    return check_names(name for name in wanted if name not in missing and name not in absent)


class UnknownQuantityError(RefamError, ValueError):
    """`keep` names something that does not exist."""

    def __init__(self, names: Iterable[str]) -> None:
        unknown = ", ".join(repr(name) for name in names)
        super().__init__(f"keep names {unknown}, which is not a quantity. Choose from {', '.join(QUANTITIES)}.")


class QuantityMissingError(RefamError, KeyError):
    """A quantity that this recording does not have; the sentence says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"There is no {name!r} here: {reason}")

    def __str__(self) -> str:  # KeyError shows the repr of its argument
        return str(self.args[0])


def check_names(keep: Iterable[str]) -> tuple[str, ...]:
    """The names of `keep`, each once, in the table's order.

    Raises:
        UnknownQuantityError: a name that is none of :data:`QUANTITIES`, or none at all.

    >>> check_names(["entropy", "full", "entropy"])
    ('full', 'entropy')
    """
    names = [keep] if isinstance(keep, str) else list(keep)
    unknown = [name for name in names if name not in QUANTITIES]
    if unknown or not names:
        raise UnknownQuantityError(unknown or ["nothing"])
    return tuple(name for name in QUANTITIES if name in names)
