"""Voila, made to serve one page and nothing else: what is asked for, who may ask, and how many.

Voila runs a notebook in a kernel of its own for every visitor and connects the page's widgets to it. Here it is given
the short list of addresses that this takes; no files, no folders, no other notebooks, no terminals, no way to run
code. Each of them wants the token. Each answer carries the headers of `server_settings`.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.base.handlers import APIHandler, FileFindHandler, JupyterHandler
from jupyter_server.services.kernels.handlers import KernelHandler
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from jupyterlab_server.themes_handler import ThemesHandler
from tornado.escape import url_unescape
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler
from traitlets import Float, Integer
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler

from refam_analysis.widgets.server_settings import HEADERS, content_security_policy

TEMPLATE = "refam-probe"
HEARTBEAT = "<script>window.voila_heartbeat()</script>\n"
"""What Voila writes while a kernel starts slowly; a script in the page's text, which the page does not run."""
RETRY_SECONDS = 20

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
{refresh}<title>RefAM probe</title>
<style>:root {{ color-scheme: light dark }} body {{ font: 1.1rem/1.5 sans-serif; max-width: 40rem; margin: 15vh auto;
padding: 0 1rem }}</style></head><body><main><h1>{title}</h1><p role="alert">{sentence}</p></main></body></html>
"""
_SENTENCES = {
    403: ("No token", "This probe is open to those who have its token: use the whole address that was given to you."),
    404: ("Nothing here", "There is one page here, and it is not this one."),
    503: (
        "All places are taken",
        f"As many visitors as this probe has places for are here. This page tries again every {RETRY_SECONDS} seconds.",
    ),
}
_ANYTHING_ELSE = ("That went wrong", "The page could not be made. Reload it; if it stays so, tell whoever runs it.")


class TooManyVisitorsError(HTTPError):
    """There is no place for another visitor now."""

    def __init__(self) -> None:
        super().__init__(503, "all places are taken")


class TokenIdentity(IdentityProvider):
    """The token, in the address or in a header, and then a cookie; no password and no form."""

    @property
    def auth_enabled(self) -> bool:
        """Whether there is a token."""
        return bool(self.token)

    @property
    def login_available(self) -> bool:
        """There is no form to log in."""
        return False

    @property
    def logout_available(self) -> bool:
        """Nor one to log out."""
        return False

    async def get_user_token(self, handler: RequestHandler) -> User | None:
        """The visitor, where the token is right; found out in a time that says nothing about it."""
        given = self.get_token(handler) or ""
        if not self.token or not hmac.compare_digest(given.encode(), self.token.encode()):
            return None
        known = self.get_user_cookie(handler)
        user = await known if isinstance(known, Awaitable) else known
        return user or self.generate_anonymous_user(handler)


class VisitorKernels(AsyncMappingKernelManager):
    """A kernel a visitor, so many at a time, each for as long as it is used."""

    visitors = Integer(8, config=True, help="How many there may be at a time.")
    idle_seconds = Float(1800.0, config=True, help="After which an open page in which nothing happens is ended.")
    away_seconds = Float(60.0, config=True, help="After which a visit without a page is ended.")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._starting: set[str] = set()

    async def start_kernel(self, **options: Any) -> str:  # type: ignore[override]
        """Start a visitor's kernel.

        Raises:
            TooManyVisitorsError: all places are taken, those of kernels that are starting included.
        """
        if len(self._starting.union(self.list_kernel_ids())) >= self.visitors:
            raise TooManyVisitorsError
        name = str(uuid.uuid4())  # chosen here, for a kernel that starts may be in the manager's list already, or not
        self._starting.add(name)
        try:
            return await super().start_kernel(**options, kernel_id=name)
        finally:
            self._starting.discard(name)

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End a visit that nobody is at any more, or whose kernel is gone."""
        kernel = self._kernels[kernel_id]
        quiet = datetime.now(UTC) - kernel.last_activity
        connected = self._kernel_connections.get(kernel_id, 0) > 0
        patience = timedelta(seconds=self.idle_seconds if connected else self.away_seconds)
        if quiet > patience or not await ensure_async(kernel.is_alive()):
            await ensure_async(self.shutdown_kernel(kernel_id, now=True))


class Guarded(JupyterHandler):
    """Answers those alone who have the token, with our headers, and never another site."""

    @property
    def content_security_policy(self) -> str:
        """The same for every answer."""
        return content_security_policy()

    def set_default_headers(self) -> None:
        """All of :data:`~refam_analysis.widgets.server_settings.HEADERS`."""
        super().set_default_headers()
        for name, value in HEADERS.items():
            self.set_header(name, value)
        self.clear_header("Server")

    def set_cors_headers(self) -> None:
        """None: no other site may read an answer."""

    def get_login_url(self) -> str:
        """There is no form to lead to."""
        raise HTTPError(403)

    async def prepare(self, **options: Any) -> None:
        """Ask for the token, also where the class that is guarded would not; and let no address lead upwards."""
        await super().prepare(**options)
        if self.current_user is None:
            raise HTTPError(403)
        if ".." in url_unescape(self.request.path, plus=False).split("/"):
            raise HTTPError(404)

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """What went wrong here, without the query, in which the token stands; what a visitor did wrong, not at all."""
        if not isinstance(error, HTTPError):
            self.log.error("%s %s", self.request.method, self.request.path, exc_info=(kind, error, trace))

    def write_error(self, status_code: int, **_: Any) -> None:
        """A page with one sentence, which repeats nothing of what was asked."""
        title, sentence = _SENTENCES.get(status_code, _ANYTHING_ELSE)
        refresh = f'<meta http-equiv="refresh" content="{RETRY_SECONDS}">' if status_code == 503 else ""
        if status_code == 503:
            self.set_header("Retry-After", str(RETRY_SECONDS))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(_PAGE.format(refresh=refresh, title=title, sentence=sentence))


class ProbePage(Guarded, TornadoVoilaHandler):
    """The page: a new kernel, and what the notebook shows in it."""

    async def get(self) -> None:
        """Send the page piece by piece, as it is made."""
        try:
            async for piece in self.get_generator():
                self.write("<!-- still starting -->\n" if piece == HEARTBEAT else piece)
                await self.flush()
        except StreamClosedError:
            pass  # the visitor has left; the visit ends as every visit without a page does


class VisitChannels(Guarded, KernelWebsocketHandler):
    """The websocket between a page's widgets and its kernel.

    Jupyter's, and not Voila's own: that one looks for the source of cells in every message, to hide what here is no
    secret, and a client that speaks the older protocol makes it count to a number of sixty bits.
    """

    def set_default_headers(self) -> None:
        """None: an upgraded connection has no such headers."""


class Visit(Guarded, KernelHandler):
    """Whether a kernel is still there."""

    SUPPORTED_METHODS = ("GET", "HEAD")


class EndOfVisit(Guarded, APIHandler):
    """What a page says when it is closed."""

    def check_xsrf_cookie(self) -> None:
        """No form has a field for it here; another site has neither our cookie (SameSite) nor the kernel's name."""

    async def post(self, kernel_id: str) -> None:
        """End the visit at once: there is nothing to keep, and someone may wait for the place."""
        await ensure_async(self.kernel_manager.shutdown_kernel(kernel_id, now=True))
        self.set_status(204)
        self.finish()


class TemplateFiles(Guarded, TemplateStaticFileHandler):
    """Scripts and styles of the page."""


class StaticFiles(Guarded, MultiStaticFileHandler):
    """Scripts and styles of Voila."""


class ThemeFiles(Guarded, ThemesHandler):
    """Colours of JupyterLab's themes."""


class WidgetFiles(Guarded, FileFindHandler):
    """Scripts of the widgets."""


class Nothing(Guarded):
    """Every other address."""

    async def prepare(self, **options: Any) -> None:
        """Not found, whatever the method; without the token not even that."""
        await super().prepare(**options)
        raise HTTPError(404)
