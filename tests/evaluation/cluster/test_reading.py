"""Reading ahead: pictures travel in their tasks, what cannot be read is left to the worker, errors reach the reader."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from references.small_datasets import write_picture

from refam_analysis.evaluation.cluster.reading import Ahead, ReadPicture, read, read_ahead
from refam_analysis.evaluation.datasets import ReferringImage, load_dataset
from refam_analysis.evaluation.datasets.files import FilePicture
from refam_analysis.evaluation.runner import GroupTask, RunConfiguration


def task_of(dataset: str) -> GroupTask:
    items = load_dataset(dataset, "test", limit=1)
    return GroupTask(0, items[0], RunConfiguration(dataset, "test"), items.empty)


def in_file(path: Path, size: tuple[int, int] = (30, 40)) -> GroupTask:
    task = task_of("scenes")
    return replace(task, item=replace(task.item, picture=FilePicture(str(path), "image 7", size)))


def test_a_read_picture_is_the_picture(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", (30, 40))
    task = in_file(tmp_path / "a.png")
    done = read(task)
    assert isinstance(done.item, ReferringImage) and isinstance(done.item.picture, ReadPicture)
    np.testing.assert_array_equal(done.item.load(), task.item.load())
    assert done.item.size == (30, 40) and done.item.expressions == task.item.expressions
    assert done.item.picture.seconds > 0


def test_a_picture_that_cannot_be_read_is_left_to_the_worker(tmp_path: Path) -> None:
    missing = in_file(tmp_path / "none.png")
    assert read(missing) is missing


@pytest.mark.parametrize("dataset", ["scenes", "moving-scenes"])
def test_what_is_in_no_file_is_left_as_it_is_without_a_cluster(dataset: str) -> None:
    tasks = [task_of(dataset)] * 2
    assert list(read_ahead(iter(tasks), readers=1)) == tasks


def test_an_error_while_reading_is_raised_where_the_next_is_taken() -> None:
    def broken() -> Generator[int]:
        yield 1
        raise OSError("the disk is gone")

    with Ahead(broken(), size=2) as ahead:
        assert ahead.take(wait=10) == 1
        with pytest.raises(OSError, match="the disk is gone"):
            ahead.take(wait=10)
        assert ahead.finished


def test_no_more_is_read_than_is_held_and_nothing_after_the_end() -> None:
    taken, closed = [], threading.Event()

    def numbers() -> Generator[int]:
        try:
            for number in range(100):
                taken.append(number)
                yield number
        finally:
            closed.set()

    with Ahead(numbers(), size=3) as ahead:
        assert ahead.take(wait=10) == 0
    assert closed.is_set()
    assert len(taken) <= 5  # one taken, three held, one in hand
