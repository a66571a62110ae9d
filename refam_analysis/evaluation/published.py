"""What others published on the benchmarks, to be printed beside measured rows and never mixed with them.

The numbers are read from papers, not measured here: each row names its source. They are as printed there, without
intervals, and their models, versions and settings are those of their authors.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd

MARK = "published"
"""What the column ``origin`` says of every such row; measured rows say "measured"."""


def published_rows(dataset: str | None = None, split: str | None = None) -> pd.DataFrame:
    """Published scores.

    Args:
        dataset: as ``load_dataset`` names it; None for all.
        split: of the data set; None for all.

    Returns:
        A row a number: ``dataset``, ``split``, ``method``, ``note`` ("with a detector", "ablation", or empty),
        ``metric`` (oIoU, J&F, J, F, PA), ``value`` in [0, 1], ``source``, and ``origin``, which is "published".

    Source: RefAM, arXiv 2509.22650, its tables of RefCOCO, Ref-DAVIS17 and of the ablation; Ref-DAVIS17 is evaluated on
    the val split of DAVIS 2017 ("valid" in its expressions), and RefCOCOg with its test split is that of UMD.

    >>> rows = published_rows("refcoco", "val")
    >>> rows.loc[rows["method"] == "RefAM", ["metric", "value", "origin"]].values.tolist()
    [['oIoU', 0.4691, 'published']]
    """
    table = _table()
    chosen = pd.Series(True, index=table.index)
    for column, wanted in (("dataset", dataset), ("split", split)):
        if wanted is not None:
            chosen &= table[column] == wanted
    return table[chosen].reset_index(drop=True)


@cache
def _table() -> pd.DataFrame:
    with files("refam_analysis.evaluation").joinpath("data", "published.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, keep_default_na=False)
    table["value"] = (table["percent"] / 100).round(6)
    return table.drop(columns="percent").assign(origin=MARK)
