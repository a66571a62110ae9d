"""Figures: each function draws results on the Axes that it is given and returns them; none computes.

``with figure_style():`` around the creation of the figure gives the library's look.
"""

from refam_analysis.figures.curves import (
    entropy_by_block,
    learning_curve,
    localisation_by_block,
    mass_by_kind,
    mass_change_by_kind,
    point_accuracy_by,
    sink_map,
)
from refam_analysis.figures.groups import count_bars, pair_counts, values_by_group
from refam_analysis.figures.intervals import value_intervals
from refam_analysis.figures.matrices import attention_matrix
from refam_analysis.figures.pictures import (
    heat_over,
    mark_point,
    mask_overlay,
    pipeline_figure,
    scene_samples,
    token_maps,
)
from refam_analysis.figures.sequence import block_head_grid, block_head_values, directions, word_block_grid
from refam_analysis.figures.sinks import entropy_by_kind, received_from_both_sides, sink_effects
from refam_analysis.figures.style import HEAT_COLOURS, KIND_LOOKS, SIDE_LOOKS, figure_style, one_legend

__all__ = [
    "HEAT_COLOURS",
    "KIND_LOOKS",
    "SIDE_LOOKS",
    "attention_matrix",
    "block_head_grid",
    "block_head_values",
    "count_bars",
    "directions",
    "entropy_by_block",
    "entropy_by_kind",
    "figure_style",
    "heat_over",
    "learning_curve",
    "localisation_by_block",
    "mark_point",
    "mask_overlay",
    "mass_by_kind",
    "mass_change_by_kind",
    "one_legend",
    "pair_counts",
    "pipeline_figure",
    "point_accuracy_by",
    "received_from_both_sides",
    "scene_samples",
    "sink_effects",
    "sink_map",
    "token_maps",
    "value_intervals",
    "values_by_group",
    "word_block_grid",
]
