"""The probe as an app, as its visitors meet it: two at once, strangers with bad intentions, narrow and dark screens.

The server is a process of its own; a page may ask nothing of any other host.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from browser import pages
from playwright.sync_api import Browser, Locator, expect
from references.probe_server import Served, served

SCREENSHOTS = Path(__file__).parents[2] / "_build" / "screenshots"
SLOW = 120_000
"""Milliseconds, on a busy machine."""
SCRIPT = "<img src=x onerror=window.hurt=1><script>window.hurt=1</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.hurt=1"><script>window.hurt=1</script></svg>'
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
Enter = Callable[..., "Visit"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with three places."""
    with served(tmp_path_factory.mktemp("app"), "--visitors", "3") as running:
        yield running


class Visit(pages.Visit):
    """A page of the app that is open, and what went wrong on it."""

    def ask(self, sentence: str) -> None:
        """Type a sentence, as one does."""
        self.page.get_by_label("What to look for").fill(sentence)

    def answered(self, sentence: str) -> None:
        """Wait for the answer to a sentence."""
        heading = self.page.locator(".refam-probe").get_by_role("heading", name=sentence)
        expect(heading).to_be_visible(timeout=SLOW)
        expect(self.status).to_contain_text("Answered in", timeout=SLOW)

    @property
    def status(self) -> Locator:
        """Where the probe says how it is."""
        return self.page.locator(".refam-probe-head")

    def upload(self, name: str, content: bytes, kind: str = "image/png") -> None:
        """Choose a file."""
        self.page.get_by_role("radio", name="Upload").check(force=True)
        self.page.get_by_label("Picture file").set_input_files({"name": name, "mimeType": kind, "buffer": content})


@pytest.fixture
def enter(browser: Browser, server: Served) -> Iterator[Enter]:
    """``enter(**options)``: another visitor, with a browser profile of their own; all have left when the test ends."""
    contexts = []
    others = server.kernels()

    def new(**options: object) -> Visit:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        visit = Visit(context.new_page())
        pages.watch(visit, server.address)
        note_host = visit.other_hosts.add
        visit.page.on("websocket", lambda line: None if line.url.startswith(server.socket) else note_host(line.url))
        visit.page.goto(server.page, timeout=SLOW)
        expect(visit.status).to_contain_text("Answered in", timeout=SLOW)
        return visit

    yield new
    for context in contexts:
        for page in context.pages:
            page.close(run_before_unload=True)
    # Closed before its page has said so, a browser profile keeps its place, and the next test finds none.
    psutil.wait_procs([one for one in server.kernels() if one not in others], timeout=SLOW / 1000)
    for context in contexts:
        context.close()


def bomb(width: int, height: int) -> bytes:
    """A PNG of one colour, a bit a pixel, which unpacks to a thousand times its size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_two_visitors_do_not_see_each_others_sentences(enter: Enter) -> None:
    first, second = enter(), enter()
    first.ask("the small white circle")
    second.ask("the pink cross")
    first.answered("the small white circle")
    second.answered("the pink cross")
    assert first.page.get_by_label("What to look for").input_value() == "the small white circle"
    assert "pink" not in first.page.locator(".refam-probe").inner_text().split("What the matrices show")[1]
    assert "white circle" not in second.page.locator(".refam-probe").inner_text().split("What the matrices show")[1]


@pytest.mark.parametrize("width", [1280, 390], ids=lambda width: f"{width}px")
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_page_is_sound_and_asks_no_other_host(enter: Enter, server: Served, width: int, colours: str) -> None:
    visit = enter(viewport={"width": width, "height": 900}, color_scheme=colours)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    visit.page.screenshot(path=SCREENSHOTS / f"app-{colours}-{width}.png", full_page=True)
    assert visit.other_hosts == set()
    assert visit.problems == []
    assert visit.page.evaluate(OVERFLOW) <= 1
    assert visit.page.url == server.address
    assert visit.page.locator("#loading").is_hidden()


class TestBadIntentions:
    """One visit for all: after each the same visitor is still answered."""

    @pytest.fixture(scope="class")
    @staticmethod
    def visit(browser: Browser, server: Served) -> Iterator[Visit]:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        visit = Visit(context.new_page())
        visit.page.on("dialog", lambda dialog: visit.problems.append(dialog.message))
        visit.page.goto(server.page, timeout=SLOW)
        expect(visit.status).to_contain_text("Answered in", timeout=SLOW)
        yield visit
        visit.page.close(run_before_unload=True)
        context.close()

    @pytest.fixture(autouse=True)
    @staticmethod
    def still_answered(visit: Visit, request: pytest.FixtureRequest) -> Iterator[None]:
        yield
        visit.page.get_by_label("Own words").fill("")
        visit.ask(f"the circle {request.node.name.count('')}")
        visit.answered(f"the circle {request.node.name.count('')}")
        assert visit.page.evaluate("window.hurt") is None
        assert visit.problems == []

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("bomb.png", bomb(60_000, 60_000), "unpacks to"),
            ("large.png", bomb(30_000, 30_000), "unpacks to"),
            ("drawing.svg", SVG, "is no PNG, JPEG or WebP picture"),
            ("drawing.png", SVG, "is no PNG, JPEG or WebP picture"),
            ("heavy.png", b"\x89PNG\r\n\x1a\n" + bytes(9 * 2**20), "at most 8 are taken"),
            (f"{SCRIPT}.png", b"nothing", "is no PNG, JPEG or WebP picture"),
        ],
        ids=["decompression-bomb", "30000-x-30000", "svg", "svg-called-png", "too-heavy", "script-in-the-name"],
    )
    def test_upload_is_refused_in_a_sentence(self, visit: Visit, name: str, content: bytes, said: str) -> None:
        visit.upload(name, content)
        expect(visit.page.locator(".refam-probe")).to_contain_text(said, timeout=SLOW)

    def test_ten_thousand_words_are_refused_in_a_sentence(self, visit: Visit) -> None:
        visit.ask(" ".join(["word"] * 10_000))
        expect(visit.status).to_contain_text("shorten it", timeout=SLOW)

    @pytest.mark.parametrize("box", ["What to look for", "Own words"])
    def test_script_is_shown_as_what_was_typed(self, visit: Visit, box: str) -> None:
        visit.page.get_by_label(box).fill(f"circle {SCRIPT}")
        # In the tokens, or in the sentence that says what is too long for the model.
        expect(visit.page.locator(".refam-probe")).to_contain_text("hurt", timeout=SLOW)
        assert visit.page.locator(".refam-probe script, .refam-probe img[src=x]").count() == 0


def test_a_page_whose_visit_has_ended_says_so_and_begins_anew(enter: Enter, server: Served) -> None:
    visit = enter()
    kernel = visit.page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
    visit.page.request.post(f"{server.address}voila/api/shutdown/{kernel}")
    visit.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # it looks when one comes back to it
    expect(visit.page.get_by_role("alert").filter(has_text="This visit has ended")).to_be_visible(timeout=SLOW)
    visit.page.get_by_role("button", name="Begin anew").click()
    expect(visit.status).to_contain_text("Answered in", timeout=SLOW)


def test_a_reload_gives_the_place_back(enter: Enter, server: Served) -> None:
    visit = enter()
    for _ in range(2):
        visit.page.reload(timeout=SLOW)
        expect(visit.status).to_contain_text("Answered in", timeout=SLOW)
    assert len(server.kernels()) <= 2  # ours, and at most one that is just ending
