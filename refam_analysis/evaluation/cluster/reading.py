"""Pictures are read ahead of the workers, by Ray Data, on whichever machine has a processor free.

Files come from a disk that every machine sees, or from object storage; see
:mod:`refam_analysis.evaluation.datasets.files`. What is in no file is left as it is: a scene is drawn where it is used,
and the frames of a clip are read there one by one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refam_analysis.evaluation.cluster.connecting import READING
from refam_analysis.evaluation.cluster.errors import ClusterError
from refam_analysis.evaluation.datasets.base import ReferringImage
from refam_analysis.evaluation.datasets.files import FilePicture
from refam_analysis.evaluation.runner.groups import GroupTask

WINDOW = 256
"""Tasks that Ray Data is given at once: all that the driver holds of a data set of any size."""
BLOCK = 4
"""Pictures that are read in one go."""


@dataclass(frozen=True)
class ReadPicture:
    """A picture that has been read.

    Attributes:
        pixels: RGB, (height, width, 3).
        seconds: that reading took.
    """

    pixels: NDArray[np.uint8]
    seconds: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def load(self) -> NDArray[np.uint8]:
        """The pixels."""
        return self.pixels


def is_in_a_file(task: GroupTask) -> bool:
    """Whether there is a picture to be read ahead."""
    return isinstance(task.item, ReferringImage) and isinstance(task.item.picture, FilePicture)


def read_ahead(tasks: Iterable[GroupTask], *, readers: int) -> Generator[GroupTask]:
    """Tasks, those that have a picture in a file with that picture, in any order.

    Args:
        tasks: taken window by window.
        readers: how many blocks are read at the same time.

    Raises:
        ClusterError: Ray lost the work too often.
    """
    for in_files, neighbours in groupby(tasks, key=is_in_a_file):
        if in_files:
            yield from read_by_ray(neighbours, readers=readers)
        else:
            yield from neighbours


def read(task: GroupTask) -> GroupTask:
    """The task with its picture in it; as it is where that cannot be read, so that the worker finds out and tells.

    Args:
        task: of an image.
    """
    assert isinstance(task.item, ReferringImage)
    start = time.perf_counter()
    try:
        pixels = task.item.load()
    except Exception:
        return task
    return replace(task, item=replace(task.item, picture=ReadPicture(pixels, time.perf_counter() - start)))


def read_by_ray(tasks: Iterable[GroupTask], *, readers: int) -> Generator[GroupTask]:
    """Tasks with their pictures; see :func:`read_ahead`."""
    import ray.data
    from ray.exceptions import RayError

    tasks = iter(tasks)
    while window := list(islice(tasks, WINDOW)):
        blocks = -(-len(window) // BLOCK)
        source = ray.data.from_items([{"task": task} for task in window], override_num_blocks=blocks)
        source.context.enable_progress_bars = False
        source.context.print_on_execution_start = False
        pool = ray.data.TaskPoolStrategy(size=min(readers, blocks))
        pictures = source.map(_read_row, num_cpus=READING, compute=pool)
        try:
            for row in pictures.iter_rows():
                yield row["task"]
        except RayError as error:
            raise ClusterError(f"Pictures cannot be read ahead on the cluster: {error}") from error


def _read_row(row: dict[str, Any]) -> dict[str, Any]:
    return {"task": read(row["task"])}


class Ahead:
    """Takes from a generator in a thread of its own, so that waiting for it never keeps finished rows from the disk.

    Args:
        source: what is taken from.
        size: how many are held at most.

    >>> with Ahead((letter for letter in "ab"), size=1) as ahead:
    ...     taken = [ahead.take(wait=10) for _ in range(3)]
    >>> taken, ahead.finished
    (['a', 'b', None], True)
    """

    def __init__(self, source: Generator[Any], *, size: int) -> None:
        self._source = source
        self._held: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=size)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refam-reading", daemon=True)
        self.finished = False

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30.0)  # it may wait for a cluster that is gone

    def take(self, *, wait: float = 0.0) -> Any | None:
        """The next one; None where there is none yet, or where there are no more.

        Args:
            wait: seconds at most.
        """
        if self.finished:
            return None
        try:
            what, value = self._held.get(timeout=wait) if wait else self._held.get_nowait()
        except queue.Empty:
            return None
        if what == "item":
            return value
        self.finished = True
        if what == "error":
            raise value
        return None

    def _run(self) -> None:
        try:
            with closing(self._source):
                for value in self._source:
                    if not self._put("item", value):
                        return
            self._put("end", None)
        except BaseException as error:  # told where the next one is taken
            self._put("error", error)

    def _put(self, what: str, value: Any) -> bool:
        while not self._stop.is_set():
            try:
                self._held.put((what, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
