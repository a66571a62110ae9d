"""The form that tables over scenes have in common: a row a quantity, its mean and its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from refam_analysis.analysis.statistics import bootstrap_interval, scene_mean


def over_scenes(
    scenes: Sequence[ArrayLike] | NDArray[np.float64],
    rows: pd.Index,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Means over scenes and their intervals.

    Args:
        scenes: the values of each, all of one shape, whose flat order is that of the rows; what is not finite says
            that the scene lacks the quantity.
        rows: the labels, which become columns.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        The columns of the labels, ``value``, ``low``, ``high`` (NaN with fewer than two scenes), ``scenes``.

    >>> over_scenes([[1.0, np.nan], [3.0, np.nan]], pd.Index([0, 1], name="block"))[["block", "value", "scenes"]].values
    array([[ 0.,  2.,  2.],
           [ 1., nan,  0.]])
    """
    values = np.stack([np.asarray(scene, dtype=np.float64).ravel() for scene in scenes])
    values = np.where(np.isfinite(values), values, np.nan)
    low, high = bootstrap_interval(values, confidence=confidence, resamples=resamples, seed=seed)
    table = pd.DataFrame({"value": scene_mean(values), "low": low, "high": high}, index=rows).reset_index()
    table["scenes"] = np.isfinite(values).sum(axis=0)
    table.attrs["confidence"] = confidence
    return table
