"""How a heatmap is read from recordings: every choice by name, with the defaults and where they come from.

Only the choices are here; what they do is in :mod:`refam_analysis.segmentation.heatmap`. Which of them ground best is
searched on validation scenes by :mod:`refam_analysis.evaluation.search`, and a model folder may carry the outcome in
its ``refam.json`` under ``grounding``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from refam_analysis.errors import RefamError

Direction = Literal["image_to_text", "text_to_image"]
Normalisation = Literal["raw", "map", "share"]
Aggregation = Literal["mean", "product"]
Gas = Literal["none", "suppress", "redirect"]
Upsampling = Literal["none", "bilinear", "bicubic"]
Blocks = tuple[int, ...] | Literal["informative"]

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
GAS: tuple[Gas, ...] = get_args(Gas)
UPSAMPLINGS: tuple[Upsampling, ...] = get_args(Upsampling)

INFORMATIVE = "informative"
UPSAMPLING_FACTOR = 4
"""Cells along each axis that upsampling makes of one patch."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "direction": DIRECTIONS,
    "normalisation": NORMALISATIONS,
    "aggregation": AGGREGATIONS,
    "gas": GAS,
    "upsampling": UPSAMPLINGS,
}


class HeatmapSettingsError(RefamError, ValueError):
    """Settings that mean nothing, or nothing in this recording."""


@dataclass(frozen=True)
class HeatmapSettings:
    """How a heatmap is read.

    Attributes:
        direction: ``image_to_text``: how much each patch attends to a word. ``text_to_image``: how much a word
            attends to each patch.
        normalisation: done in every block and head, before anything is averaged. ``raw``: probabilities as they are;
            blocks with much cross-attention count most. ``map``: each token's map sums to 1 over the image; every
            token, block and head counts alike. ``share``: what a patch exchanges with the whole text sums to 1 over
            the tokens, those included that are never read (padding, magnets, stop words): this tells a patch that
            prefers a word from one that attends to the text in general.
        blocks: blocks to average over; None for all. Not together with ``heads``. "informative" stands for those that
            the change point of this model's entropy calls so, see
            :func:`~refam_analysis.segmentation.informative.informative_blocks`; what has no model at hand takes numbers
            alone, which :func:`~refam_analysis.segmentation.informative.with_numbered_blocks` puts in its place.
        heads: (block, head) pairs to average over; None for every head of ``blocks``.
        noise_levels: noise levels recorded at and averaged over, each in [0, 1].
        seeds: number of noise draws averaged over at each noise level.
        aggregation: from words to one map. ``mean``: their average. ``product``: their geometric mean, each first
            scaled to sum 1 over the image: high only where every word is ("red" and "circle").
        gas: what is done to global attention sinks while the passes run that are read: ``none``; ``suppress``: they
            are masked; ``redirect``: their mass goes onto the magnets. Which tokens count, is decided in
            :func:`~refam_analysis.segmentation.gas.handle_sinks` from one pass more.
        noun_phrase: the switch NP: of the expression only the words of its noun phrase are read, see
            :func:`~refam_analysis.segmentation.heatmap.words_to_read`.
        upsampling: of the aggregated map, by :data:`UPSAMPLING_FACTOR` along each axis, before the spatial bias and
            before the point is taken. ``bilinear`` never exceeds the largest patch, so its peak stays in it and moves
            by an eighth of a patch towards the larger neighbours; ``bicubic`` may peak anywhere between patches.
        spatial_bias: the switch SB: the strength, from 0 (off) to 1, of the prior that the expression's words of place
            put on the map, see :func:`~refam_analysis.segmentation.spatial_bias.spatial_bias`.

    The defaults are what grounded best in a first small model over all blocks; they hold where a model does not bring
    its own.

    >>> HeatmapSettings(blocks=[2, 3]).recorded_blocks
    (2, 3)
    """

    direction: Direction = "image_to_text"
    normalisation: Normalisation = "share"
    blocks: Blocks | None = None
    heads: tuple[tuple[int, int], ...] | None = None
    noise_levels: tuple[float, ...] = (0.6,)
    seeds: int = 1
    aggregation: Aggregation = "mean"
    gas: Gas = "none"
    noun_phrase: bool = False
    upsampling: Upsampling = "none"
    spatial_bias: float = 0.0

    def __post_init__(self) -> None:
        """Turn lists (as JSON has them) into tuples, and refuse what means nothing."""
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise HeatmapSettingsError(f"{name}={getattr(self, name)!r} is unknown: choose {' or '.join(choices)}.")
        if isinstance(self.blocks, str) and self.blocks != INFORMATIVE:
            raise HeatmapSettingsError(f"blocks={self.blocks!r} is unknown: give numbers, None, or {INFORMATIVE!r}.")
        try:
            self._turn_lists_into_tuples()
        except (TypeError, ValueError, OverflowError) as error:
            raise HeatmapSettingsError(
                f"These heatmap settings cannot be read ({error}): blocks and noise_levels are lists of numbers, heads "
                "is a list of pairs (block, head), and spatial_bias a number."
            ) from error
        self._check()

    def _turn_lists_into_tuples(self) -> None:
        if self.blocks is not None and not isinstance(self.blocks, str):
            object.__setattr__(self, "blocks", tuple(sorted({int(block) for block in self.blocks})))
        if self.heads is not None:
            pairs = {(int(block), int(head)) for block, head in self.heads}
            object.__setattr__(self, "heads", tuple(sorted(pairs)))
        object.__setattr__(self, "noise_levels", tuple(float(level) for level in self.noise_levels))
        object.__setattr__(self, "spatial_bias", float(self.spatial_bias))

    def _check(self) -> None:
        if self.blocks is not None and self.heads is not None:
            raise HeatmapSettingsError(
                "blocks and heads are both given: heads already names its blocks, leave one out."
            )
        if self.blocks == () or self.heads == ():
            raise HeatmapSettingsError("blocks or heads is empty, so nothing is read: name some, or give None for all.")
        if not self.noise_levels or not all(0.0 <= level <= 1.0 for level in self.noise_levels):
            raise HeatmapSettingsError(f"noise_levels={self.noise_levels} must be one or more numbers from 0 to 1.")
        if not isinstance(self.seeds, int) or self.seeds < 1:
            raise HeatmapSettingsError(f"seeds={self.seeds!r} is the number of noise draws: give 1 or more.")
        if not isinstance(self.noun_phrase, bool):
            raise HeatmapSettingsError(f"noun_phrase={self.noun_phrase!r} must be true or false.")
        if not 0.0 <= self.spatial_bias <= 1.0:
            raise HeatmapSettingsError(f"spatial_bias={self.spatial_bias!r} must be a strength from 0 (off) to 1.")

    @property
    def attention_alone(self) -> HeatmapSettings:
        """The same reading of attention by all content words, as it is: without noun phrase, upsampling and prior.

        >>> HeatmapSettings(seeds=2, noun_phrase=True, spatial_bias=0.5).attention_alone == HeatmapSettings(seeds=2)
        True
        """
        return dataclasses.replace(self, noun_phrase=False, upsampling="none", spatial_bias=0.0)

    @property
    def recorded_blocks(self) -> tuple[int, ...] | None:
        """The blocks that have to be recorded; None for all.

        Raises:
            HeatmapSettingsError: they are called "informative", which depends on a model.
        """
        if isinstance(self.blocks, str):
            raise HeatmapSettingsError(
                f"blocks={self.blocks!r} depends on the model: give with_numbered_blocks(model, settings)."
            )
        if self.heads is None:
            return self.blocks
        return tuple(sorted({block for block, _ in self.heads}))

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> HeatmapSettings:
        """From plain values; what is left out keeps its default.

        Raises:
            HeatmapSettingsError: an entry is unknown or means nothing.

        >>> HeatmapSettings.from_dict({"noise_levels": [0.5]}).noise_levels
        (0.5,)
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(entries) - known):
            raise HeatmapSettingsError(
                f"Heatmap settings have no {', '.join(unknown)}; they have {', '.join(sorted(known))}."
            )
        return cls(**entries)
