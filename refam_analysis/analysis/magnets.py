"""What magnets do: how much attention each kind of token holds, without magnets and with them, and what each one takes.

The account is of mass, and it balances: the shares of all kinds sum to 1, so what one kind gains others lose. From
which tokens and regions to which it moves is in `redistribution`, whether the maps get better in `sharpness`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.analysis.paired import paired_changes
from refam_analysis.analysis.positions import Side, positions, roles
from refam_analysis.analysis.received import received_by_key
from refam_analysis.analysis.regions import REGIONS
from refam_analysis.analysis.statistics import bootstrap_interval, scene_mean
from refam_analysis.analysis.tables import over_scenes
from refam_analysis.analysis.units import (
    RecordingsDifferError,
    block_numbers,
    each_recording,
    query_sides,
    same_blocks,
    same_sides,
)

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]

KINDS = ("content", "magnet", "stop", "punctuation", "special", "padding", "template", "unknown", "image", "other")
"""The accounts, in the order of the table; every key is in exactly one (see :func:`positions`)."""

ALL_MAGNETS = "all magnets"
"""The row of :func:`magnet_shares` that has them together."""


def share_by_key(recording: Recording, *, from_queries: Side) -> xr.DataArray:
    """The probability that an average query of one side puts on each key: received mass as a share of its sum.

    Where text and image keys have a softmax each (separate attentions), these are the shares of that over text keys,
    among which magnets compete; image keys are left out.

    Args:
        recording: with received mass or full attention kept.
        from_queries: the side.

    Returns:
        Axes (block, key), float64, with the labels of the keys; mean over steps and heads; sums to 1 over ``key``.

    Raises:
        KeyError: neither was kept, or the model has no queries of that side.
    """
    mass = received_by_key(recording, from_queries=from_queries).isel(branch=0).mean(["step", "head"])
    if recording.layout.attention == "separate":
        mass = mass.isel(key=np.flatnonzero(positions(mass, "key")["side"] == "text"))
    return (mass / mass.sum("key")).transpose("block", "key")


def mass_shares(recording: Recording, *, from_queries: Side) -> xr.DataArray:
    """The share of one side's attention that each kind of token holds.

    share_K = sum over keys j of kind K of p_j, with p_j the probability that an average query of that side puts on j.

    Args:
        recording: with received mass or full attention kept.
        from_queries: the side.

    Returns:
        Axes (block, kind), no unit; sums to 1 over ``kind``. A kind that the prompt lacks holds 0.

    Raises:
        KeyError: see :func:`share_by_key`.
    """
    mass = share_by_key(recording, from_queries=from_queries)
    kinds = positions(mass, "key")["kind"].to_numpy()
    shares = np.stack([mass.values[:, kinds == kind].sum(axis=1) for kind in KINDS], axis=1)
    return xr.DataArray(shares, dims=("block", "kind"), coords={"block": mass["block"].values, "kind": list(KINDS)})


def mass_by_kind(
    recordings: Recording | Iterable[Recording],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How much mass each kind of token holds in each block, over scenes.

    Args:
        recordings: one, or one a scene, read one after the other.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (block, query side, kind): ``block``, ``from_queries``, ``kind``, ``value`` (mean share, see
        :func:`mass_shares`), ``low``, ``high``, ``keys`` (mean number of keys of the kind, so that value / keys is the
        mass of one), ``scenes``. Kinds that no scene has are left out.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings differ in blocks or sides.
    """
    shares, keys, blocks, sides = _account(recordings)
    flat = shares.reshape(len(shares), -1)
    low, high = bootstrap_interval(flat, confidence=confidence, resamples=resamples, seed=seed)
    table = _rows(blocks, sides)
    table["value"], table["low"], table["high"] = scene_mean(flat), low, high
    return _finish(table, keys, confidence)


def mass_moved(
    without: Recording | Iterable[Recording],
    with_magnets: Recording | Iterable[Recording],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """What each kind of token gains or loses when magnets are appended, paired over scenes.

    Within a scene and block the changes of all kinds sum to zero. Where prompts are padded to a fixed length, magnets
    take the places of padding tokens: ``keys`` and ``keys_with_magnets`` say how many.

    Args:
        without: one a scene.
        with_magnets: the same scenes in the same order, with magnets appended.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random sign flips over scenes.
        seed: of draws and flips.

    Returns:
        A row a (block, query side, kind): ``block``, ``from_queries``, ``kind``, ``without``, ``with_magnets`` (mean
        shares), ``change`` (mean of the paired differences), ``low``, ``high`` (its interval), ``p`` (two-sided, by
        sign flips), ``q`` (over all rows), ``keys``, ``keys_with_magnets``, ``scenes``. p and q are NaN for one scene.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: not the same number of scenes, blocks or sides.
    """
    before, keys, blocks, sides = _account(without)
    after, keys_after, blocks_after, sides_after = _account(with_magnets)
    if before.shape != after.shape or blocks != blocks_after or sides != sides_after:
        raise RecordingsDifferError(
            f"Without magnets there are {len(before)} recordings of blocks {blocks}, with magnets {len(after)} of "
            f"blocks {blocks_after}: give the same scenes in the same order, recorded in the same blocks."
        )
    numbers = (keys.mean(axis=0), keys_after.mean(axis=0))
    held = np.tile(numbers[0] + numbers[1] > 0, before[0].size // len(KINDS))  # leave out what no scene has
    first, second = (shares.reshape(len(shares), -1)[:, held] for shares in (before, after))
    table = paired_changes(
        first, second, _rows(blocks, sides)[held],
        confidence=confidence, resamples=resamples, flips=flips, seed=seed,
    )  # fmt: skip
    for name, number in zip(("keys", "keys_with_magnets"), numbers, strict=True):
        table[name] = table["kind"].map(dict(zip(KINDS, number, strict=True)))
    return table


def magnet_shares_of(recording: Recording, regions: xr.DataArray) -> xr.DataArray:
    """How much of the attention of target, distractors and background each magnet takes, in one scene.

    With w_i the share of image token i that lies in a region,

        share = sum_i w_i attention[i, magnet] / sum_i w_i

    mean over heads and steps; the pieces of a magnet are added up.

    Args:
        recording: with ``image_to_text`` kept.
        regions: of the same scene, from :func:`~refam_analysis.analysis.regions.region_shares`.

    Returns:
        Axes (block, queries, magnet): ``queries`` are :data:`~refam_analysis.analysis.regions.REGIONS`, ``magnet`` the
        roles of the magnets in the order of the prompt, and :data:`ALL_MAGNETS` last. A region that the scene lacks is
        NaN; without magnets all of them together take 0.

    Raises:
        QuantityMissingError: ``image_to_text`` was not kept.
    """
    attention = recording["image_to_text"].isel(branch=0).mean(["step", "head"], dtype=np.float64)
    weights = regions.where(regions.sum(regions.dims[1:]) > 0)
    each = xr.dot(attention, weights / weights.sum(regions.dims[1:], skipna=False), dim=regions.dims[1:])
    labels = positions(attention, "token")
    names = [re.sub(r" \[\d+\]$", "", role) for role in roles(labels, recording.layout)]
    magnets = [(place, names[place]) for place in np.flatnonzero(labels["kind"] == "magnet")]
    order = list(dict.fromkeys(name for _, name in magnets))
    taken = np.zeros((each.sizes["block"], len(REGIONS), len(order) + 1))
    values = each.transpose("block", "region", "token").values
    for place, name in magnets:
        taken[..., order.index(name)] += values[..., place]
    taken[..., -1] = taken[..., :-1].sum(axis=-1) + 0.0 * values[..., 0]  # NaN where the scene lacks the region
    coords = {"block": block_numbers(attention), "queries": list(REGIONS), "magnet": [*order, ALL_MAGNETS]}
    return xr.DataArray(taken, dims=("block", "queries", "magnet"), coords=coords)


def magnet_shares(
    recordings: Recording | Iterable[Recording],
    regions: xr.DataArray | Iterable[xr.DataArray],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How much of the attention of target, distractors and background each magnet takes, over scenes.

    Args:
        recordings: one, or one a scene, with magnets and ``image_to_text``.
        regions: of each scene, in the same order.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (block, query region, magnet): ``block``, ``queries``, ``magnet``, ``value`` (mean over the scenes whose
        prompt has the magnet), ``low``, ``high``, ``scenes``; magnets in the order in which prompts name them, all
        of them together last.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks.
        ValueError: not as many regions as recordings.
    """
    scenes: list[xr.DataArray] = []
    blocks: list[int] | None = None
    of_each = [regions] if isinstance(regions, xr.DataArray) else regions
    for recording, region in zip(each_recording(recordings), of_each, strict=True):
        scenes.append(magnet_shares_of(recording, region))
        blocks = same_blocks(blocks, block_numbers(scenes[-1]))
    names = list(dict.fromkeys(name for scene in scenes for name in scene["magnet"].values[:-1].tolist()))
    order = [*names, ALL_MAGNETS]
    values = [scene.reindex(magnet=order).values for scene in scenes]
    rows = pd.MultiIndex.from_product([blocks or [], REGIONS, order], names=["block", "queries", "magnet"])
    return over_scenes(values, rows, confidence=confidence, resamples=resamples, seed=seed)


def _account(recordings: Recording | Iterable[Recording]) -> tuple[Floats, Floats, list[int], list[Side]]:
    """Shares (scene, block, side, kind), numbers of keys (scene, kind), blocks and sides."""
    shares: list[Floats] = []
    keys: list[Floats] = []
    blocks: list[int] | None = None
    sides: list[Side] | None = None
    for recording in each_recording(recordings):
        sides = same_sides(sides, query_sides(recording))
        each = [mass_shares(recording, from_queries=side) for side in sides]
        blocks = same_blocks(blocks, block_numbers(each[0]))
        shares.append(np.stack([share.values for share in each], axis=1))
        kinds = positions(received_by_key(recording, from_queries=sides[0]), "key")["kind"].to_numpy()
        keys.append(np.array([(kinds == kind).sum() for kind in KINDS], dtype=np.float64))
    return np.stack(shares), np.stack(keys), blocks or [], sides or []


def _rows(blocks: list[int], sides: list[Side]) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([blocks, sides, KINDS], names=["block", "from_queries", "kind"])
    return index.to_frame(index=False)


def _finish(table: pd.DataFrame, keys: Floats, confidence: float) -> pd.DataFrame:
    """Add the numbers of keys and scenes, and leave out what no scene has."""
    table["keys"] = np.tile(keys.mean(axis=0), len(table) // len(KINDS))
    table["scenes"] = len(keys)
    table = table[table["keys"] > 0].reset_index(drop=True)
    table.attrs["confidence"] = confidence
    return table
