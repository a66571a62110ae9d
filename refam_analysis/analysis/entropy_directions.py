"""Row entropy by direction: how evenly queries of one side attend within the keys of one side, and how much.

The entropy of whole rows mixes two questions: which side a query reads, and what it reads there. Here they are apart.
Whole rows are in `entropy`; from which block on a curve stays low is in `change_point`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import entr

from refam_analysis.analysis.entropy import AXES, keeps_each_head, side_entropy_of, table_over_scenes, with_axes
from refam_analysis.analysis.positions import Side, sides_along
from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]
Curve = Literal["text", "image", "text_to_text", "text_to_image", "image_to_text", "image_to_image"]
"""Whose normalised entropy a profile over blocks shows: that of the whole rows of a side, or that of a direction."""

DIRECTIONS: Mapping[str, tuple[Side, Side]] = {
    "text_to_text": ("text", "text"),
    "text_to_image": ("text", "image"),
    "image_to_text": ("image", "text"),
    "image_to_image": ("image", "image"),
}
"""Direction -> (side of the queries, side of the keys)."""

DIRECTION_MEASURES: Sequence[str] = ("entropy", "normalised", "mass")
"""In nats; divided by log(number of keys of the side); the share of the row that goes to the side."""

_ALL_TO_ONE_SIDE = ("separate", "cross", "text_only")
"""Attentions whose every softmax runs over keys of one side: all of a row goes there."""


class DirectionMissingError(RefamError, KeyError):
    """A recording does not show how evenly a side is attended to."""

    def __init__(self, wanted: str, shown: Sequence[str], kept: Sequence[str]) -> None:
        super().__init__(
            f"The entropy of {wanted} is not in this recording. It shows: {', '.join(shown) or 'none'}. Kept were "
            f"{', '.join(kept)}; record again with keep=['entropy_over_text', 'entropy_over_image', 'mass_on_text'] as "
            "far as the model has them, or with the maps of the direction and heads='each'."
        )

    def __str__(self) -> str:
        """The sentence as it is: KeyError would quote it."""
        return str(self.args[0])


def direction_entropy_of(recording: Recording) -> xr.DataArray:
    """One scene's entropy within each side, and mass on it, in every step, block and head.

    For query i and the keys j of one side,

        mass_i    = sum_j attention[i, j]
        entropy_i = -sum_j p_ij log p_ij,  p_ij = attention[i, j] / mass_i

    so entropy says how evenly the query reads that side, whatever share of its attention goes there. The entropy of a
    whole row is that of its masses plus the entropies within the sides, weighted by mass (the chain rule). A row that
    a mask keeps from a side altogether counts as 0 there.

    Args:
        recording: with ``entropy_over_text`` and ``entropy_over_image`` (and ``mass_on_text``), or with the maps of a
            direction, or with ``full``. Maps that are means over heads do not do, since the entropy of a mean is not
            the mean of the entropies. The conditional branch counts, and those queries that were kept.

    Returns:
        Axes (direction, measure, step, block, head), float64, means over queries. ``direction`` has those that the
        recording shows (with separate attentions none from text queries), ``measure`` is :data:`DIRECTION_MEASURES`.
        "mass" is 1 where every softmax runs over one side, and NaN where nothing kept tells it. "normalised" is divided
        by the logarithm of the number of keys that are attended to at all, so that padding behind a mask does not
        count, where received mass, a map or ``full`` was kept to tell them; of all keys of the side where not. It is
        NaN where there is one key only.

    Raises:
        DirectionMissingError: nothing that was kept shows any direction.

    Source: Shannon, A Mathematical Theory of Communication, 1948, section 6, property 5 (the chain rule).
    """
    shown: dict[str, Floats] = {}
    for name, (queries, keys) in DIRECTIONS.items():
        nats, mass = _entropy_and_mass(recording, queries, keys)
        if nats is None:
            continue
        count = _keys_attended_to(recording, queries, keys)
        uniform = np.log(count) if count > 1 else np.nan
        shown[name] = np.stack([nats, nats / uniform, np.full_like(nats, np.nan) if mass is None else mass])
    if not shown:
        raise DirectionMissingError("any direction", (), recording.kept)
    first = {"direction": list(shown), "measure": DIRECTION_MEASURES}
    return with_axes(np.stack(list(shown.values())), first, recording[recording.kept[0]])


def entropy_by_direction(
    recordings: Recording | Iterable[Recording],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How evenly each side attends within each side, and how much attention goes there, by block over scenes.

    A scene's value is the mean over its queries of the side, heads and steps, see :func:`direction_entropy_of`.

    Args:
        recordings: one, or one a scene, read one after the other.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (block, direction, measure): ``block``, ``direction`` ("text_to_text", "text_to_image",
        "image_to_text", "image_to_image", as far as the recordings show them), ``measure`` ("entropy", nats;
        "normalised", 1 is uniform over the side; "mass", share of the row), ``value``, ``low``, ``high``, ``scenes``.
        Rows that no scene has are left out.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks and directions.
        DirectionMissingError: a recording shows no direction.
    """
    by = ("block", "direction", "measure")
    table = table_over_scenes(
        recordings, direction_entropy_of, by, confidence=confidence, resamples=resamples, seed=seed
    )
    present = table[table["scenes"] > 0].reset_index(drop=True)
    present.attrs.update(table.attrs)
    return present


def entropy_profile_of(recording: Recording, curve: Curve) -> xr.DataArray:
    """One scene's normalised entropy, block by block: what a change point is looked for in.

    Args:
        recording: see :func:`direction_entropy_of`; for the curve of a side, with ``entropy`` or ``full``.
        curve: a side, for the whole rows of its queries, or a direction.

    Returns:
        Axes (block), float64, in [0, 1], mean over queries, heads and steps; NaN where a side has one key.

    Raises:
        DirectionMissingError: the recording does not show this curve.
        KeyError: a side was asked for, and neither entropy nor full attention was kept.
    """
    axis = "direction" if curve in DIRECTIONS else "from_queries"
    found = direction_entropy_of(recording) if curve in DIRECTIONS else side_entropy_of(recording)
    if curve not in found[axis].values:
        known = [name for name in get_args(Curve) if name in found[axis].values]
        raise DirectionMissingError(curve, known, recording.kept)
    chosen = found.sel({axis: curve, "measure": "normalised"}, drop=True)
    return chosen.mean(["step", "head"], skipna=False)


def _entropy_and_mass(recording: Recording, queries: Side, keys: Side) -> tuple[Floats | None, Floats | None]:
    """Both (step, block, head), None for what the recording does not show."""
    nats = _kept(recording, f"entropy_over_{keys}", queries)
    mass = _kept_mass(recording, queries, keys)
    if recording.layout.attention in _ALL_TO_ONE_SIDE and nats is not None:
        mass = np.ones_like(nats)
    if nats is not None and mass is not None:
        return nats, mass
    part = _part(recording, queries, keys)
    if part is None:
        return nats, mass
    summed_nats, summed_mass = _summed(*part)
    if nats is None and keeps_each_head(recording):
        nats = summed_nats
    return nats, summed_mass if mass is None else mass


def _kept(recording: Recording, name: str, queries: Side) -> Floats | None:
    """Mean of a quantity over the queries of a side."""
    if name not in recording:
        return None
    values = recording[name].isel(branch=0)
    rows = np.flatnonzero(sides_along(values, "query") == queries)
    if not len(rows):
        return None
    means: Floats = values.isel(query=rows).astype(np.float64).mean("query").transpose(*AXES).values
    return means


def _kept_mass(recording: Recording, queries: Side, keys: Side) -> Floats | None:
    on_text = _kept(recording, "mass_on_text", queries)
    if on_text is None or keys == "text":
        return on_text
    layout = recording.layout
    others = len(layout.key_positions) - layout.text_length - layout.image_length
    return np.maximum(1.0 - on_text, 0.0) if others == 0 else None


def _part(recording: Recording, queries: Side, keys: Side) -> tuple[xr.DataArray, dict[str, Any], list[str]] | None:
    """The attention of a direction: an array, which of its queries and keys to take, and the axes of the keys."""
    name, layout = f"{queries}_to_{keys}", recording.layout
    if name in recording:
        part = recording[name].isel(branch=0)
        if queries == keys:
            return part, {}, ["key"]
        if keys == "image":
            return part, {}, list(layout.grid_axes)
        if part.sizes["token"] == layout.text_length:  # a selection of words is not the whole side
            return part, {}, ["token"]
    if "full" not in recording:
        return None
    full = recording["full"].isel(branch=0)
    on = {"query": sides_along(full, "query") == queries, "key": sides_along(full, "key") == keys}
    chosen = {axis: np.flatnonzero(there) for axis, there in on.items()}
    return (full, chosen, ["key"]) if all(map(len, chosen.values())) else None


def _summed(attention: xr.DataArray, chosen: dict[str, Any], keys: list[str]) -> tuple[Floats, Floats]:
    """Entropy within the chosen keys and their mass, (step, block, head), a block at a time to spare memory."""
    found = []
    for place in range(attention.sizes["block"]):
        block = attention.isel(block=place).isel(chosen).astype(np.float64)
        mass = block.sum(keys)
        # -sum (p/m) log (p/m) = log m + sum (-p log p) / m
        spread = xr.apply_ufunc(entr, block).sum(keys) / mass.where(mass > 0)
        nats = (np.log(mass.where(mass > 0)) + spread).fillna(0.0).clip(min=0.0)
        queries = [axis for axis in mass.dims if axis not in AXES]
        found.append([each.mean(queries).transpose("step", "head").values for each in (nats, mass)])
    nats_by_block, mass_by_block = (np.stack(each, axis=1) for each in zip(*found, strict=True))
    return nats_by_block, mass_by_block


def _keys_attended_to(recording: Recording, queries: Side, keys: Side) -> int:
    """How many keys of a side get any attention from the queries; a mask gives a key exactly 0 in every block."""
    received = f"received_from_{queries}"
    if received in recording:
        first = recording[received].isel(step=0, branch=0, block=0)
        mass = first.isel(key=np.flatnonzero(sides_along(first, "key") == keys))
        axes = ["key"]
    elif (part := _part(recording, queries, keys)) is not None:
        attention, chosen, axes = part
        mass = attention.isel(step=0, block=0).isel(chosen)
    else:
        return recording.layout.text_length if keys == "text" else recording.layout.image_length
    return int((mass > 0).any([axis for axis in mass.dims if axis not in axes]).sum())
