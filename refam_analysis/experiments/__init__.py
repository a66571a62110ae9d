"""Experiments on the embedded models whose results are committed, because they take longer than a page of the book.

How a result is kept (`provenance`), and one file an experiment: the search for heatmap settings (`settings`), the test
of grounding (`grounding`), of drawing (`generation`) and of the segmenter (`segmenter`), and the curves of the
training (`learning`). Each has a ``run`` that writes ``results/<name>/`` and is a command, ``refam experiment <name>``.
"""

from refam_analysis.experiments.provenance import (
    NoResultError,
    Provenance,
    Result,
    StaleResultError,
    load_result,
)

__all__ = ["NoResultError", "Provenance", "Result", "StaleResultError", "load_result"]
