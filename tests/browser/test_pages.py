"""What a reader sees of the built book: every page, on a wide and on a narrow screen, light and dark.

Nothing is fetched from any other host: the book reads the same without a network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from browser.pages import (  # fmt: skip
    AXE,
    BOOK,
    NARROW,
    PAGES,
    SCREENSHOTS,
    THEMES,
    WIDE,
    Visit,
    chosen_of,
    load_pictures,
    photograph,
    visiting,
)
from PIL import Image, ImageStat
from playwright.sync_api import Browser, Page

MOST_BYTES = 3_000_000
LONGEST_MILLISECONDS = 2000
"""From the first byte to DOMContentLoaded, of a file on disk: then text, contents and search can be used."""
SMALLEST_FIGURE = 60
"""In pixels: what is smaller is an icon."""
LEAST_SPREAD = 3.0
"""Standard deviation of the lightness of a figure's pixels, of 255 levels: paper alone has 0."""

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
FIGURES = f"""() => [...document.querySelectorAll('.bd-article img, .bd-article canvas, .bd-article svg')]
    .map(figure => [figure, figure.getBoundingClientRect()])
    .filter(([figure, box]) => box.width >= {SMALLEST_FIGURE} && box.height >= {SMALLEST_FIGURE})
    .filter(([figure, box]) => {{  // not those that are scrolled out of sight within their frame
        for (let frame = figure.parentElement; frame; frame = frame.parentElement) {{
            const edge = frame.getBoundingClientRect();
            const scrolls = !['visible', 'clip'].includes(getComputedStyle(frame).overflowX);
            const seen = box.left < edge.right - 9 && box.right > edge.left + 9;
            if (scrolls && frame !== document.body && !seen) return false;
        }}
        return true;
    }})
    .map(([figure, box]) => ({{name: figure.alt || figure.getAttribute('aria-label') || figure.outerHTML.slice(0, 80),
        box: [box.left, box.top + scrollY, box.right, box.bottom + scrollY]}}))"""
NAMELESS = """() => [...document.querySelectorAll('.bd-article img, .bd-article canvas, .bd-article svg[role=img]')]
    .filter(figure => !figure.closest('[aria-hidden=true]'))
    .filter(figure => !(figure.getAttribute('alt') === '' && figure.closest(
        'button[aria-label], a[aria-label], label[aria-label]')))
    .filter(figure => !(figure.alt ?? '').trim() && !figure.getAttribute('aria-label')
        && !figure.getAttribute('aria-labelledby') && figure.getAttribute('role') !== 'presentation')
    .map(figure => figure.outerHTML.slice(0, 120))"""
TRANSFERRED = """() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""


def theme(page: Page, name: str) -> None:
    """Have the reader's system ask for light or dark pages; the book follows."""
    page.emulate_media(color_scheme=name)  # type: ignore[arg-type]
    page.wait_for_function("name => document.documentElement.dataset.theme === name", arg=name)
    load_pictures(page)


def blank_figures(page: Page, picture: Image.Image) -> list[str]:
    """The figures that show nothing but one colour."""
    blank = []
    for figure in page.evaluate(FIGURES):
        left, top, right, bottom = (round(edge) for edge in figure["box"])
        shown = picture.crop((max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)))
        if min(shown.size) > 0 and max(ImageStat.Stat(shown.convert("L")).stddev) < LEAST_SPREAD:
            blank.append(figure["name"])
    return blank


def violations(page: Page, rules: list[str] | None = None) -> list[str]:
    """What axe finds that is serious or critical, one line an element."""
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=AXE)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = rules
    found = page.evaluate("options => axe.run(document, options).then(result => result.violations)", options)
    return [
        f"{one['id']} ({one['help']}): {node['html'][:160]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.fixture
def visit(browser: Browser, book_address: str, name: str) -> Iterator[Visit]:
    with visiting(browser, book_address, name) as seen:
        load_pictures(seen.page)
        yield seen


def test_front_door_leads_to_the_introduction(browser: Browser, book_address: str) -> None:
    with visiting(browser, book_address) as seen:
        seen.page.goto(book_address)
        seen.page.wait_for_url(book_address + "book/intro.html")
        assert "RefAM" in seen.page.title()


def test_every_page_of_the_table_of_contents_is_visited() -> None:
    contents = yaml.safe_load((BOOK.parents[1] / "_toc.yml").read_text())

    def files(entry: Any) -> Iterator[str]:
        for one in entry if isinstance(entry, list) else [entry]:
            if "file" in one:
                yield one["file"]
            for part in ("chapters", "sections", "parts"):
                yield from files(one.get(part, []))

    listed = {contents["root"], *files(contents["parts"])}
    assert {f"{file}.html" for file in listed} <= set(PAGES)


@pytest.mark.parametrize("name", chosen_of(PAGES))
def test_page_is_sound(visit: Visit, name: str) -> None:
    """One visit a page: opening a page costs more than all the questions about it."""
    page = visit.page
    faults: list[Any] = [page.evaluate(BROKEN_IMAGES), page.evaluate(NAMELESS)]
    transferred = page.evaluate(TRANSFERRED)
    SCREENSHOTS.mkdir(exist_ok=True)
    for width in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": 900})
        for colours in THEMES:
            theme(page, colours)
            picture = photograph(page, SCREENSHOTS / f"{name.replace('/', '-')}-{width}-{colours}.png")
            faults += [page.evaluate(OVERFLOWING), blank_figures(page, picture)]
            if width == WIDE:
                faults.append(violations(page, None if colours == "light" else ["color-contrast"]))
    assert visit.other_hosts == set()
    assert visit.problems == []
    assert not any(faults), "\n".join(str(fault) for found in faults for fault in found)
    assert transferred < MOST_BYTES
    assert page.locator("h1").count() >= 1


def test_every_page_opens_from_disk_without_a_server(browser: Browser) -> None:
    """All pages in one window, as a reader turns them; how long each took is written beside the screenshots."""
    home = BOOK.resolve().as_uri() + "/"
    entry = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    taken = {}
    with visiting(browser, home) as seen:
        for name in PAGES:
            for _attempt in range(3):  # a machine that is busy with something else says nothing about the page
                seen.page.goto(home + name, wait_until="load")
                taken[name] = min(round(seen.page.evaluate(entry)), taken.get(name, 10**6))
                if taken[name] <= LONGEST_MILLISECONDS:
                    break
            seen.problems += [f"{name}: {image} is broken" for image in seen.page.evaluate(BROKEN_IMAGES)]
    SCREENSHOTS.mkdir(exist_ok=True)
    (SCREENSHOTS / "ready.json").write_text(json.dumps(taken, indent=1, sort_keys=True) + "\n")
    assert seen.other_hosts == set()
    assert seen.problems == []
    assert {name: time for name, time in taken.items() if time > LONGEST_MILLISECONDS} == {}


@pytest.mark.parametrize("term", ["sink", "entropy", "magnet"])
@pytest.mark.parametrize("place", ["served", "from disk"])
def test_search_finds(browser: Browser, book_address: str, place: str, term: str) -> None:
    home = book_address if place == "served" else BOOK.resolve().as_uri() + "/"
    with visiting(browser, home, f"search.html?q={term}") as seen:
        seen.page.wait_for_selector("#search-results li a")
        seen.page.wait_for_function("document.querySelector('#search-results p').textContent.match(/found|matching/)")
        assert seen.page.locator("#search-results li").count() >= 2
        assert seen.problems == []


def test_search_field_leads_to_the_results(browser: Browser, book_address: str) -> None:
    with visiting(browser, book_address, "book/intro.html") as seen:
        seen.page.keyboard.press("Control+k")
        seen.page.keyboard.type("entropy")
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_selector("#search-results li a")
        assert "search.html" in seen.page.url
