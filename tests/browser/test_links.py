"""Internal links of the built book lead to a file, and to an anchor that it has; nothing comes from elsewhere."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

from browser.pages import BOOK

LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("audio", "src")}
KINDS_OF_LINK = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "prefetch", "manifest"}
"""Of ``<link>``: those for which a browser asks."""


class Reader(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.repeated: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sort the attributes of one element."""
        given = {name: value or "" for name, value in attrs}
        if identity := given.get("id"):
            if identity in self.anchors:
                self.repeated.append(identity)
            self.anchors.add(identity)
        if tag == "a":
            self.anchors |= {given["name"]} if "name" in given else set()
            self.links += [given["href"]] if "href" in given else []
        self.loaded += [given[name] for name in given if (tag, name) in LOADED]
        if tag == "link" and KINDS_OF_LINK & set(given.get("rel", "").split()):
            self.loaded.append(given["href"])


@cache
def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


PAGES = sorted(path for path in BOOK.rglob("*.html") if "_static" not in path.parts)


def is_elsewhere(address: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]*:|//", address) is not None


def missing(page: Path, address: str) -> str | None:
    """What is wrong with an internal address; None where nothing is."""
    target, anchor = urldefrag(address)
    path = (page.parent / unquote(target.split("?")[0])).resolve() if target else page
    path = path / "index.html" if path.is_dir() else path
    if not path.is_file():
        return f"{page.relative_to(BOOK)}: {address} leads to no file"
    if anchor and path.suffix == ".html" and unquote(anchor) not in read(path).anchors:
        return f"{page.relative_to(BOOK)}: {address} leads to no anchor"
    return None


def test_there_are_pages() -> None:
    assert len(PAGES) >= 3


def test_internal_links_lead_somewhere() -> None:
    wrong = {
        missing(page, link)
        for page in PAGES
        for link in read(page).links
        if not is_elsewhere(link) and link not in ("", "#")
    }
    assert sorted(filter(None, wrong)) == []


def test_what_pages_load_is_in_the_book() -> None:
    elsewhere = [(str(page), one) for page in PAGES for one in read(page).loaded if is_elsewhere(one)]
    assert [one for one in elsewhere if not one[1].startswith(("data:", "blob:"))] == []
    wrong = {missing(page, one) for page in PAGES for one in read(page).loaded if not is_elsewhere(one)}
    assert sorted(filter(None, wrong)) == []


def test_style_sheets_load_nothing_from_elsewhere() -> None:
    addresses = [
        (path.name, found)
        for path in BOOK.rglob("*.css")
        for found in re.findall(r"url\(\s*['\"]?([^'\")]+)", path.read_text(encoding="utf-8"))
        + re.findall(r"@import\s+['\"]([^'\"]+)", path.read_text(encoding="utf-8"))
    ]
    assert [one for one in addresses if re.match(r"https?:|//", one[1])] == []


def test_no_anchor_stands_twice_on_a_page() -> None:
    assert {str(page.relative_to(BOOK)): read(page).repeated for page in PAGES if read(page).repeated} == {}
