"""The mother process: it loads the model once, and every visitor's kernel is a fork of it.

Loading PyTorch, diffusers and a model takes seconds and hundreds of megabytes. A forked process has all of it at once
and shares the memory until it writes to it. A fork must not happen in a process that has threads: so everything here
runs on one, PyTorch and the linear algebra included, and no kernel ever runs in the mother process itself.

It listens on a socket in the server's temporary folder, one connection a kernel (`server_stand_in`). Where a
connection ends, the kernel is killed; where the server ends, all of them are, and the folder is deleted. So nothing is
left behind, however the server was stopped.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from refam_analysis.errors import RefamError
from refam_analysis.widgets.server_visit import (
    FOLDER_VARIABLE,
    SOURCE_VARIABLE,
    Prepared,
    own_places,
    prepare,
    run_kernel,
)

ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
}  # fmt: skip
"""For the mother's environment. Kernels set their number of threads anew; threads that wait sleep, or two visitors on
two cores would hinder each other fifty times over."""
LONGEST_SOCKET = 103
"""In bytes: the shortest limit that systems set to the path of a socket, which is that of macOS and the BSDs."""


class MotherError(RefamError, RuntimeError):
    """The process that all visitors' kernels come from has not started."""


class Mother:
    """The mother process, as the server sees it.

    Args:
        source: of the model.
        folder: the server's temporary folder.

    Raises:
        MotherError: the model could not be loaded; the sentence says why.
    """

    def __init__(self, source: str, folder: Path) -> None:
        self.socket = folder / "mother.sock"
        if len(os.fsencode(self.socket)) > LONGEST_SOCKET:
            raise MotherError(
                f"The probe cannot be started: the path of its temporary folder, {folder}, is too long for a socket in "
                "it. Set TMPDIR to a folder with a shorter path."
            )
        environment = {**os.environ, **ONE_THREAD, **own_places(folder / "mother"), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {FOLDER_VARIABLE: str(folder), SOURCE_VARIABLE: source}
        (folder / "mother").mkdir(exist_ok=True)
        self._process = subprocess.Popen(  # noqa: S603 (our own module; no shell, and no word of a visitor's)
            [sys.executable, "-m", __name__], cwd=folder / "mother", env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, start_new_session=True, text=True,
        )  # fmt: skip
        try:
            assert self._process.stdout is not None
            said = json.loads(self._process.stdout.readline() or '{"error": "it ended before it was ready"}')
            if "error" in said:
                raise MotherError(f"The probe cannot be started: {said['error']}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every kernel, and then the mother process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def can_fork() -> bool:
    """Whether kernels can be forked here. On macOS the system's own libraries do not survive it."""
    return sys.platform not in ("win32", "darwin") and hasattr(os, "fork")


def main() -> None:
    """Be the mother process: load, say so on the standard output, and fork until the standard input ends."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "mother.sock"))
            listener.listen(64)
            try:
                _load(os.environ[SOURCE_VARIABLE])
            except Exception as error:
                print(json.dumps({"error": str(error) or type(error).__name__}), flush=True)
                return
            print(json.dumps({"ready": True}), flush=True)
            if run := _Nursery(listener, folder / "visits").serve():
                listener.close()
                run()
    finally:
        if os.getpid() == _OWN:
            shutil.rmtree(folder, ignore_errors=True)
            sys.stdout.flush()
            os._exit(0)  # libraries tell of what they leak on the way out, which helps nobody here


_OWN = os.getpid()


def _load(source: str) -> None:
    """Import and load all that a visit needs, on one thread, and let the garbage collector leave it alone."""
    import torch

    torch.set_num_threads(1)
    import ipykernel.ipkernel  # noqa: F401
    import ipykernel.zmqshell  # noqa: F401
    from tqdm import tqdm

    import refam_analysis.widgets.probe  # noqa: F401

    tqdm.monitor_interval = 0  # or a bar starts a thread
    prepared = prepare(source)
    if source == "embedded":
        _answer_once(prepared)
    gc.collect()
    gc.freeze()  # or its marks would copy the shared memory
    if others := [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]:
        raise MotherError(f"before the first fork, threads run that may not: {', '.join(others)}")


def _answer_once(prepared: Prepared) -> None:
    """Answer a question, so that whatever is imported or built at a first use is there for every visitor."""
    from refam_analysis.widgets.probe_answer import Answerer
    from refam_analysis.widgets.probe_pictures import SceneChoice, drawn
    from refam_analysis.widgets.probe_state import ProbeState
    from refam_analysis.widgets.probe_worker import Run

    picture = drawn(SceneChoice())
    (question,) = ProbeState(picture, picture.expressions[0]).questions()
    answerer = Answerer(prepared.model, prepared.segmenter)
    answerer.answer(question, Run(lambda done, total, what: None))
    answerer.warm_up()


@dataclass
class _Visit:
    """A kernel that runs."""

    pid: int
    line: socket.socket
    folder: Path


class _Nursery:
    """Forks kernels, passes signals on to them, and cleans up after them."""

    def __init__(self, listener: socket.socket, folder: Path) -> None:
        self._listener, self._folder = listener, folder
        self._visits: dict[int, _Visit] = {}
        self._selector = selectors.DefaultSelector()
        self._ended, self._end = socket.socketpair()

    def serve(self) -> Callable[[], None] | None:
        """Serve until the standard input ends.

        Returns:
            In the mother process None; in a new kernel's process what it is to do.
        """
        self._ended.setblocking(False)
        self._end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._end.fileno(), warn_on_full_buffer=False)
        for source in (sys.stdin.fileno(), self._listener, self._ended):
            self._selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == sys.stdin.fileno():
                    self._end_all()
                    return None
                if key.fileobj is self._listener:
                    if run := self._admit():
                        return run
                elif key.fileobj is self._ended:
                    self._ended.recv(4096)
                    self._reap()
                elif key.data in self._visits:
                    self._hear(self._visits[key.data])

    def _admit(self) -> Callable[[], None] | None:
        line, _ = self._listener.accept()
        line.settimeout(5.0)
        try:
            connection_file = os.fsdecode(line.makefile("rb", buffering=0).readline().rstrip(b"\n"))
        except TimeoutError:
            line.close()
            return None
        folder = Path(tempfile.mkdtemp(prefix="visit-", dir=self._folder))
        pid = os.fork()
        if pid == 0:
            self._forget(line)
            return lambda: _kernel(connection_file, folder)
        line.settimeout(None)
        self._visits[pid] = _Visit(pid, line, folder)
        self._selector.register(line, selectors.EVENT_READ, pid)
        return None

    def _forget(self, line: socket.socket) -> None:
        """In a new kernel's process: let go of all that is the mother's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for one in (line, self._ended, self._end, *(visit.line for visit in self._visits.values())):
            one.close()
        for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
            nothing = os.open(os.devnull, mode)
            os.dup2(nothing, number)
            os.close(nothing)

    def _hear(self, visit: _Visit) -> None:
        """A signal to pass on; or the stand-in has ended, and the kernel must."""
        try:
            number = visit.line.recv(1)
        except OSError:
            number = b""
        os.kill(visit.pid, number[0] if number else signal.SIGKILL)
        if not number:
            self._selector.unregister(visit.line)

    def _reap(self) -> None:
        while self._visits:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            visit = self._visits.pop(pid)
            if visit.line in self._selector.get_map():
                self._selector.unregister(visit.line)
            try:
                visit.line.send(bytes([os.waitstatus_to_exitcode(status) & 0xFF]))
            except OSError:
                pass  # the stand-in has gone before
            visit.line.close()
            shutil.rmtree(visit.folder, ignore_errors=True)

    def _end_all(self) -> None:
        for pid in self._visits:
            os.kill(pid, signal.SIGKILL)
        for pid in self._visits:
            os.waitpid(pid, 0)


def _kernel(connection_file: str, folder: Path) -> None:
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    run_kernel(connection_file, folder, parent_handle=os.getppid())


if __name__ == "__main__":
    main()
