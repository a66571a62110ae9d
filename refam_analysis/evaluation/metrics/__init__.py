"""How well masks and points agree with the truth: the field's measures, by their published definitions.

What two masks share (`overlaps`), regions (`regions`: IoU, oIoU, precision, J), contours (`contours`: F, J&F) and
points (`points`). Each takes (predicted, true). Intervals are in :mod:`refam_analysis.analysis.statistics`; which items
to measure on is in :mod:`refam_analysis.evaluation.grounding` and :mod:`refam_analysis.evaluation.datasets`.
"""

from refam_analysis.evaluation.metrics.contours import (
    contour_accuracies,
    contour_accuracy,
    outline,
    region_and_contour,
)
from refam_analysis.evaluation.metrics.overlaps import (
    EmptyRule,
    MaskError,
    MaskShapeError,
    ious_of,
    mask_overlaps,
)
from refam_analysis.evaluation.metrics.points import point_accuracy, points_on
from refam_analysis.evaluation.metrics.regions import (
    PRECISION_THRESHOLDS,
    mask_ious,
    mean_iou,
    overall_iou,
    precision_at,
    region_similarity,
)

__all__ = [
    "PRECISION_THRESHOLDS",
    "EmptyRule",
    "MaskError",
    "MaskShapeError",
    "contour_accuracies",
    "contour_accuracy",
    "ious_of",
    "mask_ious",
    "mask_overlaps",
    "mean_iou",
    "outline",
    "overall_iou",
    "point_accuracy",
    "points_on",
    "precision_at",
    "region_and_contour",
    "region_similarity",
]
