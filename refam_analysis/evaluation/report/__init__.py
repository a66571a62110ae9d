"""What runs say: scores and slices with intervals, published rows beside them, paired differences, a gallery.

Tables (`scores`, `differences`), their text (`text`), and the page of the worst and best answers (`gallery`, which
draws with `overlays`). Figures of them are in :mod:`refam_analysis.figures.benchmarks`.
"""

from refam_analysis.evaluation.report.differences import RunsDifferError, difference_table, what_differs
from refam_analysis.evaluation.report.gallery import worst_and_best, write_gallery
from refam_analysis.evaluation.report.scores import CLIP_METRICS, IMAGE_METRICS, SLICES, score_table, slice_table
from refam_analysis.evaluation.report.text import beside_published

__all__ = [
    "CLIP_METRICS",
    "IMAGE_METRICS",
    "SLICES",
    "RunsDifferError",
    "beside_published",
    "difference_table",
    "score_table",
    "slice_table",
    "what_differs",
    "worst_and_best",
    "write_gallery",
]
