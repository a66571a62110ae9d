"""Row entropy: how spread out each query's attention is, by block and by the side of the query.

Entropy of maps over the picture and of columns is not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import entr

from refam_analysis.analysis.positions import SIDES, sides_along
from refam_analysis.analysis.statistics import bootstrap_interval, scene_mean
from refam_analysis.analysis.units import block_numbers, each_recording, number_of_keys, same_blocks

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording


def row_entropy(attention: xr.DataArray) -> xr.DataArray:
    """Entropy of each query's row, in nats.

        H_i = -sum_j attention[i, j] log attention[i, j]

    0 when all attention goes to one key, log(number of keys) when it is uniform.

    Args:
        attention: probabilities, axes (..., query, key); rows sum to 1.

    Returns:
        Axes (..., query), float64, nats.

    Source: Shannon, A Mathematical Theory of Communication, 1948; RefAM, Fig. 4.

    >>> uniform = xr.DataArray(np.full((1, 4), 0.25), dims=("query", "key"))
    >>> row_entropy(uniform).values.round(4).tolist()
    [1.3863]
    """
    return xr.apply_ufunc(entr, attention.astype(np.float64)).sum("key")


def entropy_by_row(recording: Recording) -> xr.DataArray:
    """Row entropy of a recording: as it was kept, or from its full attention.

    Args:
        recording: with ``entropy`` or ``full`` kept.

    Returns:
        Axes (step, branch, block, head, query), float64, nats.

    Raises:
        KeyError: neither was kept.
    """
    if "entropy" not in recording and "full" in recording:
        return row_entropy(recording["full"])
    return recording["entropy"].astype(np.float64)


def entropy_by_block(
    recordings: Recording | Iterable[Recording],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean row entropy of each block, of text queries and of image queries, over scenes.

    A scene's value is the mean over its queries of that side, heads and steps (the conditional branch); the interval
    is over scenes.

    Args:
        recordings: one, or one a scene, read one after the other.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (block, query side, measure): ``block``, ``from_queries`` ("text", "image"; a side that the model has
        no queries of is left out), ``measure`` ("entropy", in nats, or "normalised", divided by log(number of keys),
        so 1 is uniform), ``value``, ``low``, ``high``, ``scenes``. ``low`` and ``high`` are NaN for one scene.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks.
    """
    scenes: list[np.ndarray] = []
    blocks: list[int] | None = None
    sides: list[str] = []
    for recording in each_recording(recordings):
        entropy = entropy_by_row(recording).isel(branch=0)
        blocks = same_blocks(blocks, block_numbers(entropy))
        query_side = sides_along(entropy, "query")
        sides = [side for side in SIDES if (query_side == side).any()]
        nats = np.stack(
            [
                entropy.isel(query=np.flatnonzero(query_side == side)).mean(["step", "head", "query"]).values
                for side in sides
            ],
            axis=-1,
        )
        scenes.append(np.stack([nats, nats / np.log(number_of_keys(recording))], axis=-1))
    flat = np.stack(scenes).reshape(len(scenes), -1)
    low, high = bootstrap_interval(flat, confidence=confidence, resamples=resamples, seed=seed)
    names = ["block", "from_queries", "measure"]
    rows = pd.MultiIndex.from_product([blocks or [], sides, ["entropy", "normalised"]], names=names)
    table = pd.DataFrame({"value": scene_mean(flat), "low": low, "high": high}, index=rows).reset_index()
    table["scenes"] = len(scenes)
    table.attrs["confidence"] = confidence
    return table
