"""What recordings say: entropy, sinks, magnets, localisation. Pure functions of Recordings; no model runs here.

Every table has named columns and is made over scenes: one recording is one unit (`units`, `tables`; two conditions on
the same scenes, `paired`). Statistics that all share are in `statistics`, the labels and roles of tokens in
`positions`.
"""

from refam_analysis.analysis.change_point import (
    NEARLY_UNIFORM,
    ChangePoint,
    ChangePointError,
    Onset,
    change_point,
    drop_at,
    informative_from,
)
from refam_analysis.analysis.concentration import (
    MapError,
    clusters,
    concentration_of,
    gini,
    maps_of_words,
    spatial_entropy,
    spatial_entropy_of,
)
from refam_analysis.analysis.depth import depth_trends, late_minus_early, rank_correlation
from refam_analysis.analysis.emergence import (
    concentration_by_block,
    phrases_by_block,
    phrases_by_head,
    sinks_and_semantics_by_block,
    sinks_and_semantics_of,
    sinks_with_semantics,
)
from refam_analysis.analysis.entropy import (
    HeadsAveragedError,
    entropy_by_block,
    entropy_by_head,
    entropy_by_row,
    entropy_by_step,
    head_spread,
    head_spread_of,
    row_entropy,
    side_entropy_of,
)
from refam_analysis.analysis.entropy_directions import (
    DirectionMissingError,
    direction_entropy_of,
    entropy_by_direction,
    entropy_profile_of,
)
from refam_analysis.analysis.frames import NoFramesError, attention_between_frames, frame_shares_of
from refam_analysis.analysis.key_effects import KeyEffects, key_effects
from refam_analysis.analysis.key_importance import key_importance, key_importance_of, peak_importance
from refam_analysis.analysis.localisation import (
    MaskError,
    average_precision,
    average_precision_of,
    background_ratio,
    content_maps,
    localisation_by_block,
    localisation_by_step,
    peak_inside,
)
from refam_analysis.analysis.magnets import (
    ALL_MAGNETS,
    magnet_shares,
    magnet_shares_of,
    mass_by_kind,
    mass_moved,
    mass_shares,
    share_by_key,
)
from refam_analysis.analysis.paired import paired_changes, two_sided_p
from refam_analysis.analysis.phrases import (
    PhrasesError,
    find_phrases,
    phrase_structure,
    within_phrase_excess,
    word_attention,
)
from refam_analysis.analysis.positions import MissingSideError, positions, roles
from refam_analysis.analysis.query_shares import QueryShares, query_shares
from refam_analysis.analysis.received import received_by_key, received_mass, uniformity, uniformity_by_key
from refam_analysis.analysis.redistribution import (
    flow,
    flow_of,
    places_of,
    proportional_flow,
    redistribution,
    redistribution_of,
)
from refam_analysis.analysis.regions import REGIONS, region_shares, tokens_on
from refam_analysis.analysis.rows import entropy_by_kind
from refam_analysis.analysis.sharpness import (
    MAP_MEASURES,
    background_clusters,
    map_measures,
    peak_to_mean,
    scene_changes,
    sharpness_changed,
    sharpness_of,
)
from refam_analysis.analysis.sink_dynamics import (
    roles_over_steps,
    sink_agreement,
    sink_agreement_of,
    sinks_over_steps,
    strength_over_steps_of,
)
from refam_analysis.analysis.sinks import call_sinks, detect_sinks, sink_strength
from refam_analysis.analysis.statistics import (
    NoRecordingsError,
    benjamini_hochberg,
    bootstrap_interval,
    scene_mean,
    sign_flip_p,
)
from refam_analysis.analysis.units import RecordingsDifferError

__all__ = [
    "ALL_MAGNETS",
    "MAP_MEASURES",
    "NEARLY_UNIFORM",
    "REGIONS",
    "ChangePoint",
    "ChangePointError",
    "DirectionMissingError",
    "HeadsAveragedError",
    "KeyEffects",
    "MapError",
    "MaskError",
    "MissingSideError",
    "NoFramesError",
    "NoRecordingsError",
    "Onset",
    "PhrasesError",
    "QueryShares",
    "RecordingsDifferError",
    "attention_between_frames",
    "average_precision",
    "average_precision_of",
    "background_clusters",
    "background_ratio",
    "benjamini_hochberg",
    "bootstrap_interval",
    "call_sinks",
    "change_point",
    "clusters",
    "concentration_by_block",
    "concentration_of",
    "content_maps",
    "depth_trends",
    "detect_sinks",
    "direction_entropy_of",
    "drop_at",
    "entropy_by_block",
    "entropy_by_direction",
    "entropy_by_head",
    "entropy_by_kind",
    "entropy_by_row",
    "entropy_by_step",
    "entropy_profile_of",
    "find_phrases",
    "flow",
    "flow_of",
    "frame_shares_of",
    "gini",
    "head_spread",
    "head_spread_of",
    "informative_from",
    "key_effects",
    "key_importance",
    "key_importance_of",
    "late_minus_early",
    "localisation_by_block",
    "localisation_by_step",
    "magnet_shares",
    "magnet_shares_of",
    "map_measures",
    "maps_of_words",
    "mass_by_kind",
    "mass_moved",
    "mass_shares",
    "paired_changes",
    "peak_importance",
    "peak_inside",
    "peak_to_mean",
    "phrase_structure",
    "phrases_by_block",
    "phrases_by_head",
    "places_of",
    "positions",
    "proportional_flow",
    "query_shares",
    "rank_correlation",
    "received_by_key",
    "received_mass",
    "redistribution",
    "redistribution_of",
    "region_shares",
    "roles",
    "roles_over_steps",
    "row_entropy",
    "scene_changes",
    "scene_mean",
    "share_by_key",
    "sharpness_changed",
    "sharpness_of",
    "side_entropy_of",
    "sign_flip_p",
    "sink_agreement",
    "sink_agreement_of",
    "sink_strength",
    "sinks_and_semantics_by_block",
    "sinks_and_semantics_of",
    "sinks_over_steps",
    "sinks_with_semantics",
    "spatial_entropy",
    "spatial_entropy_of",
    "strength_over_steps_of",
    "tokens_on",
    "two_sided_p",
    "uniformity",
    "uniformity_by_key",
    "within_phrase_excess",
    "word_attention",
]
