"""Where the object is: the heatmap of the first frame, by a model of images, or by one of videos that sees it move.

Which frames a video model is shown, and which of them each of its latent frames stands for, is decided here; how maps
are read is in :mod:`refam_analysis.segmentation.heatmap`, the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.family import ClipLengthError
from refam_analysis.prompts import Prompt
from refam_analysis.segmentation.asked import phrase_of
from refam_analysis.segmentation.finish import places_of, prior, upsampled
from refam_analysis.segmentation.gas import look_for_sinks
from refam_analysis.segmentation.heatmap import sentence_maps
from refam_analysis.segmentation.pipeline import record_for_heatmaps
from refam_analysis.segmentation.point import peak
from refam_analysis.segmentation.remembering import remembering
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.segmentation.video.files import Frame, Frames


def clip_numbers(model: DiffusionModel, length: int, wanted: int | None) -> list[int]:
    """Which frames of a video the model is shown.

    Args:
        model: from ``load_model``.
        length: frames of the video.
        wanted: how many; None for all that the model is made for, of a model of images one. Of a video family None
            is brought down to a number that its autoencoder takes; whether it takes another is seen when it is shown
            the frames.

    Returns:
        From the first on, evenly spread to the last; where more are wanted than there are, some more than once.

    Raises:
        ClipLengthError: none is wanted, or fewer.
    """
    if wanted is not None and wanted < 1:
        raise ClipLengthError(wanted, model.frames_per_latent)
    if wanted is None:
        wanted = frames_taken(model, length)
    return [round(place) for place in np.linspace(0, length - 1, wanted)]


def frames_taken(model: DiffusionModel, length: int) -> int:
    """How many frames a model is made for, of so many that there are: a number that its autoencoder takes.

    Args:
        model: from ``load_model``; one of images takes one.
        length: frames of the video.
    """
    most = min(length, model.defaults.frames if model.family.is_video else 1)
    return 1 + (max(most, 1) - 1) // model.frames_per_latent * model.frames_per_latent


def chosen_frames(frames: Frames, numbers: Sequence[int]) -> list[Frame]:
    """Some frames of a clip, of which no other is held.

    Args:
        frames: the clip.
        numbers: of the frames, none smaller than the one before it.
    """
    wanted, last = set(numbers), numbers[-1]
    kept: dict[int, Frame] = {}
    for number, frame in enumerate(frames.read()):
        if number in wanted:
            kept[number] = frame
        if number == last:
            break
    return [kept[number] for number in numbers]


def look(
    model: DiffusionModel,
    clip: Sequence[Frame],
    prompt: Prompt,
    settings: HeatmapSettings,
    *,
    numbers: Sequence[int] = (0,),
    seed: int = 0,
) -> dict[str, Any]:
    """Ask the model where the object of a sentence is.

    Args:
        model: from ``load_model``, of images or of videos.
        clip: the frames that it is shown; one of images is shown one.
        prompt: the expression with its magnets.
        settings: how maps are read.
        numbers: of these frames in the video.
        seed: of the noise.

    Returns:
        Stages by name, as :func:`~refam_analysis.segmentation.pipeline.segment` has them up to the point. The maps of
        tokens, words and patches have ``frame`` before y where the model is one of videos; ``frame_heatmaps`` has axes
        (frame, y, x), and ``heatmap`` is the first of these. The coordinate ``frame`` is the number of the first video
        frame that a map stands for.

    Raises:
        ClipLengthError: a number of frames that the model cannot take.
        NoContentWordsError and others: as ``segment``.
    """
    encoding, shown = remembering(model), clip[0] if len(clip) == 1 else list(clip)
    images: list[Any] = [shown]
    handling = look_for_sinks(encoding, images, [prompt], settings, seeds=[seed])
    (group,) = record_for_heatmaps(encoding, images, [prompt], settings, seeds=[seed], handling=handling)
    (maps,) = sentence_maps([group], settings)
    before = upsampled(maps.patch_heatmap, settings.upsampling)
    if "frame" not in before.dims:
        before = before.expand_dims("frame")
    bias = prior(before, settings, prompt.expression)
    heatmaps = before * bias if settings.spatial_bias else before
    starts = first_frames_of(len(clip), heatmaps.sizes["frame"], model.frames_per_latent)
    heatmaps = heatmaps.assign_coords(frame=[numbers[start] for start in starts])
    height, width = clip[0].shape[:2]
    heatmap = heatmaps.isel(frame=0, drop=True)
    return {
        "image": clip[0],
        "prompt": prompt,
        "settings": settings,
        "clip": tuple(numbers),
        "noun_phrase": phrase_of(prompt.expression) if settings.noun_phrase else None,
        "places": places_of(prompt.expression) if settings.spatial_bias else (),
        "sinks": handling[0].sinks,
        "recordings": tuple(group),
        **maps._asdict(),
        "heatmap_before_bias": before.isel(frame=0, drop=True),
        "spatial_bias": bias,
        "frame_heatmaps": heatmaps,
        "heatmap": heatmap,
        "point": peak(heatmap, (height, width)),
    }


def first_frames_of(frames: int, maps: int, per_latent: int) -> list[int]:
    """For each map in time, the first of the frames that it stands for.

    The autoencoder makes one latent frame of the first frame, and one of every ``per_latent`` further ones. Where there
    are fewer maps than latent frames, as many as fit make one map, and the first has the rest.

    Args:
        frames: that the model saw.
        maps: that came of it.
        per_latent: frames a latent frame.

    >>> first_frames_of(9, 3, 4), first_frames_of(9, 2, 4)
    ([0, 1, 5], [0, 1])
    """
    latents = 1 + (frames - 1) // per_latent
    together = -(-latents // maps)
    ahead = together * maps - latents
    firsts = [max(0, number * together - ahead) for number in range(maps)]
    return [0 if latent == 0 else 1 + (latent - 1) * per_latent for latent in firsts]


def maps_as_arrays(stages: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """What of the stages is needed to go on later, for a file."""
    heatmaps: xr.DataArray = stages["frame_heatmaps"]
    return {
        "frame_heatmaps": heatmaps.values,
        "frame": heatmaps["frame"].values,
        "point": np.asarray(stages["point"], dtype=np.float64),
    }


def stages_from_arrays(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """The stages that :func:`maps_as_arrays` kept."""
    heatmaps = xr.DataArray(
        arrays["frame_heatmaps"], dims=["frame", "y", "x"], coords={"frame": arrays["frame"]}, name="heatmap"
    )
    x, y = (float(value) for value in arrays["point"])
    heatmap = heatmaps.isel(frame=0, drop=True)
    return {"frame_heatmaps": heatmaps, "heatmap": heatmap, "point": (x, y)}
