"""How good points and masks are: metrics, and the test of grounding on scenes.

The measures (`metrics`), what to measure on (`items`), where a model's points fall beside its controls (`grounding`),
and the search for the settings to read heatmaps with (`search`).
"""

from refam_analysis.evaluation.grounding import (
    SOURCES,
    GroundingReport,
    NoItemsError,
    grounding_accuracy,
    hits,
    untrained,
)
from refam_analysis.evaluation.items import GroundingItem, ItemsError, hard_items, scene_items
from refam_analysis.evaluation.metrics import (
    EmptyRule,
    MaskError,
    MaskShapeError,
    contour_accuracy,
    mask_ious,
    mean_iou,
    overall_iou,
    point_accuracy,
    points_on,
    region_similarity,
)
from refam_analysis.evaluation.search import SearchFolderError, SearchResult, SearchSpace, choose_settings

__all__ = [
    "SOURCES",
    "EmptyRule",
    "GroundingItem",
    "GroundingReport",
    "ItemsError",
    "MaskError",
    "MaskShapeError",
    "NoItemsError",
    "SearchFolderError",
    "SearchResult",
    "SearchSpace",
    "choose_settings",
    "contour_accuracy",
    "grounding_accuracy",
    "hard_items",
    "hits",
    "mask_ious",
    "mean_iou",
    "overall_iou",
    "point_accuracy",
    "points_on",
    "region_similarity",
    "scene_items",
    "untrained",
]
