"""Rows by kind of token: how evenly each kind of query spreads its own attention.

A sink is found by its column, what it receives; the paper also speaks of its row, what it gives. Columns are in
`received` and `sinks`, the entropy of the two sides as wholes in `entropy`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from refam_analysis.analysis.entropy import entropy_by_row
from refam_analysis.analysis.magnets import KINDS
from refam_analysis.analysis.positions import positions
from refam_analysis.analysis.tables import over_scenes
from refam_analysis.analysis.units import block_numbers, each_recording, number_of_keys, same_blocks

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording


def entropy_by_kind(
    recordings: Recording | Iterable[Recording],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Row entropy of each kind of token in each block, over scenes, as a share of what uniform attention has.

    With H_i the entropy of query i's row over N keys, a scene's value is the mean of H_i / log(N) over its queries of
    the kind, heads and steps (the conditional branch).

    Args:
        recordings: one, or one a scene, with ``entropy`` or ``full`` kept.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (block, kind): ``block``, ``kind``, ``value`` in [0, 1], ``low``, ``high``, ``scenes`` (those that have
        the kind). Kinds that no scene has are left out.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks.
        KeyError: a recording has neither entropy nor full attention.
    """
    scenes = []
    blocks: list[int] | None = None
    for recording in each_recording(recordings):
        entropy = entropy_by_row(recording).isel(branch=0).mean(["step", "head"]).transpose("block", "query")
        blocks = same_blocks(blocks, block_numbers(entropy))
        kinds = positions(entropy, "query")["kind"].to_numpy()
        share = entropy.values / np.log(number_of_keys(recording))
        scenes.append(np.stack([_mean_of(share[:, kinds == kind]) for kind in KINDS], axis=1))
    rows = pd.MultiIndex.from_product([blocks or [], KINDS], names=["block", "kind"])
    table = over_scenes(scenes, rows, confidence=confidence, resamples=resamples, seed=seed)
    table = table[table["scenes"] > 0].reset_index(drop=True)
    table.attrs["confidence"] = confidence
    return table


def _mean_of(share: np.ndarray) -> np.ndarray:
    """Mean over queries, NaN where there is none."""
    return share.mean(axis=1) if share.shape[1] else np.full(len(share), np.nan)
