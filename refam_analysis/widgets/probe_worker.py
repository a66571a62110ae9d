"""One thread that works on the newest wish: older ones are dropped, a running one is ended between two passes.

Typing makes a wish at every letter. Each waits a moment for the next one, so that a word in the making is not asked
about; what has begun all the same ends at its next check. Nothing queues up. What is worked on is not known here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Wish = TypeVar("Wish")


class RunEndedError(Exception):
    """A run was ended: it was cancelled, or something newer is wanted. Not an error that a reader is told of."""


class Run:
    """One piece of work, which is asked between passes whether it should go on.

    Args:
        tell: called with done, total and what, a few times a second at most.
    """

    def __init__(self, tell: Callable[[int, int, str], None]) -> None:
        self._tell = tell
        self._ended = threading.Event()
        self._last = (0.0, "")

    def end(self) -> None:
        """Have it end at its next check."""
        self._ended.set()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            RunEndedError: it is to end.
        """
        if self._ended.is_set():
            raise RunEndedError

    def progress(self, done: int, total: int, what: str) -> None:
        """How far it is; told on where enough time has gone by or something new begins."""
        now, (before, said) = time.monotonic(), self._last
        if what != said or now - before > _TELL_EVERY:
            self._last = (now, what)
            if not self._ended.is_set():
                self._tell(done, total, what)


_TELL_EVERY = 0.1
"""Seconds."""


class NewestFirst(Generic[Wish]):
    """A thread that runs the newest wish.

    Args:
        work: does what is wished; called in the thread, one at a time. It handles its own errors but RunEndedError.
        tell: see :class:`Run`.

    >>> done = []
    >>> worker = NewestFirst(lambda wish, run: done.append(wish))
    >>> worker.wish("the r", after=0.1); worker.wish("the ring", after=0.1)
    >>> worker.wait(10.0), done
    (True, ['the ring'])
    >>> worker.close()
    """

    def __init__(
        self,
        work: Callable[[Wish, Run], None],
        *,
        tell: Callable[[int, int, str], None] = lambda done, total, what: None,
    ) -> None:
        self._work, self._tell = work, tell
        self._changed = threading.Condition()
        self._next: tuple[float, Wish] | None = None
        self._run: Run | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def wish(self, wish: Wish, *, after: float = 0.0) -> None:
        """Want something, in the place of whatever was wanted before.

        Args:
            wish: handed to ``work``.
            after: seconds to wait for something newer before it begins.
        """
        with self._changed:
            if self._closed:
                return
            self._next = (time.monotonic() + after, wish)
            if self._run is not None:
                self._run.end()
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="probe", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def cancel(self) -> bool:
        """Drop what waits and end what runs; whether there was anything."""
        with self._changed:
            had = self._next is not None or self._run is not None
            self._next = None
            if self._run is not None:
                self._run.end()
            self._changed.notify_all()
        return had

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do; False where that took longer than ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._next is None and self._run is None, timeout)

    def close(self) -> None:
        """End the thread after what runs has ended."""
        with self._changed:
            self._closed = True
            self._next = None
            if self._run is not None:
                self._run.end()
            self._changed.notify_all()

    def _loop(self) -> None:
        while True:
            wish = self._take()
            if wish is None:
                return
            run = self._run
            assert run is not None
            try:
                self._work(wish[0], run)
            except RunEndedError:
                pass
            finally:
                with self._changed:
                    self._run = None
                    self._changed.notify_all()

    def _take(self) -> tuple[Wish] | None:
        """The next wish when its time has come; None when the thread should end."""
        with self._changed:
            while not self._closed:
                if self._next is None:
                    self._changed.wait()
                    continue
                due, wish = self._next
                if (left := due - time.monotonic()) > 0:
                    self._changed.wait(left)
                    continue
                self._next, self._run = None, Run(self._tell)
                return (wish,)
        return None
