"""Experiments on the embedded models whose results are committed, because they take longer than a page of the book.

How a result is kept (`provenance`), and one file an experiment: the search for heatmap settings (`settings`), the
test of grounding (`grounding`), of drawing (`generation`) and of the segmenter (`segmenter`), which of its masks to
take (`mask_choice`), the curves of the training (`learning`), what the detector of sinks calls on attention made by
hand (`calibration`), what taking sinks away does (`causal`), what magnets do beside their controls (`magnets`), what
becomes of words that were not taught (`words`), what of a caption the diffusion loss feels (`exchange`), where the
model's errors know an object, beside its attention (`information`), what every switch of the method is worth
(`ablation`), how good all of it is (`pipeline`), and how objects are followed through clips (`video`). Which scenes
they are made on is in `styles`. Each has a ``run`` that writes ``results/<name>/`` and is a command, ``refam experiment
<name>``.

Of any model that can be recorded there are the ledger of claims (`claims`: ``refam claims``), the tables of the
phenomena (`phenomena`), both in one folder (`bundle`: ``refam bundle``), and its sinks (`sink_survey`:
``refam sinks``).
"""

from refam_analysis.experiments.provenance import (
    NoResultError,
    Provenance,
    Result,
    StaleResultError,
    load_result,
)

__all__ = ["NoResultError", "Provenance", "Result", "StaleResultError", "load_result"]
