"""Which recordings may be read together: of one prompt, with the same blocks and heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from refam_analysis.errors import RefamError
from refam_analysis.recording.recording import Recording


class MixedRecordingsError(RefamError, ValueError):
    """Recordings that cannot be averaged into one heatmap."""


def same_prompt(recordings: Recording | Sequence[Recording]) -> Sequence[Recording]:
    """One or several recordings as a group.

    Raises:
        MixedRecordingsError: there is none, or they are of different prompts.
    """
    group = [recordings] if isinstance(recordings, Recording) else list(recordings)
    if not group:
        raise MixedRecordingsError("There is no recording to read a heatmap from: give one, or several of one prompt.")
    if any(recording.tokens != group[0].tokens for recording in group[1:]):
        raise MixedRecordingsError(
            "The recordings are of different prompts, and one heatmap is of one sentence: call "
            "heatmap once for each prompt."
        )
    return group


def must_be_alike(groups: Sequence[Sequence[Recording]]) -> None:
    """Blocks and heads are read by their place, which is the same only where the same ones were recorded.

    Raises:
        MixedRecordingsError: recordings hold different ones.
    """
    for axis in ("block", "head"):
        first, *others = (recording.dataset.variables.get(axis) for group in groups for recording in group)
        if any(not _equal(first, other) for other in others):
            raise MixedRecordingsError(
                f"The recordings hold different {axis}s, and a heatmap averages over the same ones in all: record them "
                f"with the same {axis}s=."
            )


def _equal(first: xr.Variable | None, other: xr.Variable | None) -> bool:
    if first is None or other is None:
        return first is other
    return np.array_equal(first.values, other.values)
