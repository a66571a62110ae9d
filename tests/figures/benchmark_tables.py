"""Small tables of benchmark runs, for the figures of them."""

from __future__ import annotations

import numpy as np
import pandas as pd


def scores() -> pd.DataFrame:
    table = pd.DataFrame(
        [
            ("measured", "ours", "oIoU", 0.31, 0.27, 0.36, 40.0),
            ("measured", "ours", "mIoU", 0.41, 0.37, 0.46, 40.0),
            ("measured", "one image", "oIoU", 0.25, np.nan, np.nan, 1.0),
            ("published", "RefAM", "oIoU", 0.47, np.nan, np.nan, np.nan),
            ("published", "Grad-CAM", "oIoU", 0.23, np.nan, np.nan, np.nan),
        ],
        columns=["origin", "run", "metric", "value", "low", "high", "images"],
    )
    table.attrs["confidence"] = 0.95
    return table


def slices() -> pd.DataFrame:
    table = pd.DataFrame(
        [
            ("kind", "place", "mIoU", 0.5, 0.4, 0.6, 20, 30),
            ("kind", "no place", "mIoU", 0.3, 0.2, 0.35, 25, 40),
            ("kind", "place", "oIoU", 0.9, 0.8, 1.0, 20, 30),
            ("length", "1-2 words", "mIoU", 0.4, np.nan, np.nan, 1, 1),
        ],
        columns=["by", "slice", "metric", "value", "low", "high", "images", "expressions"],
    )
    table.attrs["confidence"] = 0.9
    return table


def differences() -> pd.DataFrame:
    table = pd.DataFrame(
        [
            ("no magnets", "magnets", "oIoU", -0.02, -0.05, 0.01, 40),
            ("no magnets", "magnets", "PA", 0.03, 0.01, 0.06, 40),
        ],
        columns=["run", "against", "metric", "change", "low", "high", "images"],
    )
    table.attrs["confidence"] = 0.95
    return table


def published() -> pd.DataFrame:
    """Three methods on two splits, as papers print them."""
    values = {"Grad-CAM": (0.23, 0.27), "Ref-Diff": (0.35, 0.31), "RefAM": (0.47, 0.39)}
    return pd.DataFrame(
        [
            {"dataset": dataset, "split": "val", "method": method, "metric": "oIoU", "value": value}
            for method, both in values.items()
            for dataset, value in zip(("refcoco", "refcoco+"), both, strict=True)
        ]
    )
