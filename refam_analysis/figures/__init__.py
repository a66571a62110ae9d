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
from refam_analysis.figures.matrices import attention_matrix
from refam_analysis.figures.pictures import (
    heat_over,
    mark_point,
    mask_overlay,
    pipeline_figure,
    scene_samples,
    token_maps,
)
from refam_analysis.figures.style import HEAT_COLOURS, KIND_LOOKS, SIDE_LOOKS, figure_style

__all__ = [
    "HEAT_COLOURS",
    "KIND_LOOKS",
    "SIDE_LOOKS",
    "attention_matrix",
    "entropy_by_block",
    "figure_style",
    "heat_over",
    "learning_curve",
    "localisation_by_block",
    "mark_point",
    "mask_overlay",
    "mass_by_kind",
    "mass_change_by_kind",
    "pipeline_figure",
    "point_accuracy_by",
    "scene_samples",
    "sink_map",
    "token_maps",
]
