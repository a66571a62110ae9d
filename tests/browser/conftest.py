"""The built book, served on this machine, and a Chromium that looks at it."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator

import pytest
from browser.pages import BOOK
from playwright.sync_api import Browser, sync_playwright


@pytest.hookimpl(tryfirst=True)  # Before xdist reads the marks.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the files whose tests share an app or a small book in one process each; pages are for whoever is free."""
    for item in items:
        if item.path.name != "test_pages.py":
            item.add_marker(pytest.mark.xdist_group(item.path.name))


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
