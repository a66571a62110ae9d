"""What a reader sees of the built book: every page, on a wide and on a narrow screen.

Nothing is fetched from any other host: the book reads the same without a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, ConsoleMessage, Page, Route

BOOK = Path(__file__).parents[2] / "_build" / "html"
SCREENSHOTS = BOOK.parent / "screenshots"
WIDTHS = (1280, 390)
PAGES = sorted(
    str(path)
    for path in (found.relative_to(BOOK) for found in BOOK.rglob("*.html"))
    if not path.parts[0].startswith("_") and str(path) != "index.html"
)
"""Every page but the front door, which only leads on."""

OVERFLOWING = """() => {
    const screen = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= screen + 1) return [];
    return [...document.querySelectorAll('.bd-article *')]
        .filter(element => element.getBoundingClientRect().right > screen + 1)
        .map(element => element.tagName + '.' + element.className).concat(['(page)']);
}"""
BROKEN_IMAGES = """() => [...document.images].filter(image => image.complete && image.naturalWidth === 0)
    .map(image => image.src)"""
"""Both name what is wrong, so that a failing test says where to look."""


@dataclass
class Visit:
    """A page that was opened, and what went wrong while it was."""

    page: Page
    problems: list[str] = field(default_factory=list)
    other_hosts: set[str] = field(default_factory=set)


@pytest.fixture
def visit(browser: Browser, book_address: str, name: str, width: int) -> Iterator[Visit]:
    """The page, loaded and scrolled through once, so that pictures that load late have loaded."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    seen = Visit(context.new_page())

    def answer(route: Route) -> None:
        if route.request.url.startswith((book_address, "data:", "blob:")):
            route.continue_()
        else:
            seen.other_hosts.add(route.request.url)
            route.abort()

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            seen.problems.append(message.text)

    context.route("**/*", answer)
    seen.page.on("console", note)
    seen.page.on("pageerror", lambda error: seen.problems.append(str(error)))
    seen.page.goto(book_address + name, wait_until="load")
    seen.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    seen.page.wait_for_load_state("networkidle")
    seen.page.evaluate("window.scrollTo(0, 0)")
    yield seen
    context.close()


def test_front_door_leads_to_the_introduction(browser: Browser, book_address: str) -> None:
    page = browser.new_page()
    page.goto(book_address)
    page.wait_for_url(book_address + "book/intro.html")
    assert "RefAM" in page.title()
    page.close()


def test_every_page_of_the_table_of_contents_is_visited() -> None:
    contents = yaml.safe_load((BOOK.parents[1] / "_toc.yml").read_text())
    files = [contents["root"]] + [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    assert {f"{file}.html" for file in files} <= set(PAGES)


@pytest.mark.parametrize("width", WIDTHS, ids=lambda width: f"{width}px")
@pytest.mark.parametrize("name", PAGES)
def test_page_is_sound(visit: Visit, name: str, width: int) -> None:
    """One visit a page and width: opening a page costs more than all the questions about it."""
    SCREENSHOTS.mkdir(exist_ok=True)
    visit.page.screenshot(path=SCREENSHOTS / f"{name.replace('/', '-')}-{width}.png", full_page=True)
    assert visit.other_hosts == set()
    assert visit.problems == []
    assert visit.page.evaluate(BROKEN_IMAGES) == []
    assert visit.page.evaluate(OVERFLOWING) == []
    assert visit.page.locator("h1").count() >= 1
