"""Processes that faults happen to: each is forked from one that has everything imported, and says how it ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from refam_analysis.errors import told

How = Literal["finished", "told", "killed", "crashed", "hung"]
PATIENCE = 120.0
"""Seconds after which a process hangs."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        how: "told" is an error in a sentence, "crashed" any other, "killed" by a signal.
        said: the sentence, the traceback, or the signal's name.
        value: what the work returned, as JSON gives it back.
    """

    how: How
    said: str = ""
    value: Any = None


def forked(work: Callable[[], Any], *, seconds: float = PATIENCE, kill_after: float | None = None) -> Ended:
    """Do work in a process of its own.

    Args:
        work: returns what fits into JSON.
        seconds: after which it counts as hanging.
        kill_after: kill it after so many seconds.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(reader)
        _work(work, writer)
    os.close(writer)
    try:
        return _waited(child, reader, seconds, kill_after)
    finally:
        os.close(reader)


def _work(work: Callable[[], Any], writer: int) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        ended = {"how": "finished", "value": work()}
    except KeyboardInterrupt:
        ended = {"how": "killed", "said": "KeyboardInterrupt"}
    except BaseException as error:
        sentence = told(error)
        how, said = ("crashed", traceback.format_exc()) if sentence is None else ("told", sentence)
        ended = {"how": how, "said": said}
    text = json.dumps(ended).encode()
    while text:
        text = text[os.write(writer, text) :]
    os._exit(0)


def _waited(child: int, reader: int, seconds: float, kill_after: float | None) -> Ended:
    started, text = time.monotonic(), b""
    os.set_blocking(reader, False)
    while True:
        text += _read(reader)
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if kill_after is not None and time.monotonic() - started > kill_after:
            os.kill(child, signal.SIGKILL)
        if time.monotonic() - started > seconds:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Ended("hung", f"longer than {seconds:g} seconds")
        time.sleep(0.002)
    text += _read(reader)
    if os.WIFSIGNALED(status):
        return Ended("killed", signal.Signals(os.WTERMSIG(status)).name)
    if not text:
        return Ended("crashed", f"exit status {os.WEXITSTATUS(status)}, nothing said")
    return Ended(**json.loads(text))


def _read(reader: int) -> bytes:
    text = b""
    try:
        while piece := os.read(reader, 65536):
            text += piece
    except BlockingIOError:
        pass
    return text


def leftovers(folder: Path) -> list[str]:
    """Names of what only an unfinished write has."""
    marks = (".partial", ".old", ".unpacked", ".part")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(marks))
