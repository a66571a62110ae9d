"""What magnets do: how much attention each kind of token holds, without magnets and with them.

The account is of mass, and it balances: the shares of all kinds sum to 1, so what one kind gains others lose. Whether
the maps get better is ``localisation``'s question.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.analysis.positions import Side, positions
from refam_analysis.analysis.received import received_by_key
from refam_analysis.analysis.statistics import (
    benjamini_hochberg,
    bootstrap_interval,
    scene_mean,
    sign_flip_p,
)
from refam_analysis.analysis.units import (
    RecordingsDifferError,
    block_numbers,
    each_recording,
    query_sides,
    same_blocks,
)

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]

KINDS = ("content", "magnet", "stop", "punctuation", "special", "padding", "template", "unknown", "image", "other")
"""The accounts, in the order of the table; every key is in exactly one (see :func:`positions`)."""


def mass_shares(recording: Recording, *, from_queries: Side) -> xr.DataArray:
    """The share of one side's attention that each kind of token holds.

    With received mass m_j of the N_k keys, share_K = sum over keys j of kind K of m_j / N_k: the probability that an
    average query of that side puts on the kind.

    Args:
        recording: with received mass or full attention kept.
        from_queries: the side.

    Returns:
        Axes (block, kind), no unit; sums to 1 over ``kind``. A kind that the prompt lacks holds 0.
    """
    mass = received_by_key(recording, from_queries=from_queries).isel(branch=0).mean(["step", "head"])
    kinds = positions(mass, "key")["kind"].to_numpy()
    values = mass.transpose("block", "key").values
    shares = np.stack([values[:, kinds == kind].sum(axis=1) for kind in KINDS], axis=1) / len(kinds)
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
    change = (after - before).reshape(len(before), -1)
    low, high = bootstrap_interval(change, confidence=confidence, resamples=resamples, seed=seed)
    table = _rows(blocks, sides)
    table["without"], table["with_magnets"] = before.mean(axis=0).ravel(), after.mean(axis=0).ravel()
    table["change"], table["low"], table["high"] = change.mean(axis=0), low, high
    table["p"] = np.nan
    if len(before) > 1:
        upper, lower = (sign_flip_p(sign * change, flips=flips, seed=seed) for sign in (1.0, -1.0))
        table["p"] = np.minimum(1.0, 2.0 * np.minimum(upper, lower))
    table["keys_with_magnets"] = np.tile(keys_after.mean(axis=0), len(table) // len(KINDS))
    table = _finish(table, keys, confidence)
    table["q"] = benjamini_hochberg(table["p"].to_numpy(dtype=np.float64))
    return table


def _account(recordings: Recording | Iterable[Recording]) -> tuple[Floats, Floats, list[int], list[Side]]:
    """Shares (scene, block, side, kind), numbers of keys (scene, kind), blocks and sides."""
    shares: list[Floats] = []
    keys: list[Floats] = []
    blocks: list[int] | None = None
    sides: list[Side] = []
    for recording in each_recording(recordings):
        sides = query_sides(recording)
        each = [mass_shares(recording, from_queries=side) for side in sides]
        blocks = same_blocks(blocks, block_numbers(each[0]))
        shares.append(np.stack([share.values for share in each], axis=1))
        kinds = positions(received_by_key(recording, from_queries=sides[0]), "key")["kind"].to_numpy()
        keys.append(np.array([(kinds == kind).sum() for kind in KINDS], dtype=np.float64))
    return np.stack(shares), np.stack(keys), blocks or [], sides


def _rows(blocks: list[int], sides: list[Side]) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([blocks, sides, KINDS], names=["block", "from_queries", "kind"])
    return index.to_frame(index=False)


def _finish(table: pd.DataFrame, keys: Floats, confidence: float) -> pd.DataFrame:
    """Add the numbers of keys and scenes, and leave out what no scene has."""
    table["keys"] = np.tile(keys.mean(axis=0), len(table) // len(KINDS))
    table["scenes"] = len(keys)
    held = table["keys"] + table.get("keys_with_magnets", 0.0) > 0
    table = table[held].reset_index(drop=True)
    table.attrs["confidence"] = confidence
    return table
