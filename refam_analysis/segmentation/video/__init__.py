"""Video: a sentence and a clip in, a mask a frame out.

Clips are read and masks written in `files`; the heatmap of the first frame comes from `first_frame`; an object is
followed by what `propagation` offers: an image segmenter asked anew in every frame (`reprompting`, by what the object
looks like, `appearance`), or SAM 2 (`sam2`); masks are kept in a `store`; `pipeline` is all of it in a row.
"""

from refam_analysis.segmentation.video.files import (
    Frames,
    FramesError,
    UnreadableVideoError,
    VideoOutputError,
    open_frames,
    read_mask,
    write_mask,
    write_overlay,
)
from refam_analysis.segmentation.video.pipeline import VideoResult, segment_video
from refam_analysis.segmentation.video.propagation import (
    Followed,
    FrameSizeError,
    NotBegunError,
    Propagator,
    UnknownPropagatorError,
    load_propagator,
)
from refam_analysis.segmentation.video.reprompting import FollowSettings, FollowSettingsError, Reprompting
from refam_analysis.segmentation.video.store import Masks, OtherVideoError, VideoStoreError

__all__ = [
    "FollowSettings",
    "FollowSettingsError",
    "Followed",
    "FrameSizeError",
    "Frames",
    "FramesError",
    "Masks",
    "NotBegunError",
    "OtherVideoError",
    "Propagator",
    "Reprompting",
    "UnknownPropagatorError",
    "UnreadableVideoError",
    "VideoOutputError",
    "VideoResult",
    "VideoStoreError",
    "load_propagator",
    "open_frames",
    "read_mask",
    "segment_video",
    "write_mask",
    "write_overlay",
]
