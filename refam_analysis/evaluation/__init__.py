"""How good points and masks are: metrics, and the test of grounding on scenes.

The measures (`metrics`), what to measure on (`items`) and its recordings (`recordings`), where a model's points fall
beside its controls (`grounding`), what it knows whatever its attention shows (`information`), conditions compared
item by item (`comparison`), masks from points (`masks`), a segmenter's answers to clicks (`clicks`), colours of drawn
pictures (`colour_judge`), and the search for the settings to read heatmaps with (`search`). What the sentence alone
tells of its target, needs no model (`expressions`). The published benchmarks, from their original releases, are in
`datasets`; a model is measured on them by the `runner`, and what came of it is told by the `report`, beside what
others published (`published`).
"""

from refam_analysis.evaluation.clicks import click_accuracy, click_summary
from refam_analysis.evaluation.colour_judge import ColourJudgement, judge_colour
from refam_analysis.evaluation.comparison import paired_accuracy
from refam_analysis.evaluation.expressions import expression_readings, noun_phrase_accuracy, readings_by_kind
from refam_analysis.evaluation.grounding import (
    SOURCES,
    GroundingReport,
    NoItemsError,
    grounding_accuracy,
    hits,
    untrained,
)
from refam_analysis.evaluation.information import (
    ESTIMATES,
    NoNoiseError,
    denoised,
    information_maps,
    information_of_each,
)
from refam_analysis.evaluation.items import GroundingItem, ItemsError, hard_items, moving_items, scene_items
from refam_analysis.evaluation.masks import MaskReport, inner_points, mask_accuracy, random_points
from refam_analysis.evaluation.metrics import (
    EmptyRule,
    MaskError,
    MaskShapeError,
    contour_accuracies,
    contour_accuracy,
    mask_ious,
    mean_iou,
    overall_iou,
    point_accuracy,
    points_on,
    precision_at,
    region_and_contour,
    region_similarity,
)
from refam_analysis.evaluation.moving import MOVING_SOURCES, MovingReport, moving_accuracy
from refam_analysis.evaluation.published import published_rows
from refam_analysis.evaluation.recordings import accuracy_by_reading, read_points, record_items
from refam_analysis.evaluation.refinement import score_settings
from refam_analysis.evaluation.report import difference_table, score_table, slice_table, write_gallery
from refam_analysis.evaluation.runner import RunConfiguration, RunResults, evaluate, load_results
from refam_analysis.evaluation.search import SearchFolderError, SearchResult, SearchSpace, choose_settings

__all__ = [
    "ESTIMATES",
    "MOVING_SOURCES",
    "SOURCES",
    "ColourJudgement",
    "EmptyRule",
    "GroundingItem",
    "GroundingReport",
    "ItemsError",
    "MaskError",
    "MaskReport",
    "MaskShapeError",
    "MovingReport",
    "NoItemsError",
    "NoNoiseError",
    "RunConfiguration",
    "RunResults",
    "SearchFolderError",
    "SearchResult",
    "SearchSpace",
    "accuracy_by_reading",
    "choose_settings",
    "click_accuracy",
    "click_summary",
    "contour_accuracies",
    "contour_accuracy",
    "denoised",
    "difference_table",
    "evaluate",
    "expression_readings",
    "grounding_accuracy",
    "hard_items",
    "moving_items",
    "hits",
    "information_maps",
    "information_of_each",
    "inner_points",
    "judge_colour",
    "load_results",
    "mask_accuracy",
    "mask_ious",
    "mean_iou",
    "moving_accuracy",
    "noun_phrase_accuracy",
    "overall_iou",
    "paired_accuracy",
    "point_accuracy",
    "points_on",
    "precision_at",
    "published_rows",
    "random_points",
    "read_points",
    "readings_by_kind",
    "record_items",
    "region_and_contour",
    "region_similarity",
    "scene_items",
    "score_settings",
    "score_table",
    "slice_table",
    "untrained",
    "write_gallery",
]
