"""The built book, served on this machine, and a Chromium that looks at it."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from browser.pages import BOOK
from playwright.sync_api import Browser, sync_playwright
from xdist.scheduler import LoadScopeScheduling


class ByApp(LoadScopeScheduling):
    """Keeps a file's tests, which share an app or a small book, in one process; pages are for whoever is free."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file.endswith("test_pages.py") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByApp:
    """By file, and not by the mark ``xdist_group``, which xdist 3.8 overlooks under pytest 9."""
    return ByApp(config, log)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests say what failed."""


@pytest.fixture(scope="session")
def book_address() -> Iterator[str]:
    """Where the built book is served, with a slash at the end."""
    if not (BOOK / "index.html").is_file():
        pytest.exit("The book is not built. Run `make test-book`, or `make book` before these tests.", returncode=2)
    handler = functools.partial(QuietHandler, directory=str(BOOK))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.exit("There is no 'chromium' on the PATH. On Debian: apt-get install chromium", returncode=2)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield running
        running.close()
