"""A fuzz test neither hangs nor asks for memory that its input has no right to."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from fuzz.mutating import TIMES

SECONDS = 120
"""Of the processor, for all examples of a test."""
BYTES = 700e6
"""More than the largest picture that is taken, 89 million pixels, in RGB and once more."""


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """Every test under both limits."""

    def stop(*_: Any) -> None:
        raise AssertionError(f"The examples took more than {SECONDS * TIMES} seconds of a processor.")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS * TIMES)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most)
    assert grown < BYTES, f"The examples took {grown / 1e6:.0f} MB of memory."
