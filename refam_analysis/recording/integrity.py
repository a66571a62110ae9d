"""Whether a stored recording is still what was written: checksums of its small files, and which blocks can be read.

The chunks of the quantities carry their own checksums. Everything else in the folder (what describes the run and the
arrays, and the coordinates) is small, and is summed up in one attribute of the folder.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore, WrapperStore

from refam_analysis.errors import REFUSED, RefamError
from refam_analysis.files import file_checksum

SUMS = "refam_sums"
"""Attribute of the folder: the checksum of each small file by its path, and of the other attributes as ``""``."""


class RecordingDamagedError(RefamError, ValueError):
    """Something of a stored recording is not what was written."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"The recording at {path} is damaged: {what}. Restore it from a copy, or delete the folder and record it "
            "again. What is whole can be read with refam_analysis.recording.rescue_recording."
        )


def seal(path: Path, *, without: Collection[str]) -> None:
    """Sum up a folder as it is now.

    Args:
        path: of the folder.
        without: arrays whose chunks carry checksums of their own.
    """
    group = zarr.open_group(path, mode="r+", zarr_format=3)
    files = [file for file in path.rglob("*") if file.is_file() and file.parent != path]
    names = [file.relative_to(path) for file in files]
    sums = {name.as_posix(): file_checksum(path / name) for name in sorted(names)
            if name.parts[0] not in without or name.name == "zarr.json"}  # fmt: skip
    group.attrs[SUMS] = {**sums, "": attributes_sum(group.attrs.asdict())}


def resealed(attributes: Mapping[str, Any], *, without: str) -> dict[str, Any]:
    """New attributes of a folder, with their sum, and without those of an array that it loses.

    Args:
        attributes: with the sums as they were.
        without: name of the array.
    """
    sums = {name: value for name, value in attributes.get(SUMS, {}).items() if not name.startswith(f"{without}/")}
    return {**attributes, SUMS: {**sums, "": attributes_sum(attributes)}}


def attributes_sum(attributes: Mapping[str, Any]) -> str:
    """The checksum of the attributes of a folder, but for the sums themselves."""
    others = {name: value for name, value in attributes.items() if name != SUMS}
    return f"{zlib.crc32(json.dumps(others, sort_keys=True).encode()):08x}"


def broken_files(path: Path, group: zarr.Group) -> list[str]:
    """The small files that are not what was written, by their path in the folder; those that are gone are not named.

    Args:
        path: of the folder.
        group: opened there.
    """
    sums = group.attrs.get(SUMS)
    if not isinstance(sums, dict):
        return ["zarr.json"]
    found = {name: file_checksum(path / name) if name else attributes_sum(group.attrs.asdict()) for name in sums}
    return [name or "zarr.json" for name, expected in sums.items() if found[name] not in ("", expected)]


class Hiding(WrapperStore[LocalStore]):
    """A folder some of whose arrays are not looked at: zarr would stumble over a description that is damaged.

    Args:
        store: the folder.
        hidden: names of the arrays.
    """

    def __init__(self, store: LocalStore, hidden: Collection[str] = ()) -> None:
        super().__init__(store)
        self._hidden = frozenset(hidden)

    def _with_store(self, store: LocalStore) -> Hiding:
        return Hiding(store, self._hidden)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names in a folder, without the hidden ones."""
        async for name in self._store.list_dir(prefix):
            if prefix or name not in self._hidden:
                yield name


def is_damage(error: BaseException) -> bool:
    """Whether reading failed over what is on the disk, and not because the system refused."""
    if isinstance(error, OSError):
        return error.errno is None or error.errno not in REFUSED
    return isinstance(error, (ValueError, RuntimeError, KeyError, TypeError))


def can_be_read(array: zarr.Array, place: tuple[int, ...]) -> bool:
    """Whether a place of an array can be read, its chunks unpacked and their checksums compared.

    Args:
        array: on the disk.
        place: along its first axes.
    """
    try:
        array[place]
    except Exception as error:
        if is_damage(error):
            return False
        raise
    return True


def first_unreadable(
    read: Callable[[tuple[Any, ...]], Any], places: list[np.ndarray], rest: tuple[Any, ...]
) -> tuple[int, ...] | None:
    """The first step, branch and block that cannot be read alone.

    Args:
        read: takes an index.
        places: numbers along these three axes.
        rest: of the index.
    """
    for place in np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, len(places)).tolist():
        try:
            read((*(slice(int(i), int(i) + 1) for i in place), *rest))
        except Exception as error:
            if not is_damage(error):
                raise
            return tuple(place)
    return None
