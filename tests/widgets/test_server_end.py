"""However the server ends, no process is left and nothing is written anywhere but in its temporary folder."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import requests
from references.probe_server import served

WATCH = """
import os, sys
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
LIST = os.open({list!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
PLACES = {{"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "os.truncate": 0, "sqlite3.connect": 0}}

def watch(event, arguments):
    path = None
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        path = arguments[0]
    elif event in PLACES:
        path = arguments[PLACES[event]]
    if isinstance(path, (str, bytes, os.PathLike)):
        os.write(LIST, os.fsencode(os.path.abspath(path)) + b"\\n")

sys.addaudithook(watch)
"""
"""Run at the start of every Python process of the server; forks inherit it. It notes each path that is written to."""
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


@pytest.mark.parametrize("number", ENDS, ids=lambda number: number.name)
def test_nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory, number: signal.Signals) -> None:
    tmp_path = tmp_path_factory.mktemp("end")  # short: a socket lies deep in it
    watched, places = tmp_path / "watch", tmp_path / "places"
    watched.mkdir()
    (watched / "sitecustomize.py").write_text(WATCH.format(list=str(tmp_path / "written")))
    places.mkdir()
    with served(places, environment={"PYTHONPATH": str(watched)}) as server:
        assert requests.get(server.page, timeout=120).status_code == 200
        assert len(server.kernels()) == 1
        (folder,) = server.temporary.iterdir()
        assert server.end(number) == []
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [list((places / name).iterdir()) for name in ("home", "here", "tmp")] == [[], [], []]
    written = {Path(line) for line in (tmp_path / "written").read_text().splitlines()}
    assert any(path.is_relative_to(folder / "visits") for path in written)
    elsewhere = {path for path in written if not path.is_relative_to(folder) and path != Path("/dev/null")}
    # Python's tempfile tries out the place of the folder itself, with a file that it deletes at once.
    assert {path for path in elsewhere if path.parent != places / "tmp"} == set()
