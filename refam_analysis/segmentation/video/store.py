"""Where the masks of a clip go: into memory as run lengths, or into a folder, from which an interrupted run goes on.

A folder holds ``video.json`` (what was asked), ``first.npz`` (heatmaps and the point), ``masks/00000.png`` ... (with
DAVIS' palette), ``frames.jsonl`` (a row a frame) and, while the run goes on, ``state.safetensors`` (where the
propagator stood at some frame). Every file is written all or nothing, and in such an order that after any interruption
the rows up to the state are whole. Each carries a checksum; what does not fit it is computed again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from refam_analysis.errors import RefamError, told
from refam_analysis.files import (
    DamagedFileError,
    add_entry,
    file_checksum,
    read_entries,
    read_json,
    read_tensors,
    write_entries,
    write_json,
    write_tensors,
    written_whole,
)
from refam_analysis.segmentation.result import from_run_lengths, run_lengths
from refam_analysis.segmentation.video.files import read_mask, write_mask
from refam_analysis.segmentation.video.propagation import Followed

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_EVERY = 20
"""Frames between two states on disk: at most so many are followed again after an interruption."""

_SUM = "crc32"
_ABOUT, _FIRST, _ROWS, _STATE, _MASKS = "video.json", "first.npz", "frames.jsonl", "state.safetensors", "masks"


class OtherVideoError(RefamError, ValueError):
    """A folder holds the masks of another run."""

    def __init__(self, folder: Path, differs: Sequence[str]) -> None:
        super().__init__(
            f"{str(folder)!r} holds another run, which differs in {', '.join(differs)}. Give a folder that is not "
            "there yet, or delete this one."
        )


class VideoStoreError(RefamError, ValueError):
    """A folder cannot be used for masks, or what is in it is broken."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(f"The folder {str(folder)!r} cannot be used: {problem}. Give one that is not there yet.")


class Masks:
    """The masks of a clip, read when they are asked for.

    ``masks[3]`` is bool (height, width), ``masks[3:8]`` and ``np.asarray(masks)`` have ``frame`` before: the latter
    holds all of them.

    Attributes:
        shape: (frame, height, width).

    Args:
        read: gives the mask of a frame's number.
        length: how many frames there are.
        size: height and width.
    """

    def __init__(self, read: Callable[[int], NDArray[np.bool_]], length: int, size: tuple[int, int]) -> None:
        self.shape = (length, *size)
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, index: int) -> NDArray[np.bool_]: ...
    @overload
    def __getitem__(self, index: slice) -> NDArray[np.bool_]: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.bool_]:
        """One mask, or some as one array.

        Raises:
            IndexError: the clip has no such frame.
        """
        numbers = range(len(self))[index]
        if isinstance(numbers, int):
            return self._read(numbers)
        chosen = np.zeros((len(numbers), *self.shape[1:]), dtype=bool)
        for place, number in enumerate(numbers):
            chosen[place] = self._read(number)
        return chosen

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return (self._read(number) for number in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)


@dataclass
class Row:
    """What is said of a frame beside its mask; see :class:`~refam_analysis.segmentation.video.propagation.Followed`."""

    score: float
    visible: bool
    event: str | None
    points: tuple[tuple[float, float], ...]


class MemoryStore:
    """Masks as run lengths, which take a hundredth of their pixels."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._runs: list[dict[str, Any]] = []

    def add(self, followed: Followed, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Take in the next frame."""
        self.rows.append(_row(followed))
        runs = run_lengths(followed.mask)
        self._runs.append({"size": runs["size"], "counts": np.array(runs["counts"], np.int32)})

    def masks(self, size: tuple[int, int]) -> Masks:
        """All that were taken in."""
        return Masks(lambda number: from_run_lengths(self._runs[number]), len(self._runs), size)


class FolderStore:
    """Masks in a folder.

    Args:
        folder: made where it is not there.
        about: everything that the masks follow from, as plain values.

    Attributes:
        rows: of the frames that are done.

    Raises:
        OtherVideoError: the folder holds the masks of another run.
        VideoStoreError: it holds something else, or cannot be written.
    """

    def __init__(self, folder: str | Path, about: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.rows: list[Row] = []
        wanted = json.loads(json.dumps(dict(about)))
        try:
            (self.folder / _MASKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VideoStoreError(self.folder, f"it cannot be made ({error.strerror})") from error
        there = self._about()
        if there is None:
            # A process that was killed while it wrote what was asked has left that in part.
            if extra := sorted({path.name for path in self.folder.iterdir()} - {_MASKS, f".{_ABOUT}.partial"}):
                raise VideoStoreError(self.folder, f"it holds something else, such as {extra[0]}")
            write_json(self.folder / _ABOUT, wanted)
        elif there != wanted:
            differs = sorted(key for key in {*there, *wanted} if there.get(key) != wanted.get(key))
            raise OtherVideoError(self.folder, differs)
        self._total = int(wanted["frames"])

    @property
    def first(self) -> dict[str, NDArray[Any]] | None:
        """Heatmaps and point of the first frame, where they are known already, and whole."""
        try:
            with np.load(self.folder / _FIRST, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        except Exception as error:  # whatever a damaged archive raises
            if told(error) is not None:
                raise
            return None
        return found if found.pop(_SUM, None) == _arrays_sum(found) else None

    @first.setter
    def first(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        with written_whole(self.folder / _FIRST) as place, place.open("wb") as file:
            np.savez(file, allow_pickle=False, **{**arrays, _SUM: np.array(_arrays_sum(arrays))})

    def resume(self) -> Mapping[str, Tensor] | None:
        """Take up the rows of an earlier run.

        Returns:
            Where the propagator stood after the last of ``rows``; None where it begins anew, and where all is done.
        """
        lines = self._lines()
        if len(lines) == self._total and self._total:
            self.rows = lines
            return None
        try:
            state, about = read_tensors(self.folder / _STATE)
        except (FileNotFoundError, DamagedFileError):
            return None
        if about["rows_done"] > len(lines):  # a row or a mask was damaged, and the state is of a later frame
            return None
        self.rows = lines[: about["rows_done"]]
        write_entries(self.folder / _ROWS, [self._entry(number, row) for number, row in enumerate(self.rows)])
        return state

    def add(self, followed: Followed, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Write the next frame: its mask, its row, and every so often where the propagator stands."""
        if not self.rows:  # rows that no state belongs to
            write_entries(self.folder / _ROWS, [])
        write_mask(followed.mask, self._mask(len(self.rows)))
        row = _row(followed)
        add_entry(self.folder / _ROWS, self._entry(len(self.rows), row))
        self.rows.append(row)
        if len(self.rows) == self._total:
            (self.folder / _STATE).unlink(missing_ok=True)
        elif len(self.rows) % CHECKPOINT_EVERY == 0:
            write_tensors(self.folder / _STATE, state(), {"rows_done": len(self.rows)})

    def masks(self, size: tuple[int, int]) -> Masks:
        """All that are done, read from the folder."""
        return Masks(lambda number: read_mask(self._mask(number)), len(self.rows), size)

    def _mask(self, number: int) -> Path:
        return self.folder / _MASKS / f"{number:05d}.png"

    def _entry(self, number: int, row: Row) -> dict[str, Any]:
        return {**vars(row), "mask": file_checksum(self._mask(number))}

    def _lines(self) -> list[Row]:
        """The rows up to the first that is not whole, or whose mask is not."""
        rows: list[Row] = []
        for entry in read_entries(self.folder / _ROWS):
            if entry is None or entry.pop("mask") != file_checksum(self._mask(len(rows))):
                break
            entry["points"] = tuple((x, y) for x, y in entry["points"])
            rows.append(Row(**entry))
        return rows

    def _about(self) -> dict[str, Any] | None:
        try:
            return read_json(self.folder / _ABOUT)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            raise VideoStoreError(self.folder, f"its {_ABOUT} cannot be read ({error})") from error


def _row(followed: Followed) -> Row:
    return Row(followed.score, followed.visible, followed.event, followed.points)


def _arrays_sum(arrays: Mapping[str, NDArray[Any]]) -> int:
    """A checksum of names, types and values: an archive has one of each file's values alone."""
    total = 0
    for name, values in sorted(arrays.items()):
        total = zlib.crc32(f"{name} {values.dtype} {values.shape}".encode(), total)
        total = zlib.crc32(np.ascontiguousarray(values).tobytes(), total)
    return total
