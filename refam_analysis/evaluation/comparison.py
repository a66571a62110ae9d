"""Conditions compared item by item: what one change to the prompt does to where the points fall.

The reports come from :mod:`refam_analysis.evaluation.grounding`; here they are paired over the scenes that they share.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from refam_analysis.analysis.statistics import bootstrap_interval, two_sided_sign_flip_p
from refam_analysis.evaluation.grounding import GroundingReport
from refam_analysis.evaluation.items import ItemsError


def paired_accuracy(
    reports: Mapping[str, GroundingReport], *, baseline: str, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Point accuracy of the model under several conditions, and its change from one of them.

    Every condition has the same items with the same noise, so the change is a difference within each scene, and its
    interval is narrower than the intervals of the two accuracies suggest.

    Args:
        reports: by the name of the condition, each with the points of ``model``.
        baseline: the condition that the others are compared with.
        confidence: of the intervals.
        seed: of the bootstrap over scenes, and of the sign flips.

    Returns:
        A row a condition, in their order: ``condition``, ``accuracy`` with ``accuracy_low`` and ``accuracy_high``,
        ``change`` with ``change_low`` and ``change_high``, ``p`` (two-sided, sign flips of scenes; NaN for the
        baseline), ``scenes``.

    Raises:
        ItemsError: no such baseline, or the conditions were not asked about the same items.

    >>> from refam_analysis.segmentation import HeatmapSettings
    >>> rows = pd.DataFrame({"source": "model", "scene": [0, 1, 2, 3], "expression": "the ring"})
    >>> plain, magnets = (
    ...     GroundingReport(rows.assign(target=hits), HeatmapSettings()) for hits in ([1, 0, 0, 1], [1, 1, 0, 1])
    ... )
    >>> paired_accuracy({"plain": plain, "magnets": magnets}, baseline="plain")["change"].tolist()
    [0.0, 0.25]
    """
    if baseline not in reports:
        raise ItemsError(f"There is no condition {baseline!r} to compare with: choose among {', '.join(reports)}.")
    asked = {name: report.outcomes[report.outcomes["source"] == "model"] for name, report in reports.items()}
    columns = ["scene", "expression"]
    expected = asked[baseline][columns].to_numpy().tolist()
    if differing := [name for name, rows in asked.items() if rows[columns].to_numpy().tolist() != expected]:
        raise ItemsError(f"{differing[0]!r} was not asked about the items of {baseline!r}: give all the same items.")
    scenes = asked[baseline]["scene"].to_numpy()
    hit = pd.DataFrame({name: rows["target"].to_numpy() for name, rows in asked.items()}).groupby(scenes).mean()
    change = hit.sub(hit[baseline], axis=0)
    table = pd.DataFrame({"condition": list(hit)})
    for name, values in (("accuracy", hit.to_numpy()), ("change", change.to_numpy())):
        table[name] = values.mean(axis=0)
        ends = bootstrap_interval(values, confidence=confidence, seed=seed)
        table[f"{name}_low"], table[f"{name}_high"] = ends
    p = two_sided_sign_flip_p(change.to_numpy(), seed=seed)
    table["p"] = np.where(table["condition"] == baseline, np.nan, p)
    table["scenes"] = len(hit)
    table.attrs["confidence"] = confidence
    return table
