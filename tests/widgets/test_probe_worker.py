"""The thread of a probe: the newest wish alone, ended between passes, with progress that is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from refam_analysis.widgets.probe_worker import NewestFirst, Run, RunEndedError

LONG = 30.0
"""Seconds after which a test that hangs gives up."""


class Passes:
    """Work in steps: each waits until the test lets it go on, and asks before whether it should."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.begun: list[str] = []
        self.done: list[str] = []
        self.ended: list[str] = []
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def __call__(self, wish: str, run: Run) -> None:
        self.begun.append(wish)
        try:
            for _ in range(self.steps):
                run.check()
                self.entered.release()
                assert self.go_on.acquire(timeout=LONG)
            run.check()
        except RunEndedError:
            self.ended.append(wish)
            raise
        self.done.append(wish)


@pytest.fixture
def passes() -> Passes:
    return Passes(steps=2)


@pytest.fixture
def worker(passes: Passes) -> Iterator[NewestFirst[str]]:
    made: NewestFirst[str] = NewestFirst(passes)
    yield made
    made.close()
    passes.go_on.release(100)


def test_what_is_typed_while_it_waits_is_never_begun(passes: Passes, worker: NewestFirst[str]) -> None:
    for text in ("t", "th", "the", "the r"):
        worker.wish(text, after=LONG)
    worker.wish("the ring")
    passes.go_on.release(100)
    assert worker.wait(LONG)
    assert passes.begun == passes.done == ["the ring"]


def test_newer_wish_ends_the_running_one_at_its_next_check(passes: Passes, worker: NewestFirst[str]) -> None:
    worker.wish("old")
    assert passes.entered.acquire(timeout=LONG)
    worker.wish("newer")
    worker.wish("newest")
    passes.go_on.release(100)
    assert worker.wait(LONG)
    assert passes.ended == ["old"]
    assert passes.begun == ["old", "newest"] and passes.done == ["newest"]


def test_cancelled_run_ends_and_nothing_follows(passes: Passes, worker: NewestFirst[str]) -> None:
    worker.wish("long")
    assert passes.entered.acquire(timeout=LONG)
    assert worker.cancel()
    passes.go_on.release(100)
    assert worker.wait(LONG)
    assert (passes.ended, passes.done) == (["long"], [])
    assert not worker.cancel()


def test_wish_that_waits_can_be_cancelled(passes: Passes, worker: NewestFirst[str]) -> None:
    worker.wish("later", after=LONG)
    assert worker.cancel()
    assert worker.wait(LONG) and passes.begun == []


def test_waiting_gives_up_when_told_to(passes: Passes, worker: NewestFirst[str]) -> None:
    worker.wish("long")
    assert not worker.wait(0.05)


def test_work_runs_in_one_thread_that_is_not_this_one() -> None:
    seen: list[int] = []
    worker: NewestFirst[str] = NewestFirst(lambda wish, run: seen.append(threading.get_ident()))
    for wish in ("one", "two"):
        worker.wish(wish)
        assert worker.wait(LONG)
    worker.close()
    assert len(set(seen)) == 1 and seen[0] != threading.get_ident()


def test_closed_worker_takes_no_wish(passes: Passes, worker: NewestFirst[str]) -> None:
    worker.close()
    worker.wish("late")
    assert worker.wait(LONG) and passes.begun == []


def test_progress_is_told_at_the_start_of_each_part_and_not_at_every_step() -> None:
    told: list[tuple[int, int, str]] = []
    run = Run(lambda *progress: told.append(progress))
    run.progress(0, 0, "Loading")
    for block in range(500):
        run.progress(block, 500, "Running")
    assert told[:2] == [(0, 0, "Loading"), (0, 500, "Running")]
    assert len(told) < 100


def test_run_that_is_to_end_says_nothing_more() -> None:
    told: list[str] = []
    run = Run(lambda done, total, what: told.append(what))
    run.end()
    run.progress(1, 2, "Running")
    with pytest.raises(RunEndedError):
        run.check()
    assert told == []
