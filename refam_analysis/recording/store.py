"""A recording that is written to disk block by block while the model runs, and that survives an interruption.

The folder is laid out when the first block is done, with everything that describes the run. Each block is written, put
on the disk, and then marked complete, so that whenever the process is killed, the marks never say more than there is.
The same run with the same folder goes on where it stopped. Without its marks the folder is what ``Recording.save``
writes. How it is opened is in `storage`; what runs, in `record`.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec

from refam_analysis.errors import RefamError
from refam_analysis.models.layout import longest
from refam_analysis.prompts.tokens import Token
from refam_analysis.recording.assembly import label
from refam_analysis.recording.differences import compared, differences
from refam_analysis.recording.integrity import resealed, seal
from refam_analysis.recording.plans import BranchOrder, Plan, Results
from refam_analysis.recording.recording import Recording
from refam_analysis.recording.sizes import readable
from refam_analysis.recording.storage import (
    MARKS,
    RESUME,
    beside,
    chunks_of,
    encoding,
    open_dataset,
    open_whole,
    plain_dataset,
    remove_leftovers,
)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when a disk is full, a quota is used up, or a file may not become so large."""


class StoreSpaceError(RefamError, OSError):
    """A recording does not fit on the disk."""

    def __init__(self, path: Path, needed: int, free: int, *, begun: bool) -> None:
        kept = f" What is complete is kept. {RESUME}, when there is room." if begun else " Nothing was written."
        super().__init__(
            f"The recording at {path} needs {readable(needed)} ({needed} bytes before compression) on a disk that has "
            f"{readable(free)} ({free} bytes) free. Free some, take another disk, or keep less.{kept}"
        )


class OtherRunError(RefamError, FileExistsError):
    """The folder holds another run than the one that should be written to it."""

    def __init__(self, path: Path, differences: Sequence[str]) -> None:
        super().__init__(
            f"{path} holds another run, and a recording is never overwritten. It differs in {'; '.join(differences)}. "
            "Give the same model and arguments, or another path."
        )


class StoreShapeError(RefamError, ValueError):
    """What is recorded does not fit into the store: another number of passes, of items or of heads."""


@dataclass(frozen=True)
class _Run:
    """What a recorder says of its run when it begins."""

    plan: Plan
    branches: tuple[str, ...]
    order: BranchOrder
    described: Mapping[str, Any]


class RecordingStore:
    """Where a Recorder puts its blocks instead of holding them: ``Recorder(..., sink=RecordingStore(path, ...))``.

    For one image (or clip) and one prompt. :func:`refam_analysis.record` makes one for ``store=path``.

    Args:
        path: of the folder; one of an interrupted run is completed.
        noise_levels: one a step; nan where unknown.
        tokens: of the text segment; empty when unknown.
        attributes: what else describes the run, plain enough for JSON.

    Raises, while it is recorded:
        OtherRunError: the folder holds another run; the message says in what it differs.
        StoreSpaceError: the disk has less room than the arrays need before compression, or is full.
        RecordingFormatError: something else is at the path.
        StoreShapeError: more passes than noise levels, or several items.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        noise_levels: Sequence[float],
        tokens: Sequence[Token] = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self._levels, self._tokens, self._attributes = list(noise_levels), tokens, dict(attributes or {})
        self._run: _Run | None = None
        self._complete = np.zeros((0, 0, 0), dtype=bool)
        self._finished = False
        self._arrays: dict[str, zarr.Array] = {}
        self._writing: tuple[int, list[tuple[int, int, int]]] = (-1, [])
        self._size = 0

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to record."""
        return self._finished

    @property
    def complete(self) -> np.ndarray:
        """Which blocks are complete: (step, branch, recorded block)."""
        return self._complete.copy()

    def begin(
        self, plan: Plan, branches: Sequence[str], branch_order: BranchOrder, described: Mapping[str, Any]
    ) -> None:
        """Learn what will be recorded; where the folder is there already, check that it holds this run."""
        self._run = _Run(plan, tuple(branches), branch_order, described)
        self._complete = np.zeros((len(self._levels), len(branches), len(plan.recorded)), dtype=bool)
        self._finished, self._arrays, self._writing = False, {}, (-1, [])
        remove_leftovers(self.path)
        if self.path.exists() or self.path.is_symlink():
            self._take_up()

    def step(self, number: int) -> _StepOfStore:
        """The sink of one forward pass. What a pass left that broke off just before is dropped."""
        before, written = self._writing
        if before == number:
            for place in written:
                self._arrays[MARKS][place] = self._complete[place] = False
        self._writing = (number, [])
        return _StepOfStore(self, self._places(number))

    def recording(self, kernels: Sequence[str]) -> Recording:
        """What is on disk, opened lazily; where every block is there, the folder is finished first."""
        if self._arrays and not self._finished and self._complete.all():
            self._finish(kernels)
        return Recording(open_dataset(self.path))

    def lay_out(self, heads: int) -> None:
        """Make the folder, with all that describes the run, where it is not there yet.

        Args:
            heads: of the model.

        Raises:
            StoreSpaceError: the disk has less room than the arrays need before compression.
        """
        if self._finished:
            return
        if not self._arrays:
            with self._space_checked():
                self._create(heads)
        elif (now := self._along_heads(heads)) != (there := next(iter(self._arrays.values())).shape[3]):
            raise OtherRunError(self.path, [compared("number of heads", there, now)])

    def has(self, places: Sequence[tuple[int, int]], block: int) -> bool:
        """Whether a block is complete in these steps and branches."""
        return all(bool(self._complete[step, branch, block]) for step, branch in places)

    def write(self, places: Sequence[tuple[int, int]], block: int, results: Sequence[Results]) -> None:
        """Write a block, and mark it when it is on the disk.

        Args:
            places: step and branch of each item of the batch.
            block: place among the recorded blocks.
            results: of each item, (branch, 1, head, ...).
        """
        if len(results) != len(places):
            raise StoreShapeError(
                f"A store holds one item with its {len(places)} branches, and a batch of {len(results)} was recorded. "
                "Record items one at a time."
            )
        self.lay_out(next(iter(results[0].values())).shape[2])
        with self._space_checked():
            for (step, branch), result in zip(places, results, strict=True):
                for name, values in result.items():
                    self._put(name, (step, branch, block), values[0, 0])
            for step, branch in places:
                self._mark((step, branch, block))

    def _places(self, number: int) -> list[tuple[int, int]]:
        """Step and branch of every item of a pass."""
        assert self._run is not None
        branches = len(self._run.branches)
        if self._run.order == "batch":
            places = [(number, branch) for branch in range(branches)]
        else:
            places = [divmod(number, branches)]
        if places[0][0] >= len(self._levels):
            raise StoreShapeError(
                f"The store at {self.path} has room for {len(self._levels)} steps, one a noise level, and the model "
                "runs again. Give noise_levels one entry more for each step."
            )
        return places

    def _along_heads(self, heads: int) -> int:
        assert self._run is not None
        kept = self._run.plan.kept_heads(heads)
        return 1 if kept is None else len(kept)

    def _skeleton(self, heads: int) -> xr.Dataset:
        """The whole recording with its coordinates and attributes, and arrays that take no memory."""
        assert self._run is not None
        plan, layout = self._run.plan, longest(self._run.plan.layouts)
        nothing = torch.zeros((), dtype=plan.dtype).numpy()
        common = (*self._complete.shape, self._along_heads(heads))
        arrays = {name: np.broadcast_to(nothing, (*common, *plan.shape_of(name, layout))) for name in plan.keep}
        self._size = sum(array.nbytes for array in arrays.values())
        attributes = json.loads(json.dumps({**self._run.described, **self._attributes}))
        return label(
            plan, layout, arrays, self._tokens, attributes,
            branches=self._run.branches, levels=self._levels, heads=plan.kept_heads(heads),
        )  # fmt: skip

    def _create(self, heads: int) -> None:
        """Lay the folder out beside its place, and put it there."""
        assert self._run is not None
        dataset = self._skeleton(heads)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._check_space()
        plain = plain_dataset(dataset).assign_attrs({MARKS: True})
        place = beside(self.path)
        try:
            coordinates = plain.drop_vars(list(plain.data_vars))
            coordinates.to_zarr(place, mode="w-", zarr_format=3, consolidated=False, write_empty_chunks=True)
            group = zarr.open_group(place, mode="r+", zarr_format=3)
            for name, array in plain.data_vars.items():
                group.create_array(
                    str(name), shape=array.shape, dtype=array.dtype, fill_value=np.nan, attributes=array.attrs,
                    dimension_names=[str(axis) for axis in array.dims], **encoding(array),
                )  # fmt: skip
            group.create_array(
                MARKS, shape=self._complete.shape, chunks=(1, 1, 1), dtype=bool, fill_value=False,
                dimension_names=["step", "branch", "block"], compressors=(Crc32cCodec(),),
            )  # fmt: skip
            seal(place, without={MARKS, *map(str, plain.data_vars)})
            for file in place.rglob("*"):
                _put_on_disk(file)
            os.rename(place, self.path)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        _put_on_disk(self.path.parent)
        self._open_arrays()

    def _take_up(self) -> None:
        """Open the folder of an earlier run, and check that it was the same run."""
        assert self._run is not None
        found, complete = open_whole(self.path, repaired=True)
        expected = self._skeleton(found.sizes.get("head", 1))
        if different := differences(expected, found):
            raise OtherRunError(self.path, different)
        self._finished = complete is None
        self._complete = np.ones_like(self._complete) if complete is None else complete
        if not self._finished:
            for left in self.path.rglob("*.partial"):  # by a write that was killed
                left.unlink()
            self._check_space()
            self._open_arrays()

    def _open_arrays(self) -> None:
        assert self._run is not None
        group = zarr.open_group(self.path, mode="r+", zarr_format=3)
        # An absent chunk counts as lost, so one that holds nothing but the fill value is written too.
        config: Any = {"write_empty_chunks": True}
        for name in (*self._run.plan.keep, MARKS):
            array = group[name]
            assert isinstance(array, zarr.Array)
            self._arrays[name] = array.with_config(config)

    def _put(self, name: str, place: tuple[int, int, int], values: torch.Tensor) -> None:
        """One quantity of one block, (head, ...); what a shorter branch does not have is nan."""
        assert self._run is not None
        whole = (values.shape[0], *self._run.plan.shape_of(name, longest(self._run.plan.layouts)))
        if values.shape != whole:
            corner = tuple(slice(0, size) for size in values.shape)
            padded = values.new_full(whole, float("nan"))
            padded[corner] = values
            values = padded
        array = self._arrays[name]
        block, step = values.numpy().reshape(array.shape[3:]), array.chunks[3]
        for head in range(0, len(block), step):  # a chunk at a time: zarr copies what it writes, and then compresses it
            array[(*place, slice(head, head + step))] = block[head : head + step]
        for chunk in chunks_of(array, place):
            _put_on_disk(self.path / name / chunk)

    def _mark(self, place: tuple[int, int, int]) -> None:
        self._arrays[MARKS][place] = True
        _put_on_disk(self.path / MARKS / chunks_of(self._arrays[MARKS], place)[0])
        self._complete[place] = True
        self._writing[1].append(place)

    def _finish(self, kernels: Sequence[str]) -> None:
        """Say in the attributes that all is there, then take the marks away."""
        group = zarr.open_group(self.path, mode="r+", zarr_format=3)
        attributes = {name: value for name, value in group.attrs.items() if name != MARKS}
        group.attrs.put(resealed({**attributes, "kernels": list(kernels)}, without=MARKS))
        _put_on_disk(self.path / "zarr.json")
        marks = beside(self.path)
        os.rename(self.path / MARKS, marks)
        shutil.rmtree(marks, ignore_errors=True)
        self._finished, self._arrays = True, {}

    @property
    def _needed(self) -> int:
        """Bytes before compression of the blocks that are not complete."""
        return self._size * int((~self._complete).sum()) // max(1, self._complete.size)

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if self._needed > free:
            raise StoreSpaceError(self.path, self._needed, free, begun=self.path.exists())

    @contextmanager
    def _space_checked(self) -> Iterator[None]:
        """Say what is needed where the system has no room."""
        try:
            yield
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            free = shutil.disk_usage(self.path.parent).free
            raise StoreSpaceError(self.path, self._needed, free, begun=self.path.exists()) from error


@dataclass(frozen=True)
class _StepOfStore:
    """The sink of one forward pass: the store, with step and branch of every item."""

    store: RecordingStore
    places: list[tuple[int, int]]

    def has(self, place: int) -> bool:
        """Whether this block is complete."""
        return self.store.has(self.places, place)

    def write(self, place: int, results: Sequence[Results]) -> None:
        """Write this block."""
        self.store.write(self.places, place, results)


def _put_on_disk(path: Path) -> None:
    """Wait until a file or folder would survive a failure of power; only POSIX has that for folders."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
