"""The forms that tables over scenes have in common: a row a quantity, or a column, with its mean and its interval."""

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


def means_with_intervals(values: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> dict[str, float]:
    """Means of columns and their intervals, as parts of one row.

    Args:
        values: a row a scene, a column a quantity.
        confidence: of the intervals.
        seed: of the bootstrap over scenes.

    Returns:
        For every column its name, with ``_low`` and with ``_high``, in this order.

    >>> means_with_intervals(pd.DataFrame({"hit": [1.0, 1.0, 1.0]}))
    {'hit': 1.0, 'hit_low': 1.0, 'hit_high': 1.0}
    """
    table = values.astype(float)
    low, high = bootstrap_interval(table.to_numpy(), confidence=confidence, seed=seed)
    row: dict[str, float] = {}
    for name, mean, least, most in zip(table, table.mean().tolist(), low.tolist(), high.tolist(), strict=True):
        row |= {str(name): mean, f"{name}_low": least, f"{name}_high": most}
    return row
