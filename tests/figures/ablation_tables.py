"""Small tables such as the ablation gives, for its figures and for the image comparison."""

from __future__ import annotations

import pandas as pd
from figures.tables import measured

from refam_analysis.evaluation.failures import CAUSES

CHANGES = {"magnets": -0.01, "noun phrase": -0.09, "spatial bias": 0.12}
KINDS = {"attribute": 0.0, "location": 0.08, "relation": -0.12, "superlative": 0.03}


def effects() -> pd.DataFrame:
    rows = [
        {"switch": switch, "effect": effect, "kind": "all", **_change(0.6 * change if effect == "main" else change)}
        for switch, change in CHANGES.items()
        for effect in ("main", "simple")
    ]
    return measured(rows, scenes=500)


def effects_by_kind() -> pd.DataFrame:
    rows = [
        {"switch": switch, "effect": "simple", "kind": kind, **_change(change + aside)}
        for switch, change in CHANGES.items()
        for kind, aside in KINDS.items()
    ]
    return measured(rows, scenes=125)


def moved() -> pd.DataFrame:
    shares = {"moved": [0.3, 0.5, 0.42], "gained": [0.04, 0.02, 0.15], "lost": [0.05, 0.11, 0.03]}
    return pd.DataFrame({"switch": list(CHANGES), "kind": "all", **shares, "scenes": 500})


def _change(change: float) -> dict[str, object]:
    ends = {"change_low": change - 0.02, "change_high": change + 0.03, "q": 0.01 if abs(change) > 0.03 else 0.5}
    return {"segmenter": "embedded", "measure": "mean_iou", "change": change, **ends}


def failure_groups() -> dict[str, pd.DataFrame]:
    """Shares of the causes of failures in two groups, one of them without most causes."""
    shares = {"relation": [0.31, 0.12, 0.02, 0.15, 0.05, 0.04], "location": [0.1, 0.0, 0.06, 0.08, 0.0, 0.0]}
    return {
        name: pd.DataFrame({"cause": CAUSES, "share": values, "scenes": scenes})
        for scenes, (name, values) in zip((120, 80), shares.items(), strict=True)
    }
