"""What a run of a benchmark is: everything that its rows follow from, as plain values that fit into JSON.

Two runs with the same configuration, models and versions have the same table. How it is carried out (where the data
set lies, what happens on an error, on how many machines) is not part of it.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refam_analysis.errors import RefamError
from refam_analysis.prompts.magnets import DEFAULT_MAGNETS


class RunConfigurationError(RefamError, ValueError):
    """A configuration that means nothing."""


@dataclass(frozen=True)
class RunConfiguration:
    """What is measured.

    Attributes:
        dataset: name, as ``load_dataset`` takes it.
        split: of the data set.
        root: folder of the release; None where the data set needs none. A run may go on with another one.
        model: what ``load_model`` takes, as text.
        segmenter: what ``load_segmenter`` takes, as text; None for the one that ships for the scenes that the model
            knows.
        propagation: how clips are followed, what ``load_propagator`` takes, as text.
        magnets: appended to every expression.
        noun_phrase: the switch NP; None for what the model's settings say.
        spatial_bias: the switch SB: a strength, True or False, or None, as for ``segment``.
        gas: what is done to sinks; None for what the model's settings say.
        mask_choice: among the segmenter's candidates, as for ``segment``.
        settings: entries of ``HeatmapSettings`` that differ from the model's own, by name.
        seed: of the noise; see :meth:`seed_of`.
        limit: the first so many images or clips; None for all.
        batch_size: expressions a forward pass. The rounding of matrix products depends on it.

    >>> RunConfiguration("scenes", "test", limit=50).magnets == DEFAULT_MAGNETS
    True
    """

    dataset: str
    split: str
    root: str | None = None
    model: str = "embedded"
    segmenter: str | None = None
    propagation: str = "reprompting"
    magnets: tuple[str, ...] = DEFAULT_MAGNETS
    noun_phrase: bool | None = None
    spatial_bias: bool | float | None = None
    gas: str | None = None
    mask_choice: str = "score"
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    limit: int | None = None
    batch_size: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "magnets", tuple(self.magnets))
        if self.limit is not None and self.limit < 1:
            raise RunConfigurationError(f"limit={self.limit} leaves nothing to measure: give 1 or more, or none.")
        if self.batch_size < 1:
            raise RunConfigurationError(f"batch_size={self.batch_size} is no number of expressions: give 1 or more.")

    def seed_of(self, key: str) -> int:
        """The seed of the noise on one image: from its key, so that it is the same in every order and on every machine.

        >>> RunConfiguration("scenes", "test").seed_of("scene-000000")
        2092802710
        """
        return (self.seed * 1_000_003 + zlib.crc32(key.encode())) % 2**31

    def entries(self) -> dict[str, Any]:
        """As plain values, without the folder."""
        plain = dataclasses.asdict(self)
        del plain["root"]
        return {**plain, "magnets": list(self.magnets), "settings": dict(self.settings)}
