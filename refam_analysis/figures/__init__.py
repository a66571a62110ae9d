"""Figures: each function draws results on the Axes that it is given and returns them; none computes.

``with figure_style():`` around the creation of the figure gives the library's look.
"""

from refam_analysis.figures.ablation import points_moved, switch_effects, switch_effects_by_kind
from refam_analysis.figures.atlas import heads_plane, row_and_column, small_matrix, values_against
from refam_analysis.figures.benchmarks import benchmark_scores, published_scores, run_differences, slice_scores
from refam_analysis.figures.causal import sink_minus_random, sinks_against_random
from refam_analysis.figures.costs import cost_scaling, memory_costs, recording_costs
from refam_analysis.figures.curves import (
    entropy_by_block,
    learning_curve,
    localisation_by_block,
    mass_by_kind,
    mass_change_by_kind,
    point_accuracy_by,
    sink_map,
)
from refam_analysis.figures.diagram import TransformerSizes, transformer_diagram
from refam_analysis.figures.emergence import (
    by_block_and_noise_level,
    emergence_panel,
    phrase_matrix,
    phrases_by_block,
    sinks_against_semantics,
)
from refam_analysis.figures.entropy import entropy_by_direction, head_spread
from refam_analysis.figures.failures import failure_shares
from refam_analysis.figures.groups import count_bars, pair_counts, values_by_group
from refam_analysis.figures.intervals import value_intervals
from refam_analysis.figures.ledger import claims_by_training, claims_forest, profiles_over_depth
from refam_analysis.figures.matrices import attention_matrix
from refam_analysis.figures.pictures import (
    heat_over,
    mark_point,
    mask_overlay,
    pipeline_figure,
    scene_samples,
    token_maps,
)
from refam_analysis.figures.redistribution import (
    MEASURE_LABELS,
    REGION_LOOKS,
    conditions_forest,
    dose_response,
    magnet_grid,
    mass_flow,
)
from refam_analysis.figures.scaling import cost_shares
from refam_analysis.figures.sequence import block_head_grid, block_head_values, directions, word_block_grid
from refam_analysis.figures.sinks import (
    calibration_level,
    calibration_power,
    entropy_by_kind,
    key_importance,
    received_from_both_sides,
    sink_agreement,
    sink_effects,
    sinks_over_steps,
)
from refam_analysis.figures.style import HEAT_COLOURS, KIND_LOOKS, SIDE_LOOKS, figure_style, one_legend
from refam_analysis.figures.video import clip_strip, following_over_time, frame_heatmaps, shares_between_frames

__all__ = [
    "HEAT_COLOURS",
    "KIND_LOOKS",
    "MEASURE_LABELS",
    "REGION_LOOKS",
    "SIDE_LOOKS",
    "TransformerSizes",
    "attention_matrix",
    "benchmark_scores",
    "block_head_grid",
    "block_head_values",
    "by_block_and_noise_level",
    "calibration_level",
    "calibration_power",
    "claims_by_training",
    "claims_forest",
    "clip_strip",
    "conditions_forest",
    "cost_scaling",
    "cost_shares",
    "count_bars",
    "directions",
    "dose_response",
    "emergence_panel",
    "entropy_by_block",
    "entropy_by_direction",
    "entropy_by_kind",
    "failure_shares",
    "figure_style",
    "following_over_time",
    "frame_heatmaps",
    "head_spread",
    "heads_plane",
    "heat_over",
    "key_importance",
    "learning_curve",
    "localisation_by_block",
    "magnet_grid",
    "mark_point",
    "mask_overlay",
    "mass_by_kind",
    "mass_change_by_kind",
    "mass_flow",
    "memory_costs",
    "one_legend",
    "pair_counts",
    "phrase_matrix",
    "phrases_by_block",
    "pipeline_figure",
    "point_accuracy_by",
    "points_moved",
    "profiles_over_depth",
    "published_scores",
    "received_from_both_sides",
    "recording_costs",
    "row_and_column",
    "run_differences",
    "scene_samples",
    "shares_between_frames",
    "sink_agreement",
    "sink_effects",
    "sink_map",
    "sink_minus_random",
    "sinks_against_random",
    "sinks_against_semantics",
    "sinks_over_steps",
    "slice_scores",
    "small_matrix",
    "switch_effects",
    "switch_effects_by_kind",
    "token_maps",
    "transformer_diagram",
    "value_intervals",
    "values_against",
    "values_by_group",
    "word_block_grid",
]
