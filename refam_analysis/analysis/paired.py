"""Two conditions on the same scenes: the mean of each, the change within scenes, its interval and its test."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.analysis.statistics import (
    benjamini_hochberg,
    bootstrap_interval,
    scene_mean,
    two_sided_sign_flip_p,
)

Floats = NDArray[np.float64]


def two_sided_p(differences: Floats, *, flips: int = 20_000, seed: int = 0) -> Floats:
    """Probability of a mean as far from zero as this, were each scene's value as likely negative as positive.

    Args:
        differences: (scenes, columns); NaN where a scene lacks a quantity.
        flips: random sign flips, see :func:`~refam_analysis.analysis.statistics.sign_flip_p`.
        seed: of the flips.

    Returns:
        p of shape (columns,): twice the smaller of the two one-sided ones, at most 1; NaN where fewer than two scenes
        have the quantity.

    >>> two_sided_p(np.array([[1.0], [2.0], [1.5]])).tolist()
    [0.25]
    """
    p = two_sided_sign_flip_p(differences, flips=flips, seed=seed)
    return np.where(np.isfinite(differences).sum(axis=0) > 1, p, np.nan)


def paired_changes(
    before: Floats,
    after: Floats,
    rows: pd.DataFrame,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """A table of changes, paired over scenes.

    Args:
        before: (scenes, rows), without magnets; what is not finite leaves the scene out of that row.
        after: the same with magnets.
        rows: the labels, which become the first columns.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random sign flips over scenes.
        seed: of draws and flips.

    Returns:
        The labels, then ``without``, ``with_magnets`` (means over the scenes that take part), ``change`` (mean of the
        paired differences), ``low``, ``high`` (its interval), ``p`` (two-sided, by sign flips), ``q`` (over all rows),
        ``scenes``. p, q and the interval are NaN with fewer than two scenes.

    >>> labels = pd.DataFrame({"block": [0]})
    >>> table = paired_changes(np.array([[0.1], [0.2]]), np.array([[0.3], [0.5]]), labels)
    >>> table[["change", "p", "scenes"]].round(2).values.tolist()
    [[0.25, 0.5, 2.0]]
    """
    taking_part = np.isfinite(before) & np.isfinite(after)
    first, second = (np.where(taking_part, values, np.nan) for values in (before, after))
    change = second - first
    table = rows.reset_index(drop=True)
    table["without"], table["with_magnets"] = scene_mean(first), scene_mean(second)
    table["change"] = scene_mean(change)
    ends = bootstrap_interval(change, confidence=confidence, resamples=resamples, seed=seed)
    table["low"], table["high"] = ends
    table["p"] = two_sided_p(change, flips=flips, seed=seed)
    table["q"] = benjamini_hochberg(table["p"].to_numpy(dtype=np.float64))
    table["scenes"] = taking_part.sum(axis=0)
    table.attrs["confidence"] = confidence
    return table
