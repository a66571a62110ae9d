"""Recordings on disk: a zarr folder that is written beside its place and renamed, and checked when it is opened.

zarr reads a missing chunk as a constant without a word, so every chunk is written, also those of zeros, and counted on
opening; and each carries a checksum, so that a damaged one raises when it is read. A folder that `store` has not
finished writing has an array of marks, one a complete block, and opens with those blocks alone.
"""

from __future__ import annotations

import glob
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.core import indexing
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore

from refam_analysis.errors import RefamError
from refam_analysis.files import told_when_refused
from refam_analysis.recording.integrity import (
    SUMS,
    Hiding,
    RecordingDamagedError,
    broken_files,
    can_be_read,
    first_unreadable,
    is_damage,
    seal,
)
from refam_analysis.recording.labels import COMMON_AXES, add_labels, drop_labels
from refam_analysis.recording.quantities import QUANTITIES

FORMAT = 2
"""Number of the layout on disk; a later one that this cannot read gets another."""

_UNSEALED = 1
"""The layout before checksums of the small files."""

MARKS = "refam_complete"
"""Array (step, branch, block) of a folder that is being written: whether the block is complete. Where the attributes
of the folder do not have this name, it is finished."""

RESUME = "Call record again with the same arguments and the same store to complete it"

_INTERRUPTED = (
    "The recording at {path} was interrupted: {where} is not complete. " + RESUME + ", or select what is complete: "
    "attrs['complete_blocks']."
)
_DAMAGED = (
    "The recording at {path} is damaged: {name!r} of {where} is lost. Read another block (attrs['damaged'] lists what "
    "is lost of each quantity), restore the folder from a copy, or record it again."
)

LARGE_HEAD_BYTES = 2**20
"""Above this size of one head of one block, each head is a chunk of its own; below, a block is."""


class RecordingExistsError(RefamError, FileExistsError):
    """Something is at the path already."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already, and a recording is never overwritten. Delete it, or save elsewhere.")


class RecordingNotFoundError(RefamError, FileNotFoundError):
    """Nothing is at the path."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"There is no recording at {path}. Give the folder that Recording.save wrote.")


class RecordingFormatError(RefamError, ValueError):
    """What is at the path is not a recording that this version reads."""


class RecordingIncompleteError(RefamError, ValueError):
    """Something of a stored recording is not there: chunks have been lost, or a run was interrupted."""


def save_dataset(dataset: xr.Dataset, path: str | Path) -> Path:
    """Write a dataset as a zarr folder: it is there complete, or not at all.

    Raises:
        RecordingExistsError: something is at the path already.
        NotWrittenError: the system refused.
    """
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise RecordingExistsError(path)
    with told_when_refused(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        _write(plain_dataset(dataset), path)
    return path


def beside(path: Path) -> Path:
    """A new place beside a path, for what gets its name when it is whole."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def remove_leftovers(path: Path) -> None:
    """Delete what processes have left beside a path that were killed while they wrote there."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def _write(plain: xr.Dataset, path: Path) -> None:
    place = beside(path)
    try:
        plain.to_zarr(
            place,
            mode="w-",
            zarr_format=3,
            consolidated=False,
            write_empty_chunks=True,
            encoding={str(name): encoding(plain[name]) for name in plain.data_vars},
        )
        seal(place, without={str(name) for name in plain.data_vars})
        if path.exists():
            raise RecordingExistsError(path)
        os.rename(place, path)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def plain_dataset(dataset: xr.Dataset) -> xr.Dataset:
    """What is written: numbers only, with what it takes to check on opening that all is there."""
    plain = drop_labels(dataset)
    plain = plain.assign_attrs(refam_format=FORMAT, refam_arrays=sorted(str(name) for name in plain.variables))
    for variable in plain.variables.values():
        variable.encoding.clear()
    return plain


def open_dataset(path: str | Path) -> xr.Dataset:
    """Open what :func:`save_dataset` or a store wrote, without reading the arrays.

    Of a store that is not finished, the steps and the blocks of which anything is complete; reading a block that is
    not raises. Its attribute `complete_blocks` has for each step the numbers of the blocks that are complete.

    Raises:
        RecordingNotFoundError, RecordingFormatError, RecordingIncompleteError, RecordingDamagedError: see
            `load_recording`.
    """
    path = Path(path)
    dataset, complete = open_whole(path)
    if complete is None:
        return _guarded(dataset, path, np.ones([dataset.sizes[axis] for axis in COMMON_AXES[:3]], dtype=bool))
    blocks = dataset["block"].values
    listed = [[int(number) for number in blocks[row.all(0)]] for row in complete]
    dataset = _guarded(dataset, path, complete).assign_attrs(complete_blocks=listed)
    return dataset.isel(step=complete.any((1, 2)), block=complete.any((0, 1)))


def open_whole(path: Path, *, repaired: bool = False) -> tuple[xr.Dataset, np.ndarray | None]:
    """A dataset with all its steps and blocks, and (step, branch, block) which are complete; None where it is finished.

    Args:
        path: of the folder.
        repaired: it will be completed, so that a block that cannot be read any more counts as not complete.

    Raises:
        RecordingNotFoundError, RecordingFormatError, RecordingIncompleteError, RecordingDamagedError: see
            `load_recording`.
    """
    group, names = _open_group(path)
    if broken := _broken(group, path):
        raise RecordingDamagedError(path, f"{broken[0]} is not what was written")
    complete = _marked(group, path) if MARKS in group.attrs else None
    if repaired and complete is not None:
        complete &= _readable(group, path, [name for name in names if name in QUANTITIES], complete)
    _check_chunks(group, names, path, complete)
    return _opened(path, LocalStore(path, read_only=True)), complete


def open_rescued(path: Path) -> xr.Dataset:
    """What can still be read: quantities that are described, with an attribute `damaged` of what is lost of each.

    Raises:
        RecordingNotFoundError, RecordingFormatError, RecordingDamagedError: what describes the run is lost itself.
    """
    group, names = _open_group(path)
    gone = {name for name in names if not (path / name / "zarr.json").is_file()}
    gone |= {Path(name).parts[0] for name in _broken(group, path)}
    if lost := sorted(gone - QUANTITIES.keys()):
        raise RecordingDamagedError(path, f"{lost[0]} is lost, without which nothing can be read")
    _check_chunks(group, [name for name in names if name not in QUANTITIES], path, None)
    dataset = _opened(path, Hiding(LocalStore(path, read_only=True), gone))
    shape = [dataset.sizes[axis] for axis in COMMON_AXES[:3]]
    whole = _marked(group, path) if MARKS in group.attrs else np.ones(shape, dtype=bool)
    damaged: dict[str, Any] = {}
    for name in map(str, dataset.data_vars):
        there = _readable(group, path, [name], whole)
        if not there.all():
            damaged[name] = np.argwhere(~there).tolist()
        dataset = dataset.assign(_guarded(dataset[[name]], path, there, lost=_DAMAGED).data_vars)
    absent = {**dataset.attrs.get("absent", {}), **{name: "it is damaged on the disk." for name in sorted(gone)}}
    return dataset.assign_attrs(damaged=damaged, absent=absent)


def _opened(path: Path, store: LocalStore | Hiding) -> xr.Dataset:
    """The dataset with its labels; coordinates are read, quantities are not."""
    try:
        dataset = xr.open_zarr(
            store, consolidated=False, chunks=None, zarr_format=3, mask_and_scale=False, decode_times=False,
            drop_variables=[MARKS],
        )  # fmt: skip
    except Exception as error:
        if not is_damage(error):
            raise
        raise RecordingDamagedError(path, str(error).rstrip(".")) from error
    for name in ("refam_format", "refam_arrays", SUMS, MARKS):
        dataset.attrs.pop(name, None)
    for variable in dataset.variables.values():
        variable.attrs.pop("_FillValue", None)
    return add_labels(dataset)


def _broken(group: zarr.Group, path: Path) -> list[str]:
    return [] if group.attrs["refam_format"] == _UNSEALED else broken_files(path, group)


def _marked(group: zarr.Group, path: Path) -> np.ndarray:
    """Which blocks are marked complete; a mark that cannot be read is none."""
    marks = group.get(MARKS)
    if not isinstance(marks, zarr.Array):
        raise RecordingIncompleteError(f"The recording at {path} has lost its marks, {MARKS!r}. Record it again.")
    if can_be_read(marks, ()):
        return np.asarray(marks[:]).astype(bool)
    places = np.ndindex(*marks.shape)
    return np.array([can_be_read(marks, place) and bool(marks[place]) for place in places]).reshape(marks.shape)


def _readable(group: zarr.Group, path: Path, names: Sequence[str], wanted: np.ndarray) -> np.ndarray:
    """(step, branch, block) which of the wanted blocks can be read of all these arrays."""
    readable = wanted.copy()
    for name in names:
        array = group[name]
        assert isinstance(array, zarr.Array)
        for place in map(tuple, np.argwhere(readable).tolist()):
            there = all((path / name / chunk).is_file() for chunk in chunks_of(array, place))
            readable[place] = there and can_be_read(array, place)
    return readable


def chunks_of(array: zarr.Array, start: tuple[int, ...]) -> list[Path]:
    """Where the chunks of one step, branch and block are, relative to the array."""
    rest = range(len(start), array.ndim)
    counts = [range(-(-array.shape[axis] // array.chunks[axis])) for axis in rest]
    return [Path(array.metadata.encode_chunk_key((*start, *place))) for place in product(*counts)]


def _open_group(path: Path) -> tuple[zarr.Group, list[str]]:
    """The folder, and the names of its arrays."""
    if not path.exists():
        raise RecordingNotFoundError(path)
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
    except Exception as error:
        if not is_damage(error):
            raise
        raise RecordingFormatError(f"{path} is not a zarr folder that Recording.save wrote: {error}") from error
    number = group.attrs.get("refam_format")
    if number not in (_UNSEALED, FORMAT):
        raise RecordingFormatError(
            f"{path} holds no recording of format {FORMAT} (its refam_format is {number!r}). "
            "Record it again with this version."
        )
    names = group.attrs.get("refam_arrays")
    if not isinstance(names, list):
        raise RecordingFormatError(f"{path} does not say which arrays it has. Record it again.")
    return group, [str(name) for name in names]


def _check_chunks(group: zarr.Group, names: Sequence[str], path: Path, complete: np.ndarray | None) -> None:
    """Every array that was written is there, with every chunk, or with those of the complete blocks."""
    for name in names:
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            raise _chunks_missing(path, name, 0, 1)
        if complete is None or array.ndim < len(COMMON_AXES):
            there, expected = array.nchunks_initialized, array.nchunks
        else:
            starts = [tuple(map(int, start)) for start in np.argwhere(complete)]
            wanted = [path / name / chunk for start in starts for chunk in chunks_of(array, start)]
            there, expected = sum(chunk.is_file() for chunk in wanted), len(wanted)
        if there != expected:
            raise _chunks_missing(path, name, there, expected)


def _chunks_missing(path: Path, name: str, there: int, expected: int) -> RecordingIncompleteError:
    return RecordingIncompleteError(
        f"The recording at {path} is incomplete: {name!r} has {there} of {expected} chunks. Restore the folder from a "
        "copy, or delete it and record it again; what is there can be read with "
        "refam_analysis.recording.rescue_recording."
    )


def _guarded(dataset: xr.Dataset, path: Path, complete: np.ndarray, *, lost: str = _INTERRUPTED) -> xr.Dataset:
    """The same with quantities that name a block that is not complete, or damaged, when it is read."""
    blocks = dataset["block"].values
    guards = {str(name): _Guarded(str(name), array.variable, complete, blocks, path, lost)
              for name, array in dataset.data_vars.items()}  # fmt: skip
    return dataset.assign({
        name: xr.Variable(dataset[name].dims, indexing.LazilyIndexedArray(guard), dataset[name].attrs)
        for name, guard in guards.items()
    })  # fmt: skip


class _Guarded(xr.backends.BackendArray):
    """An array on the disk: raises where a block that is read is not complete, or not what was written."""

    def __init__(
        self, name: str, variable: xr.Variable, complete: np.ndarray, blocks: np.ndarray, path: Path, lost: str
    ) -> None:
        self.shape, self.dtype, self._lost = variable.shape, variable.dtype, lost
        self._name, self._variable, self._complete, self._blocks, self._path = name, variable, complete, blocks, path

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        places = [np.atleast_1d(np.arange(n)[part]) for n, part in zip(self.shape, key[:3], strict=False)]
        missing = np.argwhere(~self._complete[np.ix_(*places)])
        if len(missing):
            step, branch, block = (int(along[i]) for along, i in zip(places, missing[0], strict=True))
            where = self._where((step, branch, block))
            raise RecordingIncompleteError(self._lost.format(path=self._path, where=where, name=self._name))
        try:
            return np.asarray(self._variable[key].values)
        except Exception as error:
            if not is_damage(error):
                raise
            place = first_unreadable(lambda index: self._variable[index].values, places, key[3:])
            where = "it" if place is None else self._where(place)
            raise RecordingDamagedError(
                self._path, f"{self._name!r} of {where} cannot be read ({str(error).rstrip('.')})"
            ) from error

    def _where(self, place: tuple[int, ...]) -> str:
        step, branch, block = place
        return f"block {self._blocks[block]} of step {step}, branch {branch},"


def encoding(array: xr.DataArray) -> Mapping[str, Any]:
    """One chunk a step, branch and block, and a head where it is large; compressed, with a checksum."""
    sizes = array.sizes
    head_bytes = array.nbytes // max(1, sizes["step"] * sizes["branch"] * sizes["block"] * sizes["head"])
    ones = ("step", "branch", "block") if head_bytes <= LARGE_HEAD_BYTES else COMMON_AXES
    chunks = tuple(1 if axis in ones else size for axis, size in sizes.items())
    # Attention hardly compresses: with its bits shuffled to 84 percent, in less time than without. zstd takes longer.
    return {"chunks": chunks, "compressors": (BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"), Crc32cCodec())}
