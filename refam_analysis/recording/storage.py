"""Recordings on disk: a zarr folder that is written beside its place and renamed, and checked when it is opened.

zarr reads a missing chunk as a constant without a word, so every chunk is written, also those of zeros, and counted on
opening; and each carries a checksum, so that a damaged one raises when it is read. A folder that `store` has not
finished writing has an array of marks, one a complete block, and opens with those blocks alone.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.core import indexing
from zarr.codecs import BloscCodec, Crc32cCodec

from refam_analysis.errors import RefamError
from refam_analysis.recording.labels import COMMON_AXES, add_labels, drop_labels

FORMAT = 1
"""Number of the layout on disk; a later one that this cannot read gets another."""

MARKS = "refam_complete"
"""Array (step, branch, block) of a folder that is being written: whether the block is complete. Where the attributes
of the folder do not have this name, it is finished."""

RESUME = "Call record again with the same arguments and the same store to complete it"

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
    """
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise RecordingExistsError(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    plain = plain_dataset(dataset)
    try:
        plain.to_zarr(
            beside,
            mode="w-",
            zarr_format=3,
            consolidated=False,
            write_empty_chunks=True,
            encoding={str(name): encoding(plain[name]) for name in plain.data_vars},
        )
        if path.exists():
            raise RecordingExistsError(path)
        os.rename(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return path


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
        RecordingNotFoundError, RecordingFormatError, RecordingIncompleteError: see `load_recording`.
    """
    path = Path(path)
    dataset, complete = open_whole(path)
    if complete is None:
        return dataset
    blocks = dataset["block"].values
    listed = [[int(number) for number in blocks[row.all(0)]] for row in complete]
    guarded = {str(name): _guard(array.variable, complete, blocks, path) for name, array in dataset.data_vars.items()}
    dataset = dataset.assign(guarded).assign_attrs(complete_blocks=listed)
    return dataset.isel(step=complete.any((1, 2)), block=complete.any((0, 1)))


def open_whole(path: Path) -> tuple[xr.Dataset, np.ndarray | None]:
    """A dataset with all its steps and blocks, and (step, branch, block) which are complete; None where it is finished.

    Raises:
        RecordingNotFoundError, RecordingFormatError, RecordingIncompleteError: see `load_recording`.
    """
    group = _open_group(path)
    complete = None
    if MARKS in group.attrs:
        marks = group.get(MARKS)
        if not isinstance(marks, zarr.Array):
            raise RecordingIncompleteError(f"The recording at {path} has lost its marks, {MARKS!r}. Record it again.")
        complete = np.asarray(marks[:]).astype(bool)
    _check_chunks(group, path, complete)
    dataset = xr.open_zarr(
        path,
        consolidated=False,
        chunks=None,
        zarr_format=3,
        mask_and_scale=False,
        decode_times=False,
        drop_variables=[MARKS],
    )
    for name in ("refam_format", "refam_arrays", MARKS):
        dataset.attrs.pop(name, None)
    for variable in dataset.variables.values():
        variable.attrs.pop("_FillValue", None)
    return add_labels(dataset), complete


def chunks_of(array: zarr.Array, start: tuple[int, ...]) -> list[Path]:
    """Where the chunks of one step, branch and block are, relative to the array."""
    rest = range(len(start), array.ndim)
    counts = [range(-(-array.shape[axis] // array.chunks[axis])) for axis in rest]
    return [Path(array.metadata.encode_chunk_key((*start, *place))) for place in product(*counts)]


def _open_group(path: Path) -> zarr.Group:
    if not path.exists():
        raise RecordingNotFoundError(path)
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
    except (OSError, ValueError, KeyError) as error:
        raise RecordingFormatError(f"{path} is not a zarr folder that Recording.save wrote: {error}") from error
    number = group.attrs.get("refam_format")
    if number != FORMAT:
        raise RecordingFormatError(
            f"{path} holds no recording of format {FORMAT} (its refam_format is {number!r}). "
            "Record it again with this version."
        )
    return group


def _check_chunks(group: zarr.Group, path: Path, complete: np.ndarray | None) -> None:
    """Every array that was written is there, with every chunk, or with those of the complete blocks."""
    names = group.attrs["refam_arrays"]
    assert isinstance(names, list)
    for name in map(str, names):
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
        f"The recording at {path} is incomplete: {name!r} has {there} of {expected} chunks. Record it again, or "
        "restore the folder from a copy."
    )


def _guard(variable: xr.Variable, complete: np.ndarray, blocks: np.ndarray, path: Path) -> xr.Variable:
    data = indexing.LazilyIndexedArray(_Guarded(variable, complete, blocks, path))
    return xr.Variable(variable.dims, data, variable.attrs)


class _Guarded(xr.backends.BackendArray):
    """An array of a store that is not finished: raises where a block that is read is not complete."""

    def __init__(self, variable: xr.Variable, complete: np.ndarray, blocks: np.ndarray, path: Path) -> None:
        self.shape, self.dtype = variable.shape, variable.dtype
        self._variable, self._complete, self._blocks, self._path = variable, complete, blocks, path

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        places = [np.atleast_1d(np.arange(n)[part]) for n, part in zip(self.shape, key[:3], strict=False)]
        missing = np.argwhere(~self._complete[np.ix_(*places)])
        if len(missing):
            step, branch, block = (int(along[i]) for along, i in zip(places, missing[0], strict=True))
            raise RecordingIncompleteError(
                f"The recording at {self._path} was interrupted: block {self._blocks[block]} of step {step}, branch "
                f"{branch}, is not complete. {RESUME}, or select what is complete: attrs['complete_blocks']."
            )
        return np.asarray(self._variable[key].values)


def encoding(array: xr.DataArray) -> Mapping[str, Any]:
    """One chunk a step, branch and block, and a head where it is large; compressed, with a checksum."""
    sizes = array.sizes
    head_bytes = array.nbytes // max(1, sizes["step"] * sizes["branch"] * sizes["block"] * sizes["head"])
    ones = ("step", "branch", "block") if head_bytes <= LARGE_HEAD_BYTES else COMMON_AXES
    chunks = tuple(1 if axis in ones else size for axis, size in sizes.items())
    # Attention hardly compresses: with its bits shuffled to 84 percent, in less time than without. zstd takes longer.
    return {"chunks": chunks, "compressors": (BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"), Crc32cCodec())}
