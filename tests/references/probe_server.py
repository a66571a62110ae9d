"""``refam probe`` as its own process, for as long as a test needs it, and what of it is still there afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

TOKEN = "a-token-for-tests"


@dataclass
class Served:
    """A server that runs.

    Attributes:
        address: of the page, with a slash at the end and without the token.
        process: of the server.
        temporary: the folder that it makes its own temporary folder in.
    """

    address: str
    process: subprocess.Popen[str]
    temporary: Path

    @property
    def page(self) -> str:
        """What a visitor opens."""
        return f"{self.address}?token={TOKEN}"

    @property
    def socket(self) -> str:
        """The address for websockets."""
        return self.address.replace("http:", "ws:")

    def family(self) -> list[psutil.Process]:
        """The server with all processes that it has started: mother, stand-ins and kernels."""
        server = psutil.Process(self.process.pid)
        return [server, *server.children(recursive=True)]

    def kernels(self) -> list[psutil.Process]:
        """The visitors' processes, which the mother process has forked."""
        (mother,) = [one for one in psutil.Process(self.process.pid).children() if "server_mother" in words(one)]
        return [one for one in mother.children() if one.status() != psutil.STATUS_ZOMBIE]

    def end(self, number: int = signal.SIGTERM) -> list[psutil.Process]:
        """Send a signal, and wait.

        Returns:
            Processes that are left ten seconds after it.
        """
        family = self.family()
        self.process.send_signal(number)
        _, alive = psutil.wait_procs(family, timeout=20)
        return alive


def words(process: psutil.Process) -> str:
    """The command of a process; nothing of one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def served(folder: Path, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """A server on a free port, with the token of the tests.

    Args:
        folder: empty; home, working directory and temporary files of the server lie in it.
        options: of the command.
        environment: further names.
    """
    places = {name: folder / name for name in ("home", "here", "tmp")}
    for place in places.values():
        place.mkdir()
    names = {
        "HOME": str(places["home"]),
        "TMPDIR": str(places["tmp"]),
        "REFAM_PROBE_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "1",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG", "IPY", "MPL"))}
    command = [sys.executable, "-m", "refam_analysis.cli", "probe", "--port", "0", "--no-browser", *options]
    process = subprocess.Popen(
        command, cwd=places["here"], env={**kept, **names, **(environment or {})}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:3] == ["The", "probe", "is"], words
        yield Served(words[-1].partition("?")[0], process, places["tmp"])
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
