"""``refam probe``: the probe as a page for several visitors, served by Voila on this machine.

One call serves until it is interrupted. All that is written lies in one temporary folder, which goes at the end. The
choices are in `server_settings`; which addresses are answered, in `server_app`; the visitors' processes, in
`server_mother` and `server_visit`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from refam_analysis.errors import RefamError
from refam_analysis.widgets.server_settings import PortTakenError, ServerSettings
from refam_analysis.widgets.server_visit import FOLDER_VARIABLE, SOURCE_VARIABLE, own_places

APP = Path(__file__).with_name("app")
"""The served notebook and its template."""
KERNEL = "refam-probe"
_SECRETS = ("REFAM_PROBE_TOKEN", "JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE")


class MissingServerError(RefamError, ImportError):
    """Voila is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The app needs {name}, which is not installed: pip install 'refam-analysis[probe]'.")


def serve_probe(
    settings: ServerSettings | None = None,
    *,
    ready: Callable[[str], None] = print,
    open_browser: bool = False,
) -> None:
    """Serve the probe until SIGINT (Ctrl-C), SIGTERM or SIGHUP comes; then end every visit and leave nothing behind.

    To be called in the main thread of a process that does nothing else: it changes the process' environment and
    signal handlers for as long as it runs.

    Args:
        settings: what to serve, where and to whom; the defaults where None.
        ready: called with the address, token included, once visitors can come.
        open_browser: open it in the reader's browser.

    Raises:
        PortTakenError: something else listens there.
        MotherError: the model cannot be loaded.
        MissingServerError: Voila is not installed.
    """
    settings = settings or ServerSettings()
    try:
        from refam_analysis.widgets.server_voila import ProbeServer
    except ImportError as error:
        raise MissingServerError(error.name or "Voila") from error
    with _listening(settings) as listener, _temporary_folder() as folder, _environment(folder):
        with _kernels(settings, folder) as command:
            _write_kernel(folder, command)
            shutil.copy(APP / "probe.ipynb", folder / "notebook" / "probe.ipynb")
            server = ProbeServer.instance(settings=settings, folder=folder, listener=listener)
            try:
                server.initialize([])
                server.serve(ready, open_browser=open_browser)
            finally:
                ProbeServer.clear_instance()


@contextmanager
def _listening(settings: ServerSettings) -> Iterator[socket.socket]:
    """The socket, taken before anything is loaded, so that a wrong port is told at once."""
    try:
        family, *_, place = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(place[:2], family=family, backlog=128)
    except OSError as error:
        raise PortTakenError(settings.host, settings.port, error.strerror or str(error)) from error
    with listener:
        listener.setblocking(False)
        yield listener


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="refam-probe-"))
    try:
        for name in ("notebook", "visits", "server", "connections"):
            (folder / name).mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """Point Jupyter at our template and our folder, away from the reader's own settings; put it back afterwards."""
    before, wrote = dict(os.environ), sys.dont_write_bytecode
    for name in _SECRETS:
        os.environ.pop(name, None)
    places = {name: place for name, place in own_places(folder / "server").items() if name.startswith(("IPY", "JUP"))}
    os.environ.update({**places, "JUPYTER_PATH": str(APP)})
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        sys.dont_write_bytecode = wrote


@contextmanager
def _kernels(settings: ServerSettings, folder: Path) -> Iterator[list[str]]:
    """The command that starts a visitor's kernel, for as long as it works."""
    from refam_analysis.widgets import server_mother, server_stand_in

    if server_mother.can_fork():
        mother = server_mother.Mother(settings.source, folder)
        try:
            yield [sys.executable, "-I", "-S", server_stand_in.__file__, str(mother.socket)]
        finally:
            mother.stop()
    else:
        os.environ.update({FOLDER_VARIABLE: str(folder), SOURCE_VARIABLE: settings.source})
        yield [sys.executable, "-m", "refam_analysis.widgets.server_visit"]


def _write_kernel(folder: Path, command: list[str]) -> None:
    """Tell Jupyter of our kernel, the only one that it may start."""
    place = folder / "server" / "data" / "kernels" / KERNEL
    place.mkdir(parents=True)
    about = {"argv": [*command, "{connection_file}"], "display_name": "RefAM probe", "language": "python"}
    (place / "kernel.json").write_text(json.dumps(about))
