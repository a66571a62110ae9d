"""One scene's keys: what each draws from both sides, how far it exceeds its peers, and how evenly its own row spreads.

Here a recording becomes a few numbers a (block, key). What is called a sink, over scenes, is decided in `sinks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.analysis.entropy import entropy_by_row
from refam_analysis.analysis.positions import FIRST_TOKEN, Side, positions, roles
from refam_analysis.analysis.received import received_by_key, uniformity_by_key
from refam_analysis.analysis.units import block_numbers, number_of_keys, query_sides
from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]
Reference = Literal["side", "kind", "all"]

REFERENCES = {
    "side": "median over the keys of the same side",
    "kind": "median over the keys of the same kind",
    "all": "median over all keys",
}
"""What each reference is, in words."""

FLOOR = 1e-6
"""A key that draws less than a millionth of uniform is taken to draw that: logarithms and ratios stay finite."""

_FEWEST = 5  # keys of a kind whose median is a reference; of fewer it would be about the key itself


class UnknownReferenceError(RefamError, ValueError):
    """Keys were to be compared with something that is none of :data:`REFERENCES`."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"The reference is {reference!r}. Choose from {', '.join(map(repr, REFERENCES))}.")


@dataclass(frozen=True)
class KeyEffects:
    """What one recording says about its keys, means over heads and steps of the conditional branch.

    Attributes:
        table: a row a key, from :func:`~refam_analysis.analysis.positions.positions`, with its ``role``.
        blocks: their numbers.
        sides: that the model has queries of.
        reference: what "its peers" are.
        values: by name, each (block, key). For each side ``mass_from_...`` (1 = as uniform), ``uniformity_from_...``
            and ``log_effect_from_...``, the logarithm of the mass over the median mass of its peers; ``row_evenness``,
            the entropy of the row of the same token as a share of log(number of keys), and ``row_excess``, that minus
            its mean over the tokens of the same side. NaN where the recording cannot say.
    """

    table: pd.DataFrame
    blocks: list[int]
    sides: list[Side]
    reference: Reference
    values: Mapping[str, Floats]

    def log_effect(self) -> Floats:
        """The logarithm of the effect on the weaker side, (block, key)."""
        effect: Floats = np.min([self.values[f"log_effect_from_{side}"] for side in self.sides], axis=0)
        return effect

    def margins(self, minimum_effect: float, minimum_mass: float) -> dict[Side, Floats]:
        """For each side log(m / max(minimum_effect * r, minimum_mass)), (block, key), with r the reference.

        Args:
            minimum_effect: times the reference.
            minimum_mass: 1 = as uniform; 0 for none.
        """
        least = np.log(minimum_mass) if minimum_mass > 0 else -np.inf
        return {
            side: np.minimum(
                self.values[f"log_effect_from_{side}"] - np.log(minimum_effect),
                np.log(self.values[f"mass_from_{side}"]) - least,
            )
            for side in self.sides
        }

    def strength(self, minimum_effect: float, minimum_mass: float) -> Floats:
        """The smaller side's log(m / max(r, minimum_mass / minimum_effect)), (block, key)."""
        smallest: Floats = np.min(list(self.margins(minimum_effect, minimum_mass).values()), axis=0)
        return smallest + np.log(minimum_effect)

    def clears(self, minimum_effect: float, minimum_mass: float, minimum_uniformity: float) -> NDArray[np.bool_]:
        """Whether a key clears every bar from every side in this scene alone, (block, key); a NaN evenness does."""
        clear: NDArray[np.bool_] = np.min(list(self.margins(minimum_effect, minimum_mass).values()), axis=0) >= 0
        for side in self.sides:
            clear &= ~(self.values[f"uniformity_from_{side}"] < minimum_uniformity)
        return clear

    def with_first_token(self) -> KeyEffects:
        """The same with the first text token a second time, under the role that it has in every scene."""
        places = np.arange(len(self.table))
        places = np.append(places, np.flatnonzero((self.table["side"] == "text").to_numpy())[:1])
        table = self.table.iloc[places].reset_index(drop=True)
        table.loc[len(self.table) :, "role"] = FIRST_TOKEN
        values = {name: each[:, places] for name, each in self.values.items()}
        return replace(self, table=table, values=values)

    def at_blocks(self, places: slice) -> KeyEffects:
        """The same of some blocks, by their places, not their numbers."""
        values = {name: each[places] for name, each in self.values.items()}
        return replace(self, blocks=self.blocks[places], values=values)


def key_effects(recording: Recording, *, reference: Reference = "side") -> KeyEffects:
    """What each key of a scene draws, how far it exceeds its peers, and how evenly its own row spreads.

    For key j of a block and one side's queries, with received mass m_j and the reference r, a median over keys,

        log_effect_j = log(m_j / r)

    Args:
        recording: with ``received_from_text`` and ``received_from_image``, or ``full``.
        reference: "side": the median over the keys of the same side (text or image); "kind": over those of the same
            kind, or of the side where the kind has fewer than 5; "all": over all keys.

    Returns:
        See :class:`KeyEffects`. A mass or a reference below 1e-6 is taken to be that.

    Raises:
        QuantityMissingError: a side's received mass was not kept.
        UnknownReferenceError: there is no such reference.
    """
    if reference not in REFERENCES:
        raise UnknownReferenceError(reference)
    sides = query_sides(recording)
    values: dict[str, Floats] = {}
    table = pd.DataFrame()
    blocks: list[int] = []
    for side in sides:
        received = received_by_key(recording, from_queries=side)
        if table.empty:
            blocks = block_numbers(received)
            table = positions(received, "key")
            table = table.assign(role=roles(table, recording.layout))
        mass = np.maximum(_by_key(received), FLOOR)
        peers = np.maximum(_reference(mass, table, reference), FLOOR)
        even = uniformity_by_key(recording, from_queries=side)
        values[f"mass_from_{side}"] = mass
        values[f"log_effect_from_{side}"] = np.log(mass / peers)
        values[f"uniformity_from_{side}"] = np.full(mass.shape, np.nan) if even is None else _by_key(even)
    values["row_evenness"], values["row_excess"] = _rows(recording, table, len(blocks))
    return KeyEffects(table, blocks, sides, reference, values)


def _by_key(array: xr.DataArray) -> Floats:
    """The mean over heads and steps of the conditional branch, (block, key)."""
    means: Floats = array.isel(branch=0).mean(["step", "head"]).transpose("block", "key").values
    return means


def _reference(mass: Floats, table: pd.DataFrame, reference: Reference) -> Floats:
    """The median over a key's peers, for every block and key."""
    if reference == "all":
        return np.broadcast_to(np.median(mass, axis=1, keepdims=True), mass.shape)
    peers = np.empty_like(mass)
    for column in ("side",) if reference == "side" else ("side", "kind"):  # a kind with enough keys replaces its side
        for name in table[column].unique():
            among = (table[column] == name).to_numpy()
            if column == "side" or among.sum() >= _FEWEST:
                peers[:, among] = np.median(mass[:, among], axis=1, keepdims=True)
    return peers


def _rows(recording: Recording, table: pd.DataFrame, blocks: int) -> tuple[Floats, Floats]:
    """Evenness of the row of the token at each key, and its excess over its side; NaN where a key is no query."""
    evenness = np.full((blocks, len(table)), np.nan)
    if "entropy" in recording or "full" in recording:
        entropy = entropy_by_row(recording).isel(branch=0).mean(["step", "head"]).transpose("block", "query")
        _, at_query, at_key = np.intersect1d(entropy["query"].values, table["position"], return_indices=True)
        evenness[:, at_key] = entropy.values[:, at_query] / np.log(number_of_keys(recording))
    excess = np.full(evenness.shape, np.nan)
    side, known = table["side"].to_numpy(), np.isfinite(evenness).all(axis=0)
    for name in np.unique(side[known]):
        among = known & (side == name)
        excess[:, among] = evenness[:, among] - evenness[:, among].mean(axis=1, keepdims=True)
    return evenness, excess
