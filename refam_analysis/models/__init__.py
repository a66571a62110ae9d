"""Models: how each family encodes text, an image and noise, and where tokens sit in its transformer's sequence.

Nothing here records or measures attention.
"""

from refam_analysis.models.base import (
    BatchError,
    Conditioning,
    DiffusionModel,
    Family,
    ForwardInputs,
    ModelDefaults,
    ModelSizeError,
    NoiseLevelError,
)
from refam_analysis.models.description import block_table, part_table
from refam_analysis.models.folders import ModelFolderError
from refam_analysis.models.images import (
    ImageError,
    ImageSizeError,
    ImageSource,
    ImageValueError,
    UnreadableImageError,
    load_image,
)
from refam_analysis.models.layout import LayoutError, TokenLayout
from refam_analysis.models.loading import FAMILIES, UnsupportedModelError, load_model

__all__ = [
    "FAMILIES",
    "BatchError",
    "Conditioning",
    "DiffusionModel",
    "Family",
    "ForwardInputs",
    "ImageError",
    "ImageSizeError",
    "ImageSource",
    "ImageValueError",
    "LayoutError",
    "ModelDefaults",
    "ModelFolderError",
    "ModelSizeError",
    "NoiseLevelError",
    "TokenLayout",
    "UnreadableImageError",
    "UnsupportedModelError",
    "block_table",
    "load_image",
    "load_model",
    "part_table",
]
