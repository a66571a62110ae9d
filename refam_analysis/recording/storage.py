"""Recordings on disk: a zarr folder that is written beside its place and renamed, and checked when it is opened.

zarr reads a missing chunk as zeros without a word, so every chunk is written, also those of zeros, and counted on
opening; and each carries a checksum, so that a damaged one raises when it is read.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from refam_analysis.errors import RefamError
from refam_analysis.recording.labels import COMMON_AXES, add_labels, drop_labels

FORMAT = 1
"""Number of the layout on disk; a later one that this cannot read gets another."""

_MAX_HEAD_BYTES = 2**20
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
    """Chunks of a stored recording are missing."""

    def __init__(self, path: Path, name: str, there: int, expected: int) -> None:
        super().__init__(
            f"The recording at {path} is incomplete: {name!r} has {there} of {expected} chunks. Record it again, or "
            "restore the folder from a copy."
        )


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
    plain = drop_labels(dataset)
    plain = plain.assign_attrs(refam_format=FORMAT, refam_arrays=sorted(str(name) for name in plain.variables))
    for variable in plain.variables.values():
        variable.encoding.clear()
    try:
        plain.to_zarr(
            beside,
            mode="w-",
            zarr_format=3,
            consolidated=False,
            write_empty_chunks=True,
            encoding={str(name): _encoding(plain[name]) for name in plain.data_vars},
        )
        if path.exists():
            raise RecordingExistsError(path)
        os.rename(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return path


def open_dataset(path: str | Path) -> xr.Dataset:
    """Open what :func:`save_dataset` wrote, without reading the arrays.

    Raises:
        RecordingNotFoundError, RecordingFormatError, RecordingIncompleteError: see `load_recording`.
    """
    path = Path(path)
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
    _check_chunks(group, path)
    dataset = xr.open_zarr(
        path, consolidated=False, chunks=None, zarr_format=3, mask_and_scale=False, decode_times=False
    )
    del dataset.attrs["refam_format"], dataset.attrs["refam_arrays"]
    for variable in dataset.variables.values():
        variable.attrs.pop("_FillValue", None)
    return add_labels(dataset)


def _check_chunks(group: zarr.Group, path: Path) -> None:
    """Every array that was written is there, with every chunk."""
    names = group.attrs["refam_arrays"]
    assert isinstance(names, list)
    for name in map(str, names):
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            raise RecordingIncompleteError(path, name, 0, 1)
        if array.nchunks_initialized != array.nchunks:
            raise RecordingIncompleteError(path, name, array.nchunks_initialized, array.nchunks)


def _encoding(array: xr.DataArray) -> Mapping[str, Any]:
    """One chunk a step, branch and block, and a head where it is large; compressed, with a checksum."""
    sizes = array.sizes
    head_bytes = array.nbytes // max(1, sizes["step"] * sizes["branch"] * sizes["block"] * sizes["head"])
    ones = ("step", "branch", "block") if head_bytes <= _MAX_HEAD_BYTES else COMMON_AXES
    chunks = tuple(1 if axis in ones else size for axis, size in sizes.items())
    return {"chunks": chunks, "compressors": (BloscCodec(cname="zstd", clevel=3), Crc32cCodec())}
