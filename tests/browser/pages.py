"""The pages of the built book, and a visit to one of them: what it asked for, and what went wrong."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Route

ROOT = Path(__file__).parents[2]
BOOK = Path(os.environ.get("REFAM_BOOK", ROOT / "_build" / "html"))
"""The name in the environment lets the tests look at a small book of a few pages."""
AXE = ROOT / "_build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
SCREENSHOTS = BOOK.parent / "screenshots"
THEMES = ("light", "dark")
WIDE, NARROW = 1280, 390
TALLEST = 12_000
"""In pixels: Chromium draws no picture of a page that is much taller, so that it is put together from several."""

PAGES = sorted(
    str(path)
    for path in (found.relative_to(BOOK) for found in BOOK.rglob("*.html"))
    if not path.parts[0].startswith("_") and str(path) != "index.html"
)
"""Every page but the front door, which only leads on."""


def chosen_of(pages: list[str], deep: int = 3) -> list[str]:
    """The pages that are looked at closely: all, but one only of each folder of generated pages, deep in the book.

    The reference has a page for every room and every error, each made by the same template. They are opened as well
    (from disk), and their links followed, but not photographed.

    >>> chosen_of(["book/a.html", "book/b.html", "book/r/errors/One.html", "book/r/errors/Two.html"])
    ['book/a.html', 'book/b.html', 'book/r/errors/One.html']
    """
    seen: set[Path] = set()
    chosen = []
    for page in pages:
        folder = Path(page).parent
        if len(folder.parts) >= deep and folder in seen:
            continue
        seen.add(folder)
        chosen.append(page)
    return chosen


@dataclass
class Visit:
    """A page that was opened, and what went wrong while it was."""

    page: Page
    problems: list[str] = field(default_factory=list)
    other_hosts: set[str] = field(default_factory=set)


def watch(visit: Visit, home: str) -> None:
    """Note errors of a page, and requests that leave its host, which are not answered.

    Args:
        visit: whose page has not been opened yet.
        home: what every address begins with that may be asked for.
    """

    def answer(route: Route) -> None:
        if route.request.url.startswith((home, "data:", "blob:")):
            route.continue_()
        else:
            visit.other_hosts.add(route.request.url)
            route.abort()

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            visit.problems.append(message.text)

    visit.page.context.route("**/*", answer)
    visit.page.on("console", note)
    visit.page.on("pageerror", lambda error: visit.problems.append(str(error)))


@contextmanager
def visiting(browser: Browser, home: str, name: str = "", *, width: int = WIDE) -> Iterator[Visit]:
    """Open a page, and note errors and requests that leave the book.

    Args:
        browser: to open it in.
        home: of the book, ``http://...`` or ``file://...``, with a slash at the end.
        name: of the page; none is opened for an empty one.
        width: of the window in pixels.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce")
    seen = Visit(context.new_page())
    watch(seen, home)
    if name:
        seen.page.goto(home + name, wait_until="load")
    yield seen
    context.close()


def load_pictures(page: Page) -> None:
    """Load what a reader would see on the way down: pictures that this theme hides stay away."""
    page.evaluate("""() => Promise.all([...document.images]
        .filter(image => image.getClientRects().length > 0)
        .map(image => { image.loading = 'eager'; return image.decode().catch(() => null); }))""")
    page.wait_for_load_state("networkidle")


def photograph(page: Page, path: Path) -> Image.Image:
    """The whole page as a picture, written to a file as well."""
    height = int(page.evaluate("document.documentElement.scrollHeight"))
    width = int(page.evaluate("document.documentElement.clientWidth"))
    if height <= TALLEST:
        return Image.open(io.BytesIO(page.screenshot(full_page=True, path=path)))
    whole = Image.new("RGB", (width, height))
    for top in range(0, height, TALLEST):
        clip = {"x": 0, "y": top, "width": width, "height": min(TALLEST, height - top)}
        part = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))  # type: ignore[arg-type]
        whole.paste(part.convert("RGB"), (0, top))
    whole.save(path, compress_level=1)
    return whole
