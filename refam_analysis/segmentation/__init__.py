"""From recorded attention to a mask: the heatmap, its point, and a segmenter that answers to the point.

The choices (`settings`), what is done to sinks (`gas`), the arithmetic (`reading`), the maps (`heatmap`), their peak
(`point`), the models that answer to a point (`segmenters`), and all of it in a row (`pipeline`).
"""

from refam_analysis.segmentation.gas import NoMagnetsError, SinkHandling, handle_sinks, look_for_sinks
from refam_analysis.segmentation.heatmap import (
    ContentWord,
    MixedRecordingsError,
    NoContentWordsError,
    content_words,
    heatmap,
    heatmaps,
    token_maps,
    word_maps,
)
from refam_analysis.segmentation.pipeline import SegmentationResult, default_settings, record_for_heatmaps, segment
from refam_analysis.segmentation.point import HeatmapValueError, peak, peaks, pixel_of
from refam_analysis.segmentation.segmenters import (
    SEGMENTERS,
    NoImageError,
    Segmenter,
    SegmenterInputError,
    UnknownSegmenterError,
    load_segmenter,
)
from refam_analysis.segmentation.settings import HeatmapSettings, HeatmapSettingsError
from refam_analysis.segmentation.spatial_bias import SpatialBiasError, spatial_bias

__all__ = [
    "SEGMENTERS",
    "ContentWord",
    "HeatmapSettings",
    "HeatmapSettingsError",
    "HeatmapValueError",
    "MixedRecordingsError",
    "NoContentWordsError",
    "NoImageError",
    "NoMagnetsError",
    "SegmentationResult",
    "Segmenter",
    "SegmenterInputError",
    "SinkHandling",
    "SpatialBiasError",
    "UnknownSegmenterError",
    "content_words",
    "default_settings",
    "handle_sinks",
    "heatmap",
    "heatmaps",
    "load_segmenter",
    "look_for_sinks",
    "peak",
    "peaks",
    "pixel_of",
    "record_for_heatmaps",
    "segment",
    "spatial_bias",
    "token_maps",
    "word_maps",
]
