"""Profiles over depth: whether a number that every block has rises or falls from the first block to the last.

A profile is what one scene says, axes (block). Where it comes from is in the other files of this room.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from refam_analysis.analysis.paired import two_sided_p
from refam_analysis.analysis.statistics import NoRecordingsError
from refam_analysis.analysis.tables import over_scenes


def late_minus_early(profile: xr.DataArray) -> float:
    """The mean of a profile over the last third of its blocks minus that over the first third.

    Args:
        profile: axes (block), of one scene.

    Returns:
        The unit of the profile; NaN where it has one. A third has round(blocks / 3) blocks, and at least one.

    >>> late_minus_early(xr.DataArray([0.0, 1.0, 5.0, 5.0, 3.0, 4.0], dims="block"))
    3.0
    """
    third = max(1, round(profile.sizes["block"] / 3))
    return float(profile.values[-third:].mean() - profile.values[:third].mean())


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's rank correlation of two profiles; of a profile and its block numbers, whether it rises with depth.

    Args:
        one: (blocks,).
        other: (blocks,).

    Returns:
        In [-1, 1]; NaN where one of them is constant or holds NaN.

    Source: Spearman, The proof and measurement of association between two things, 1904.

    >>> rank_correlation([1.0, 2.0, 9.0], [0, 1, 2])
    1.0
    """
    ranks = [rankdata(np.asarray(values, dtype=np.float64)) for values in (one, other)]
    first, second = (each - each.mean() if len(each) else each for each in ranks)
    spread = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / spread if spread > 0 else float("nan")


def depth_trends(
    profiles: Iterable[xr.DataArray],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Whether a profile rises or falls with depth, over scenes.

    Args:
        profiles: one a scene, axes (block), such as ``within_phrase_excess(recording)`` of each.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random sign flips over scenes.
        seed: of draws and flips.

    Returns:
        A row a trend: ``trend`` ("late_minus_early", in the unit of the profile; "rank_correlation", with the numbers
        of the blocks), ``value`` (mean over scenes), ``low``, ``high``, ``p`` (two-sided, by sign flips; NaN where
        fewer than two scenes have the trend), ``scenes`` (those that have it).

    Raises:
        NoRecordingsError: no profile was given.
    """
    scenes = [[late_minus_early(one), rank_correlation(one.values, np.arange(one.sizes["block"]))] for one in profiles]
    if not scenes:
        raise NoRecordingsError
    rows = pd.Index(["late_minus_early", "rank_correlation"], name="trend")
    table = over_scenes(scenes, rows, confidence=confidence, resamples=resamples, seed=seed)
    table.insert(4, "p", two_sided_p(np.array(scenes), flips=flips, seed=seed))
    return table
