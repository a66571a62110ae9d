"""Models: how each family encodes text, an image and noise, and where tokens sit in its transformer's sequence.

Nothing here records or measures attention.
"""

from refam_analysis.models.base import Conditioning, DiffusionModel, ForwardInputs
from refam_analysis.models.blocks import (
    Block,
    BlockCountError,
    NoBlocksError,
    UnknownBlockError,
    UnknownStackError,
    find_blocks,
)
from refam_analysis.models.description import block_table, part_table
from refam_analysis.models.family import BatchError, ClipLengthError, Family, ModelDefaults, ModelSizeError
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
from refam_analysis.models.loading import load_model, usual_device
from refam_analysis.models.registry import PIPELINES, TRANSFORMERS, UnsupportedModelError
from refam_analysis.models.schedules import DiffusionSchedule, FlowSchedule, NoiseLevelError, Schedule

__all__ = [
    "PIPELINES",
    "TRANSFORMERS",
    "BatchError",
    "Block",
    "BlockCountError",
    "ClipLengthError",
    "Conditioning",
    "DiffusionModel",
    "DiffusionSchedule",
    "Family",
    "FlowSchedule",
    "ForwardInputs",
    "ImageError",
    "ImageSizeError",
    "ImageSource",
    "ImageValueError",
    "LayoutError",
    "ModelDefaults",
    "ModelFolderError",
    "ModelSizeError",
    "NoBlocksError",
    "NoiseLevelError",
    "Schedule",
    "TokenLayout",
    "UnknownBlockError",
    "UnknownStackError",
    "UnreadableImageError",
    "UnsupportedModelError",
    "block_table",
    "find_blocks",
    "load_image",
    "load_model",
    "part_table",
    "usual_device",
]
