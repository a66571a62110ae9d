"""One recording or many: how every function of this room walks over them and checks that they belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from refam_analysis.analysis.positions import SIDES, Side, sides_along
from refam_analysis.analysis.statistics import NoRecordingsError
from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording


class RecordingsDifferError(RefamError, ValueError):
    """Recordings that are to be summarised together are not of the same blocks, sides or scenes."""


def each_recording(recordings: Recording | Iterable[Recording]) -> Iterator[Recording]:
    """The recordings one after the other, whether one was given or many.

    Args:
        recordings: one, or any iterable, which is read once.

    Yields:
        Each recording.

    Raises:
        NoRecordingsError: there is none.
    """
    from refam_analysis.recording.recording import Recording  # here, since it loads PyTorch and tables need none

    empty = True
    for recording in (recordings,) if isinstance(recordings, Recording) else recordings:
        empty = False
        yield recording
    if empty:
        raise NoRecordingsError


def block_numbers(array: xr.DataArray) -> list[int]:
    """The numbers of the blocks along ``block``."""
    return [int(number) for number in array["block"].values]


def same_blocks(before: list[int] | None, blocks: list[int]) -> list[int]:
    """The blocks of a recording, which have to be those of the recordings before it.

    Args:
        before: None for the first recording.
        blocks: of this one.

    Returns:
        ``blocks``.

    Raises:
        RecordingsDifferError: they differ.
    """
    if before is not None and before != blocks:
        raise RecordingsDifferError(
            f"One recording has the blocks {before}, another {blocks}. Record all with the same model and blocks=, or "
            "narrow them with recording.select(blocks=...)."
        )
    return blocks


def same_noise_levels(before: tuple[float, ...] | None, levels: tuple[float, ...]) -> tuple[float, ...]:
    """The noise levels of a recording, which have to be those of the recordings before it.

    Args:
        before: None for the first recording.
        levels: of this one, one a step; nan where unknown.

    Returns:
        ``levels``.

    Raises:
        RecordingsDifferError: they differ.
    """
    if before is not None and not np.array_equal(before, levels, equal_nan=True):
        raise RecordingsDifferError(
            f"One recording has the noise levels {before}, another {levels}. Record all with the same noise_level."
        )
    return levels


def same_sides(before: list[Side] | None, sides: list[Side]) -> list[Side]:
    """The sides that a recording has queries of, which have to be those of the recordings before it.

    Args:
        before: None for the first recording.
        sides: of this one, from :func:`query_sides`.

    Returns:
        ``sides``.

    Raises:
        RecordingsDifferError: they differ.
    """
    if before is not None and before != sides:
        raise RecordingsDifferError(
            f"One recording has queries of {' and '.join(before)}, another of {' and '.join(sides)}. Record all with "
            "models that attend alike, and with all queries."
        )
    return sides


def query_sides(recording: Recording) -> list[Side]:
    """The sides that the model has queries of, as far as received mass was kept or can be had from the full attention.

    Args:
        recording: with ``received_from_text`` and ``received_from_image``, or ``full``.

    Returns:
        Text, image, or both. A side is left out only when the recording says that the model has none.

    Raises:
        QuantityMissingError: a side's received mass was not kept.
    """
    sides: list[Side] = []
    for side in SIDES:
        name = f"received_from_{side}"
        if name in recording:
            sides.append(side)
        elif "full" in recording:
            if (sides_along(recording["full"], "query") == side).any():
                sides.append(side)
        elif name not in recording.attrs.get("absent", {}):
            recording[name]
    if not sides:
        recording["received_from_image"]
    return sides


def number_of_keys(recording: Recording) -> int:
    """How many keys each query attends over: the base of normalised entropy.

    Args:
        recording: any.
    """
    return len(recording.layout.key_positions)
