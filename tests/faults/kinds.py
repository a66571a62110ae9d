"""Kinds of faults: what happens to a process at a given moment, what its disk and memory allow, what files suffer."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Event = Literal["open", "rename", "remove", "flush", "any"]
"""Opening a file to write, giving one its name, deleting one, waiting for the disk, or any of these."""

EVENTS: tuple[Event, ...] = ("open", "rename", "remove", "flush")


class Watch:
    """Counts what a process does to files below a folder, and acts at one moment.

    Args:
        folder: what lies elsewhere does not count.
        at: number of the moment, from 1 on; 0 never acts.
        event: what is counted towards the moment.
        act: is called just before the event happens; what it raises, the event raises.
    """

    def __init__(
        self, folder: Path, at: int = 0, event: Event = "any", act: Callable[[str], None] | None = None
    ) -> None:
        self.counts = dict.fromkeys((*EVENTS, "any"), 0)
        self._folder, self._at, self._event, self._act = str(folder), at, event, act

    def start(self) -> None:
        """Watch until the process ends: hooks like these stay."""
        flush = os.fsync

        def flushed(descriptor: int) -> None:
            self._seen("flush", self._folder)
            flush(descriptor)

        os.fsync = flushed  # type: ignore[assignment]
        sys.addaudithook(self._hook)

    def _hook(self, name: str, arguments: tuple) -> None:
        if name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self._seen("open", arguments[0])
        elif name == "os.rename":
            self._seen("rename", arguments[1])
        elif name in ("os.remove", "shutil.rmtree"):
            self._seen("remove", arguments[0])

    def _seen(self, event: Event, path: object) -> None:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path).startswith(self._folder):
            return
        self.counts[event] += 1
        self.counts["any"] += 1
        if self._at and self._act and self._event in (event, "any") and self.counts[self._event] == self._at:
            self._act(os.fspath(path))


@dataclass(frozen=True)
class Moment:
    """A moment of a job: before the event that lies at this share of all such events."""

    event: Event
    share: float

    def number(self, counts: dict[str, int]) -> int:
        """Which event that is; 0 where the job has none."""
        count = counts[self.event]
        return 1 + round(self.share * (count - 1)) if count else 0


Way = Literal["signal", "error", "disk", "read-only", "limit", "damage", "finished-damage"]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        says: what happens, for the table.
        way: how it is brought about.
        moment: when, where there is one.
        number: of the signal, or of the system's error.
        share: of what the job needs, of a disk or a limit.
        limit: which of the process's resources is short.
        damage: what becomes of a file before the job goes on.
        metadata: whether it is a file that describes others.
        again: the second start is disturbed too.
    """

    says: str
    way: Way
    moment: Moment | None = None
    number: int = 0
    share: float = 0.0
    limit: int = 0
    damage: str = ""
    metadata: bool = False
    again: bool = False


_KILL, _TERM, _INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
_MIDDLE = Moment("any", 0.5)

KINDS: dict[str, Kind] = {
    "kill-before-the-first-write": Kind("SIGKILL before anything is written", "signal", Moment("any", 0.0), _KILL),
    "kill-early": Kind("SIGKILL at a quarter of the writes", "signal", Moment("any", 0.25), _KILL),
    "kill-midway": Kind("SIGKILL at half of the writes", "signal", _MIDDLE, _KILL),
    "kill-late": Kind("SIGKILL at nine tenths of the writes", "signal", Moment("any", 0.9), _KILL),
    "kill-before-a-rename": Kind("SIGKILL before a file gets its name", "signal", Moment("rename", 0.5), _KILL),
    "kill-before-the-last-rename": Kind("SIGKILL before the last file gets its name", "signal", Moment("rename", 1.0),
                                        _KILL),
    "kill-before-the-last-removal": Kind("SIGKILL before the last file is deleted", "signal", Moment("remove", 1.0),
                                         _KILL),
    "kill-at-a-flush": Kind("SIGKILL while it waits for the disk", "signal", Moment("flush", 0.6), _KILL),
    "kill-twice": Kind("SIGKILL, and again in the second start", "signal", Moment("any", 0.4), _KILL, again=True),
    "terminate": Kind("SIGTERM at half of the writes", "signal", _MIDDLE, _TERM),
    "interrupt": Kind("SIGINT at half of the writes", "signal", _MIDDLE, _INT),
    "io-error-on-write": Kind("EIO where a file is opened to write", "error", Moment("open", 0.5), errno.EIO),
    "io-error-on-rename": Kind("EIO where a file gets its name", "error", Moment("rename", 0.5), errno.EIO),
    "io-error-on-flush": Kind("EIO where it waits for the disk", "error", Moment("flush", 0.5), errno.EIO),
    "quota-used-up": Kind("EDQUOT where a file is opened to write", "error", Moment("open", 0.75), errno.EDQUOT),
    "disk-full-early": Kind("a disk with a quarter of the room", "disk", share=0.25),
    "disk-full-midway": Kind("a disk with six tenths of the room", "disk", share=0.6),
    "disk-full-late": Kind("a disk with nine tenths of the room", "disk", share=0.9),
    "read-only-disk": Kind("SIGKILL, then a disk that is read-only", "read-only", _MIDDLE, _KILL),
    "file-size-limit": Kind("files may have half the size of the largest", "limit", share=0.5,
                            limit=resource.RLIMIT_FSIZE),
    "too-many-open-files": Kind("two more open files than at its start", "limit", share=2,
                                limit=resource.RLIMIT_NOFILE),
    "memory-limit": Kind("a megabyte of address space more than at its start", "limit", share=2**20,
                         limit=resource.RLIMIT_AS),
    "memory-limit-later": Kind("24 megabytes of address space more than at its start", "limit", share=24 * 2**20,
                               limit=resource.RLIMIT_AS),
    "killed-and-a-file-cut": Kind("SIGKILL, and a file loses its second half", "damage", Moment("any", 0.8), _KILL,
                                  damage="cut"),
    "killed-and-a-byte-flipped": Kind("SIGKILL, and a bit of a file turns", "damage", Moment("any", 0.8), _KILL,
                                      damage="flip"),
    "killed-and-a-file-emptied": Kind("SIGKILL, and a file is empty, as after a power cut", "damage",
                                      Moment("any", 0.8), _KILL, damage="empty"),
    "killed-and-a-file-removed": Kind("SIGKILL, and a file is gone", "damage", Moment("any", 0.8), _KILL,
                                      damage="remove"),
    "finished-and-data-flipped": Kind("a bit of finished data turns", "finished-damage", damage="flip"),
    "finished-and-data-cut": Kind("a finished file loses its second half", "finished-damage", damage="cut"),
    "finished-and-data-removed": Kind("a finished file is gone", "finished-damage", damage="remove"),
    "finished-and-data-emptied": Kind("a finished file is empty", "finished-damage", damage="empty"),
    "finished-and-metadata-flipped": Kind("a bit of finished metadata turns", "finished-damage", damage="flip",
                                          metadata=True),
    "finished-and-metadata-cut": Kind("a finished JSON file loses its second half", "finished-damage", damage="cut",
                                      metadata=True),
    "finished-and-metadata-removed": Kind("a finished JSON file is gone", "finished-damage", damage="remove",
                                          metadata=True),
}  # fmt: skip


def group_of(kind: Kind) -> str:
    """The column of the table that a kind is counted in."""
    if kind.way == "signal":
        return "killed" if kind.number == _KILL else "stopped"
    return {
        "error": "I/O errors", "disk": "small disks", "read-only": "small disks", "limit": "limits",
        "damage": "killed and damaged",
    }.get(kind.way, "damaged when finished")  # fmt: skip


def struck(kind: Kind) -> Callable[[str], None]:
    """What acts at the moment of a kind."""
    if kind.way != "error":
        return lambda _: os.kill(os.getpid(), kind.number)

    def refuse(path: str) -> None:
        raise OSError(kind.number, os.strerror(kind.number), path)

    return refuse


def set_limit(kind: Kind, largest: int) -> None:
    """Have the system refuse this process more of a resource.

    Args:
        kind: of the fault.
        largest: bytes of the largest file that the job writes.
    """
    if kind.limit == resource.RLIMIT_FSIZE:
        most = max(1, int(largest * kind.share))
    elif kind.limit == resource.RLIMIT_NOFILE:
        most = max(map(int, os.listdir("/proc/self/fd"))) + int(kind.share)
    else:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + int(kind.share)
    resource.setrlimit(kind.limit, (most, resource.getrlimit(kind.limit)[1]))


def damaged(kind: Kind, folder: Path, seed: str) -> Path | None:
    """Damage one file of a folder, the same for the same seed; None where there is none of the kind."""
    rng = random.Random(seed)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size
             and not path.name.endswith((".lock", ".partial"))]  # fmt: skip
    if kind.way == "finished-damage":
        files = [path for path in files if path.name.endswith(".json") == kind.metadata]
    if not files:
        return None
    path = rng.choice(files)
    content = bytearray(path.read_bytes())
    if kind.damage == "remove":
        path.unlink()
        return path
    if kind.damage == "flip":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    else:
        del content[len(content) // 2 if kind.damage == "cut" else 0 :]
    path.write_bytes(content)
    return path


class Disk:
    """A small disk of its own: a tmpfs, which only root may mount.

    Args:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._system = ctypes.CDLL(None, use_errno=True)

    def mount(self, size: int) -> bool:
        """Mount it with room for so many bytes; False where that is not allowed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._mounted(0, size)

    def remount(self, size: int, *, read_only: bool = False) -> None:
        """Give it another size, or forbid writing."""
        assert self._mounted(32 | int(read_only), size), os.strerror(ctypes.get_errno())

    def unmount(self) -> None:
        """Take it away with all that is on it."""
        self._system.umount2(os.fsencode(self.folder), 2)

    def _mounted(self, flags: int, size: int) -> bool:
        options = f"size={size}".encode()
        return self._system.mount(b"none", os.fsencode(self.folder), b"tmpfs", flags, options) == 0
