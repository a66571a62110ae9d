"""What the ablation switches: its conditions, the switches between them, and the rows of the paper's table.

A condition is data. What comes of one on a scene is measured in :mod:`refam_analysis.experiments.ablation`; conditions
are compared in :mod:`refam_analysis.experiments.ablation_tables`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from refam_analysis.experiments.magnet_conditions import BASELINE, CONTROLS
from refam_analysis.experiments.magnet_conditions import Condition as Asking
from refam_analysis.segmentation.mask_choice import MASK_CHOICES, MaskChoice
from refam_analysis.segmentation.settings import GAS, Gas

MAGNETS, OTHER_WORDS = "magnets", "other words"

ASKINGS: Mapping[str, Asking] = {one.name: one for one in CONTROLS if one.name in (BASELINE, MAGNETS, OTHER_WORDS)}
"""What is appended, by name: nothing, the default magnets, or as many other words that mean something to the scenes."""

EMBEDDED = "embedded"
"""The segmenter that every scene is given to."""


@dataclass(frozen=True)
class Condition:
    """One way of asking, reading and masking. The defaults are all switches off.

    Attributes:
        words: what is appended: a name of :data:`ASKINGS`.
        gas: what is done to sinks.
        noun_phrase: the switch NP.
        spatial_bias: the switch SB.
        segmenter: what ``load_segmenter`` takes.
        mask_choice: among the segmenter's candidates.
    """

    words: str = BASELINE
    gas: Gas = "none"
    noun_phrase: bool = False
    spatial_bias: bool = False
    segmenter: str = EMBEDDED
    mask_choice: MaskChoice = "score"

    def matches(self, fields: Mapping[str, Any]) -> bool:
        """Whether it has these values."""
        return all(getattr(self, name) == value for name, value in fields.items())


FIELDS = tuple(field.name for field in dataclasses.fields(Condition))


def handlings(words: str) -> tuple[Gas, ...]:
    """What is done to sinks: redirection needs receivers, and the control is there for the magnets alone.

    >>> handlings("none"), handlings("magnets"), handlings("other words")
    (('none', 'suppress'), ('none', 'suppress', 'redirect'), ('none',))
    """
    return {BASELINE: ("none", "suppress"), MAGNETS: GAS, OTHER_WORDS: ("none",)}[words]


def conditions(segmenter: str = EMBEDDED) -> list[Condition]:
    """Every combination of the switches, with one segmenter.

    >>> len(conditions())
    48
    """
    readings = list(product((False, True), (False, True), MASK_CHOICES))
    return [
        Condition(words, gas, noun_phrase, spatial_bias, segmenter, choice)
        for words in ASKINGS
        for gas in handlings(words)
        for noun_phrase, spatial_bias, choice in readings
    ]


@dataclass(frozen=True)
class Switch:
    """What is compared with what, all else alike.

    Attributes:
        name: of the row.
        on: fields of a condition and their values with the switch.
        off: the same fields without it.
    """

    name: str
    on: Mapping[str, Any]
    off: Mapping[str, Any]

    def pairs(self, there: Collection[Condition]) -> list[tuple[Condition, Condition]]:
        """The conditions without and with the switch, the plainest pair first.

        Words of the control are no part of the method: only a switch that names them takes conditions that have them.

        Args:
            there: the conditions that were measured.
        """
        own = {value for side in (self.on, self.off) for name, value in side.items() if name == "words"}
        found = [
            (one, dataclasses.replace(one, **self.on))
            for one in there
            if one.matches(self.off) and (one.words != OTHER_WORDS or OTHER_WORDS in own)
        ]
        return sorted((pair for pair in found if pair[1] in there), key=lambda pair: self._switched(pair[0]))

    def _switched(self, condition: Condition) -> int:
        """How many of the other switches are on; the segmenter is not counted."""
        others = set(FIELDS) - set(self.on) - {"segmenter"}
        return sum(getattr(condition, name) != getattr(Condition(), name) for name in others)


def _of(name: str, field: str, on: Any, off: Any) -> Switch:
    return Switch(name, {field: on}, {field: off})


_PAPER_ON = {"words": MAGNETS, "noun_phrase": True, "spatial_bias": True}

SWITCHES: Sequence[Switch] = (
    _of("magnets", "words", MAGNETS, BASELINE),
    _of("other words", "words", OTHER_WORDS, BASELINE),
    _of("magnets against other words", "words", MAGNETS, OTHER_WORDS),
    _of("noun phrase", "noun_phrase", True, False),
    _of("spatial bias", "spatial_bias", True, False),
    _of("sinks suppressed", "gas", "suppress", "none"),
    _of("sinks redirected", "gas", "redirect", "none"),
    _of("mask by agreement", "mask_choice", "agreement", "score"),
    Switch("magnets, NP and SB", _PAPER_ON, {name: getattr(Condition(), name) for name in _PAPER_ON}),
)
"""The switches of the method, the control for the magnets, and the three of the paper's table together."""


def segmenter_switch(segmenter: str) -> Switch:
    """The switch from the embedded segmenter to another."""
    return _of("segmenter", "segmenter", segmenter, EMBEDDED)


PAPER_ROWS: Sequence[Condition] = tuple(
    Condition(MAGNETS if magnets else BASELINE, noun_phrase=noun_phrase, spatial_bias=spatial_bias)
    for magnets, noun_phrase, spatial_bias in (
        (True, True, True), (False, True, True), (True, True, False), (False, True, False), (False, False, False),
    )
)  # fmt: skip
"""The conditions of the paper's ablation, in the order of its table."""

PAPER_STEPS: Mapping[str, tuple[Condition, Condition]] = {
    "AM, beside NP and SB": (PAPER_ROWS[1], PAPER_ROWS[0]),
    "AM, beside NP": (PAPER_ROWS[3], PAPER_ROWS[2]),
    "SB, beside AM and NP": (PAPER_ROWS[2], PAPER_ROWS[0]),
    "SB, beside NP": (PAPER_ROWS[3], PAPER_ROWS[1]),
    "NP alone": (PAPER_ROWS[4], PAPER_ROWS[3]),
    "AM, NP and SB": (PAPER_ROWS[4], PAPER_ROWS[0]),
}
"""What the rows of the paper's table let one take from each other: without, with."""


def paper_name(condition: Condition) -> str:
    """The switches of a condition by the paper's names: AM magnets, NP noun phrase, SB spatial bias.

    >>> paper_name(Condition("magnets", spatial_bias=True)), paper_name(Condition())
    ('AM + SB', 'none of AM, NP, SB')
    """
    on = {"AM": condition.words == MAGNETS, "NP": condition.noun_phrase, "SB": condition.spatial_bias}
    return " + ".join(name for name, there in on.items() if there) or "none of AM, NP, SB"
