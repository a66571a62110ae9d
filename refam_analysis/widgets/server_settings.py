"""How the probe is served: the choices of whoever starts it, checked, and what a browser is told about the page.

Nothing here opens a port or starts a process; that is in `server` and `server_app`. No heavy library is imported, so
that a wrong choice is refused at once.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from refam_analysis.errors import RefamError

MAX_MESSAGE_BYTES = 9 * 2**20
"""Of one message over the websocket, cut off by the server: the largest picture that `probe_pictures` takes, which the
probe's page checks before it sends it, and what a widget writes round it."""
MAX_BODY_BYTES = 64 * 2**10
"""Of the body of any other request; pages send none but the few bytes of a farewell."""

DEFAULT_PORT = 8866
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Sent with every answer, beside the Content-Security-Policy."""


class ServerSettingsError(RefamError, ValueError):
    """The probe cannot be served in this way."""


class UnguardedAddressError(ServerSettingsError):
    """The probe would be open to a network, without a token."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"Without a token, everyone who reaches {host} could use this machine. Leave the token on, serve on "
            "127.0.0.1, or say --open-to-anyone if that is what you want."
        )


class PortTakenError(RefamError, OSError):
    """Something else listens there, or listening is not allowed."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"The probe cannot listen on {host}, port {port}: {reason}. "
            "Stop what is there, or choose another port with --port; --port 0 takes any that is free."
        )


@dataclass(frozen=True)
class ServerSettings:
    """What to serve, where and to whom.

    Attributes:
        model: what :func:`refam_analysis.load_model` takes, by name: "embedded", a hub id, or a folder.
        host: the address to listen on; only this machine reaches 127.0.0.1.
        port: to listen on; 0 for any that is free.
        token: what a visitor's address must carry; None for a random one, "" for none.
        open_to_anyone: allows an address that a network reaches without a token.
        public_address: what visitors type where a reverse proxy stands in front, such as
            "https://example.org/probe/"; None where there is none. Its path is the path that the probe answers under.
        visitors: how many there may be at a time. Each has a process.
        idle_minutes: after which a visit ends in which nothing was asked.

    Raises:
        UnguardedAddressError: a network could use it without a token.
        ServerSettingsError: a number or an address makes no sense.

    >>> ServerSettings(public_address="https://example.org/probe").base_url
    '/probe/'
    >>> ServerSettings(host="0.0.0.0", token="")
    Traceback (most recent call last):
        ...
    refam_analysis.widgets.server_settings.UnguardedAddressError: Without a token, everyone who reaches 0.0.0.0 ...
    """

    model: str = "embedded"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str | None = field(default=None, repr=False)
    open_to_anyone: bool = False
    public_address: str | None = None
    visitors: int = 8
    idle_minutes: float = 30.0

    def __post_init__(self) -> None:
        if self.token is None:
            object.__setattr__(self, "token", secrets.token_urlsafe(24))
        if not self.host:
            raise ServerSettingsError("The host is empty: give an address such as 127.0.0.1.")
        if not self.token and not self.open_to_anyone and (not self.on_this_machine or self.public_address):
            raise UnguardedAddressError(self.public_address or self.host)
        if not 0 <= self.port <= 65535:
            raise ServerSettingsError(f"There is no port {self.port}: give one from 0 to 65535.")
        if self.visitors < 1:
            raise ServerSettingsError(f"{self.visitors} visitors make no probe: allow at least 1.")
        if not self.idle_minutes > 0:
            raise ServerSettingsError(f"A visit cannot end after {self.idle_minutes:g} minutes: give more than 0.")
        if self.public_address is not None:
            if not _can_be_typed(self.public_address):
                raise ServerSettingsError(
                    f"{self.public_address!r} is no address that visitors can type: "
                    "give one such as https://example.org/probe/."
                )

    @property
    def on_this_machine(self) -> bool:
        """Whether only this machine reaches the host."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def base_url(self) -> str:
        """The path that everything is served under, with a slash at both ends."""
        path = urlsplit(self.public_address or "").path.strip("/")
        return f"/{path}/" if path else "/"

    @property
    def known_hosts(self) -> tuple[str, ...]:
        """Names that a request may be meant for; a page of another name could not read ours (DNS rebinding)."""
        public = urlsplit(self.public_address or "").hostname
        return ("localhost", *((public,) if public else ()))

    @property
    def secure(self) -> bool:
        """Whether visitors come over https, so that the cookie must not go over anything else."""
        return (self.public_address or "").startswith("https:")

    @property
    def source(self) -> str:
        """The model, a folder by its whole path: kernels run in folders of their own."""
        folder = os.path.expanduser(self.model)
        return os.path.realpath(folder) if os.path.exists(folder) else self.model

    def address(self, port: int) -> str:
        """What a visitor opens.

        Args:
            port: that the server listens on.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = (self.public_address or f"http://{host}:{port}/").rstrip("/") + "/"
        return f"{place}?token={self.token}" if self.token else place


def _can_be_typed(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:  # brackets without an IPv6 address in them
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment


def content_security_policy() -> str:
    """What the page may load and run, for the header of that name.

    Scripts come from this server alone and never out of the page's own text, so that no word of a visitor can become
    one; ``blob:`` is how anywidget loads a widget's module. Styles may stand in the text: JupyterLab's do.

    >>> "script-src 'self' blob:;" in content_security_policy()
    True
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self' blob:",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "object-src 'none'",
        )
    )
