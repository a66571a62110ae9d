"""Voila as an application: its configuration, its list of addresses, its start and its end.

Everything that it would read from the reader's own Jupyter settings is set here instead. The answers themselves are in
`server_app`.
"""

from __future__ import annotations

import signal
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_server.base.websocket import WS_PING_INTERVAL
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import Application, RequestHandler
from traitlets import Any as AnyTrait
from traitlets.config import Config
from voila.app import Voila
from voila.utils import get_voila_labextensions_path

from refam_analysis.widgets.server_app import (
    TEMPLATE,
    EndOfVisit,
    Nothing,
    ProbePage,
    StaticFiles,
    TemplateFiles,
    ThemeFiles,
    TokenIdentity,
    Visit,
    VisitChannels,
    VisitorKernels,
    WidgetFiles,
)
from refam_analysis.widgets.server_settings import MAX_BODY_BYTES, MAX_MESSAGE_BYTES, ServerSettings

WIDGETS = ("@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget")
"""The only extensions of JupyterLab that the page loads."""
CULL_SECONDS = 5
_KERNEL_ID = r"(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)"


class ProbeServer(Voila):
    """One server of one page."""

    name = "voila"
    settings = AnyTrait()
    folder = AnyTrait()
    listener = AnyTrait()

    def initialize(self, argv: list[str] | None = None) -> None:
        """Take our configuration and no other."""
        self.update_config(_configuration(self.settings, self.folder))
        super().initialize(argv)

    def init_settings(self) -> dict[str, Any]:
        """Voila's settings of tornado, with limits and without what is open in them."""
        given = super().init_settings()
        given |= {
            "allow_remote_access": not self.settings.on_this_machine and not self.settings.public_address,
            "local_hostnames": list(self.settings.known_hosts),
            "allow_unauthenticated_access": False,
            "websocket_max_message_size": MAX_MESSAGE_BYTES,
            "ws_ping_timeout": WS_PING_INTERVAL,
            "log_function": _log_nothing,
            "server_root_dir": str(self.folder / "notebook"),
        }
        return given

    def init_handlers(self) -> list[Any]:
        """All addresses that are answered, and for all others :class:`Nothing`."""
        base = self.server_url
        page = {
            "notebook_path": "probe.ipynb", "template_paths": self.template_paths, "config": self.config,
            "voila_configuration": self.voila_configuration,
        }  # fmt: skip
        extensions = get_voila_labextensions_path()
        names = "|".join(WIDGETS)
        themes = {"themes_url": f"{base}voila/api/themes", "path": self.themes_dir, "labextensions_path": []}
        return [
            (base, ProbePage, page),
            (rf"{base}api/kernels/{_KERNEL_ID}", Visit),
            (rf"{base}api/kernels/{_KERNEL_ID}/channels", VisitChannels),
            (rf"{base}voila/api/shutdown/{_KERNEL_ID}", EndOfVisit),
            (rf"{base}voila/templates/((?:{TEMPLATE}|lab|base)/static/.+)", TemplateFiles),
            (rf"{base}voila/static/(.+)", StaticFiles, {"paths": self.static_paths}),
            (rf"{base}voila/api/themes/(.+)", ThemeFiles, themes),
            (rf"{base}voila/labextensions/((?:{names})/.+)", WidgetFiles, {"path": extensions}),
            (r".*", Nothing),
        ]

    def serve(self, ready: Callable[[str], None], *, open_browser: bool) -> None:
        """Answer visitors until a signal comes.

        Args:
            ready: called with the address.
            open_browser: open it here.
        """
        self.connection_dir = str(self.folder / "connections")
        self.app = Application(**self.init_settings())
        self.app.add_handlers(".*$", self.init_handlers())
        server = HTTPServer(
            self.app, max_body_size=MAX_BODY_BYTES, max_header_size=2**15, idle_connection_timeout=300
        )  # fmt: skip
        server.add_socket(self.listener)
        loop = IOLoop.current()
        before = {
            number: signal.signal(number, lambda *_: loop.add_callback_from_signal(loop.stop)) for number in _ENDS
        }
        address = self.settings.address(self.listener.getsockname()[1])
        loop.add_callback(ready, address)
        if open_browser:
            loop.add_callback(_open_browser, address, self.folder)
        try:
            loop.start()
        finally:
            loop.run_sync(lambda: _end(server, self.kernel_manager))
            for number, handler in before.items():
                signal.signal(number, handler)


_ENDS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def _configuration(settings: ServerSettings, folder: Path) -> Config:
    identity = {"token": settings.token, "cookie_options": {"samesite": "Strict"}, "secure_cookie": settings.secure}
    return Config(
        {
            "Voila": {
                "base_url": settings.base_url, "config_file_paths": [], "identity_provider_class": TokenIdentity,
                "log_level": "ERROR", "notebook_path": str(folder / "notebook" / "probe.ipynb"),
                "root_dir": str(folder / "notebook"), "token": settings.token,
            },
            "VoilaConfiguration": {
                "allow_template_override": "NO", "allow_theme_override": "NO", "extension_allowlist": list(WIDGETS),
                "multi_kernel_manager_class": VisitorKernels, "template": TEMPLATE, "theme": "light",
            },
            "VoilaExecutor": {"cell_error_instruction": "", "startup_timeout": 120},
            "TokenIdentity": identity,
            "VisitorKernels": {
                "cull_idle_timeout": 1, "cull_interval": CULL_SECONDS, "idle_seconds": 60 * settings.idle_minutes,
                "visitors": settings.visitors,
            },
            "KernelManager": {"autorestart": False},
            "KernelSpecManager": {"allowed_kernelspecs": {"refam-probe"}, "ensure_native_kernel": False},
        }
    )  # fmt: skip


async def _end(server: HTTPServer, kernels: VisitorKernels) -> None:
    server.stop()
    await kernels.shutdown_all(now=True)
    await server.close_all_connections()


def _log_nothing(_: RequestHandler) -> None:
    """No list of who asked for what; errors of ours are told by the handlers, without the token."""


def _open_browser(address: str, folder: Path) -> None:
    """Open the page by a file that leads there: other users of this machine see the arguments of a command."""
    file = folder / "open.html"
    file.write_text(f'<!DOCTYPE html><meta http-equiv="refresh" content="0;url={address}"><title>RefAM probe</title>\n')
    file.chmod(0o600)
    threading.Thread(target=webbrowser.open, args=(file.as_uri(),), daemon=True).start()
