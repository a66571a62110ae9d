"""A real server on this machine that serves files as good and as bad servers do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from refam_analysis.weights.table import Source, WeightsFile


@dataclass
class Site:
    """What the server has, how it behaves, and what it was asked.

    Attributes:
        files: content by path.
        ranges: whether it sends a part when only a part is asked for.
        cut_after: close the connection after so many bytes, as often as ``cuts`` says.
        cuts: connections that are still to be cut; each takes one.
        asked: path and Range header of each request.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut_after: int = 0
    cuts: int = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"{self.address}{path}"


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.asked.append((self.path, wanted))
        if self.path not in site.files:
            self.send_error(404)
            return
        content = site.files[self.path]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and site.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
        self.end_headers()
        rest = content[start:]
        if site.cuts:
            site.cuts -= 1
            rest = rest[: site.cut_after]
        self.wfile.write(rest)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()
    handler = type("Handler", (_Handler,), {"site": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def content() -> bytes:
    """A megabyte that does not repeat itself."""
    return np.random.default_rng(0).bytes(2**20)


def entry(content: bytes, *sources: Source, size: int | None = None) -> WeightsFile:
    """Weights with this content and these sources."""
    return WeightsFile(
        name="toy",
        about="a toy",
        licence="Apache-2.0",
        file="toy.pt",
        size=len(content) if size is None else size,
        sha256=hashlib.sha256(content).hexdigest(),
        sources=sources,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def make_entry():  # noqa: ANN201
    """``make_entry(content, *sources, size=None)``: weights with this content and these sources."""
    return entry
