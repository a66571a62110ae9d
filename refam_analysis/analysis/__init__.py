"""What recordings say: entropy, sinks, magnets, localisation. Pure functions of Recordings; no model runs here.

Every table has named columns and is made over scenes: one recording is one unit. Statistics that all share are in
`statistics`, the labels and roles of tokens in `positions`.
"""

from refam_analysis.analysis.entropy import entropy_by_block, entropy_by_row, row_entropy
from refam_analysis.analysis.localisation import (
    MaskError,
    average_precision,
    background_ratio,
    content_maps,
    localisation_by_block,
    peak_inside,
)
from refam_analysis.analysis.magnets import mass_by_kind, mass_moved, mass_shares
from refam_analysis.analysis.positions import MissingSideError, positions, roles
from refam_analysis.analysis.received import received_by_key, received_mass, uniformity, uniformity_by_key
from refam_analysis.analysis.rows import entropy_by_kind
from refam_analysis.analysis.sinks import detect_sinks
from refam_analysis.analysis.statistics import (
    NoRecordingsError,
    benjamini_hochberg,
    bootstrap_interval,
    scene_mean,
    sign_flip_p,
)
from refam_analysis.analysis.units import RecordingsDifferError

__all__ = [
    "MaskError",
    "MissingSideError",
    "NoRecordingsError",
    "RecordingsDifferError",
    "average_precision",
    "background_ratio",
    "benjamini_hochberg",
    "bootstrap_interval",
    "content_maps",
    "detect_sinks",
    "entropy_by_block",
    "entropy_by_kind",
    "entropy_by_row",
    "localisation_by_block",
    "mass_by_kind",
    "mass_moved",
    "mass_shares",
    "peak_inside",
    "positions",
    "received_by_key",
    "received_mass",
    "roles",
    "row_entropy",
    "scene_mean",
    "sign_flip_p",
    "uniformity",
    "uniformity_by_key",
]
