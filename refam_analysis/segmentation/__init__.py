"""From recorded attention to a mask: the heatmap, its point, and a segmenter that answers to the point.

The choices (`settings`), which blocks are informative (`informative`), what is done to sinks (`gas`), what the sentence
was (`asked`), the arithmetic (`reading`), the maps (`heatmap`), what comes after the words (`finish`) with the prior by
words of place (`spatial_bias`), their peak (`point`) and many of them (`points`), the models that answer to a point
(`segmenters`), which of their masks is taken (`mask_choice`), and all of it in a row (`pipeline`), with its outcome
(`result`), or for a table of pictures (`batch`). Clips are in `video`.
"""

from refam_analysis.segmentation.alike import MixedRecordingsError
from refam_analysis.segmentation.asked import UnknownExpressionError
from refam_analysis.segmentation.gas import NoMagnetsError, SinkHandling, handle_sinks, look_for_sinks
from refam_analysis.segmentation.heatmap import (
    ContentWord,
    NoContentWordsError,
    content_words,
    heatmap,
    heatmaps,
    patch_heatmap,
    token_maps,
    word_maps,
    words_to_read,
)
from refam_analysis.segmentation.informative import informative_blocks, with_numbered_blocks
from refam_analysis.segmentation.mask_choice import choose_mask
from refam_analysis.segmentation.pipeline import (
    ExpressionsError,
    MaskChoiceError,
    chosen_settings,
    default_settings,
    record_for_heatmaps,
    segment,
    segment_expressions,
)
from refam_analysis.segmentation.point import HeatmapValueError, peak, peaks, pixel_of
from refam_analysis.segmentation.points import sentence_points
from refam_analysis.segmentation.result import SegmentationResult, from_run_lengths, run_lengths
from refam_analysis.segmentation.segmenters import (
    SEGMENTERS,
    NoImageError,
    Segmenter,
    SegmenterInputError,
    UnknownSegmenterError,
    load_segmenter,
    load_segmenter_for,
)
from refam_analysis.segmentation.settings import HeatmapSettings, HeatmapSettingsError
from refam_analysis.segmentation.spatial_bias import SpatialBiasError, spatial_bias
from refam_analysis.segmentation.video import VideoResult, segment_video

__all__ = [
    "SEGMENTERS",
    "ContentWord",
    "ExpressionsError",
    "HeatmapSettings",
    "HeatmapSettingsError",
    "HeatmapValueError",
    "MaskChoiceError",
    "MixedRecordingsError",
    "NoContentWordsError",
    "NoImageError",
    "NoMagnetsError",
    "SegmentationResult",
    "Segmenter",
    "SegmenterInputError",
    "SinkHandling",
    "SpatialBiasError",
    "UnknownExpressionError",
    "UnknownSegmenterError",
    "VideoResult",
    "choose_mask",
    "chosen_settings",
    "content_words",
    "default_settings",
    "from_run_lengths",
    "handle_sinks",
    "heatmap",
    "heatmaps",
    "informative_blocks",
    "load_segmenter",
    "load_segmenter_for",
    "look_for_sinks",
    "patch_heatmap",
    "peak",
    "peaks",
    "pixel_of",
    "record_for_heatmaps",
    "run_lengths",
    "segment",
    "segment_expressions",
    "segment_video",
    "sentence_points",
    "spatial_bias",
    "token_maps",
    "with_numbered_blocks",
    "word_maps",
    "words_to_read",
]
