"""How attention passes between the frames of a clip, and to the text: of models of videos.

A frame here is a latent one, which stands for several frames of the clip but for the first
(:func:`refam_analysis.segmentation.video.first_frame.first_frames_of`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.analysis.query_shares import QueryShares, group_shares
from refam_analysis.analysis.tables import over_scenes
from refam_analysis.analysis.units import RecordingsDifferError, each_recording
from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

TEXT = "text"


class NoFramesError(RefamError, ValueError):
    """A recording of a picture was asked about frames."""

    def __init__(self) -> None:
        super().__init__(
            "This recording is of a picture, which has no frames: record a model of videos, shown a clip "
            "(a list of frames)."
        )


def frame_shares_of(recording: Recording) -> pd.DataFrame:
    """What the patches of each frame attend to, mean over patches, heads and steps, in one recording.

    Args:
        recording: of a clip, with ``full``, or with ``image_to_image`` and ``image_to_text``.

    Returns:
        A row a ``block``, ``query_frame`` and ``keys``, which is "text" or "frame 0", "frame 1" ...: ``share``, which
        sums to 1 over the keys, and ``uniform``, the share that attention alike to all keys would give.

    Raises:
        NoFramesError: the recording is of a picture.
        QuantityMissingError: what is needed was not kept.
    """
    grid = dict(zip(recording.layout.grid_axes, recording.layout.grid, strict=True))
    if "frame" not in grid:
        raise NoFramesError
    frames = grid["frame"]
    patches = recording.layout.image_length // frames
    frame_of = np.repeat(np.arange(frames), patches)
    rows = []
    for query in range(frames):
        shares = _shares(recording, (frame_of == query).astype(np.float64))
        tokens = shares.text.shape[1]
        keys = {TEXT: shares.text.sum(axis=1)} | {
            f"frame {key}": shares.image[:, frame_of == key].sum(axis=1) for key in range(frames)
        }
        uniform = {key: (tokens if key == TEXT else patches) / (tokens + frames * patches) for key in keys}
        rows += [
            {"block": block, "query_frame": query, "keys": key, "share": values[place], "uniform": uniform[key]}
            for key, values in keys.items()
            for place, block in enumerate(shares.blocks)
        ]
    return pd.DataFrame(rows)


def _shares(recording: Recording, weights: NDArray[np.float64]) -> QueryShares:
    return group_shares(recording, "image", lambda _: weights)


def attention_between_frames(
    recordings: Recording | Iterable[Recording], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """What the patches of each frame attend to, over clips.

    Args:
        recordings: one a clip, read once, all with the same blocks and number of frames, kept as
            :func:`frame_shares_of` says.
        confidence: of the intervals.
        resamples: bootstrap draws over clips.
        seed: of the draws.

    Returns:
        A row a ``block``, ``query_frame`` and ``keys``: ``value``, the share, with ``low`` and ``high``, ``scenes``,
        the number of clips, and ``uniform``, the mean share of attention alike to all keys (prompts differ in length).

    Raises:
        NoRecordingsError: there is none.
        RecordingsDifferError: in blocks, or in the number of frames.
        NoFramesError, QuantityMissingError: as :func:`frame_shares_of`.
    """
    tables = [frame_shares_of(recording) for recording in each_recording(recordings)]
    names = ["block", "query_frame", "keys"]
    rows = pd.MultiIndex.from_frame(tables[0][names])
    for number, table in enumerate(tables):
        if not pd.MultiIndex.from_frame(table[names]).equals(rows):
            raise RecordingsDifferError(f"Recording {number} has other blocks or another number of frames.")
    shares: list[NDArray[np.float64]] = [table["share"].to_numpy() for table in tables]
    found = over_scenes(shares, rows, confidence=confidence, resamples=resamples, seed=seed)
    found["uniform"] = np.mean([table["uniform"].to_numpy() for table in tables], axis=0)
    return found
