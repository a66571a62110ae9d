"""The explorer in the built book, from a web server and from a disk: what is drawn is what was recorded."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from browser.pages import BOOK, SCREENSHOTS
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from refam_analysis.widgets.explorer_data import Quantised
from refam_analysis.widgets.explorer_files import files_of

FILES = BOOK / "_static" / "explorer"
NAME = "book/explorer.html"
COVER = 0.72
GRID = 12
MEANS = """(canvas, grid) => {
    const all = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const sums = new Array(grid * grid * 3).fill(0);
    const side = canvas.width / grid;
    for (let at = 0; at < all.data.length; at += 4) {
        const [x, y] = [at / 4 % canvas.width, Math.floor(at / 4 / canvas.width)];
        const cell = Math.floor(y / side) * grid + Math.floor(x / side);
        for (let part = 0; part < 3; part += 1) sums[3 * cell + part] += all.data[at + part] / (side * side);
    }
    return sums;
}"""
"""The mean colour of every patch."""


def recorded(name: str) -> dict[str, Any]:
    """A scene as its script has it."""
    script = (FILES / "scenes" / f"{name}.js").read_text()
    return json.loads(script[script.index(", {") + 2 : -3], object_hook=with_codes)


def with_codes(entry: dict[str, Any]) -> dict[str, Any]:
    """A part of a scene, with its codes as they were before they were deflated."""
    if "deflated" in entry:
        entry["codes"] = base64.b64encode(zlib.decompress(base64.b64decode(entry.pop("deflated")))).decode()
    return entry


def recorded_map(scene: dict, view: str, direction: str, block: int, head: int | None, key: str) -> np.ndarray:
    entry = scene["views"][view]
    (place,) = [of_map for _, _, own, of_map in entry["tokens"] if own == key]
    maps = Quantised.from_dict(entry["attention"][direction]).restore()[block, :, place]
    return maps.mean(0) if head is None else maps[head]


def drawn_map(page: Page) -> np.ndarray:
    """What the large picture shows, as shares: its pixels without the grey picture below, looked up in magma."""
    shown = np.array(page.locator(".refam-large canvas").evaluate(MEANS, GRID)).reshape(GRID, GRID, 3)
    name = page.locator("[data-refam-explorer]").get_attribute("data-shown").split("/")[0]
    picture = Image.open(FILES / "pictures" / f"{name}.png").convert("RGB")
    grey = np.asarray(picture, dtype=float) @ [0.299, 0.587, 0.114]
    cell = grey.shape[0] // GRID
    below = grey.reshape(GRID, cell, GRID, cell).mean((1, 3))
    heat = (shown - (1 - COVER) * below[..., None]) / COVER
    table = mpl.colormaps["magma"](np.arange(256))[:, :3] * 255
    return np.abs(heat[:, :, None] - table).sum(-1).argmin(-1) / 255


@contextmanager
def opened(browser: Browser, home: str, **options: Any) -> Iterator[Page]:
    """The explorer's page at rest; nothing may go wrong on it, and nothing leave the book."""
    settings = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
    context = browser.new_context(**settings)
    page = context.new_page()
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.location["url"].endswith("/favicon.ico"):
            problems.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((home, "data:", "blob:")):
            problems.append(request.url)

    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", note)
    page.on("request", asked)
    page.goto(home + NAME)
    page.wait_for_selector("[data-settled=true]")
    yield page
    assert problems == []
    context.close()


def state(page: Page) -> list[str]:
    page.wait_for_selector("[data-settled=true]")
    return page.locator("[data-refam-explorer]").get_attribute("data-shown").split("/")


def choose_scene(page: Page, name: str) -> None:
    titles = [file.stem for file in (FILES / "scenes").iterdir()]
    assert name in titles
    page.locator(f".refam-thumb:has(img[src*='/{name}.png'])").click()
    page.wait_for_function(
        "name => document.querySelector('[data-shown]').dataset.shown.startsWith(name + '/')", arg=name
    )
    page.wait_for_selector("[data-settled=true]")


@pytest.fixture(params=["http", "file"])
def home(request: pytest.FixtureRequest, book_address: str) -> str:
    return book_address if request.param == "http" else f"{BOOK.as_uri()}/"


@pytest.fixture
def page(browser: Browser, home: str) -> Iterator[Page]:
    with opened(browser, home) as page:
        yield page


def agrees(page: Page, expected: np.ndarray) -> None:
    """The drawn map has the recorded one's peak, and its values to the eye's accuracy."""
    shown = drawn_map(page)
    assert np.abs(shown - expected / expected.max()).max() < 0.06


def test_hovering_a_word_shows_its_map(page: Page) -> None:
    scene = recorded(state(page)[0])
    for key in ("word 0", "word 2", "magnet 0"):
        text = next(text for text, _, own, _ in scene["views"]["with"]["tokens"] if own == key)
        page.locator(".refam-token:not(:disabled)", has_text=text).first.hover()
        page.wait_for_function(
            "key => document.querySelector('[data-shown]').dataset.shown.includes('/' + key + '/')", arg=key
        )
        agrees(page, recorded_map(scene, "with", "image_to_text", 0, None, key))
    page.mouse.move(1, 1)
    assert state(page)[4] != "magnet 0"


def test_a_clicked_word_stays(page: Page) -> None:
    page.locator(".refam-token").nth(0).click()
    page.mouse.move(1, 1)
    assert state(page)[4] == "word 0"
    assert page.locator(".refam-token").nth(0).get_attribute("aria-checked") == "true"


def test_sliding_and_choosing_heads_shows_that_map(page: Page) -> None:
    name, *_, key, _ = state(page)
    page.get_by_label("Block", exact=True).fill("4")
    agrees(page, recorded_map(recorded(name), "with", "image_to_text", 4, None, key))
    page.locator(".refam-choices", has_text="Head").get_by_label("2").check()
    agrees(page, recorded_map(recorded(name), "with", "image_to_text", 4, 2, key))
    page.get_by_label("text_to_image").check()
    agrees(page, recorded_map(recorded(name), "with", "text_to_image", 4, 2, key))


def test_magnets_go_and_come_back(page: Page) -> None:
    choose_scene(page, "magnets-help")
    scene = recorded("magnets-help")
    key = state(page)[4]
    assert "lies on the object" in page.locator(".refam-answers").inner_text()
    page.get_by_role("switch", name="magnets").click()
    agrees(page, recorded_map(scene, "without", "image_to_text", 0, None, key))
    assert "misses the object" in page.locator(".refam-answers").inner_text()
    assert page.locator(".refam-token:disabled").count() > 0
    page.get_by_role("switch", name="magnets").click()
    agrees(page, recorded_map(scene, "with", "image_to_text", 0, None, key))


def test_everything_works_by_keyboard(page: Page) -> None:
    page.locator(".refam-token[aria-checked=true]").focus()
    page.keyboard.press("Home")
    assert state(page)[4] == "word 0"
    page.keyboard.press("ArrowRight")
    assert state(page)[4] == "word 1"
    assert page.evaluate("document.activeElement.getAttribute('aria-checked')") == "true"
    page.locator(".refam-matrix-body").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert state(page)[2:5] == ["1", "mean", "word 2"]
    page.locator(".refam-frame").focus()
    page.keyboard.press("End")
    assert "row 1, column 12" in page.locator(".refam-patch").inner_text()
    page.locator(".refam-thumb[aria-checked=true]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('[data-shown]').dataset.shown.startsWith('shape/')")


def test_what_is_shown_is_said(page: Page) -> None:
    page.get_by_label("Block", exact=True).fill("3")
    spoken = page.locator(".refam-live").inner_text()
    assert spoken.startswith("Block 3, mean over heads, with magnets: how much each patch reads “")
    assert page.locator(".refam-live").get_attribute("aria-live") == "polite"


def test_the_sink_strip_has_the_recorded_masses(page: Page) -> None:
    scene = recorded(state(page)[0])
    entry = scene["views"]["with"]
    masses = Quantised.from_dict(entry["received"]["image"]["tokens"]).restore().mean(1)
    place = next(i for i, token in enumerate(entry["tokens"]) if token[1] == "special")
    box = page.locator(".refam-matrix-body").bounding_box()
    row, (rows, columns) = 5, masses.shape
    page.locator(".refam-matrix-body").hover(
        position={"x": (place + 0.5) * box["width"] / columns, "y": (row + 0.5) * box["height"] / rows}
    )
    assert (
        f"received mass {masses[row, place]:.3g}".rstrip("0") in page.locator(".refam-matrix .refam-line").inner_text()
    )


def test_scenes_are_loaded_when_they_are_chosen(browser: Browser, home: str) -> None:
    with opened(browser, home) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        choose_scene(page, "corner")
        scripts = [url for url in asked if "/scenes/" in url]
        assert len(scripts) == 1 and "/scenes/corner.js" in scripts[0]


def test_every_scene_can_be_shown(page: Page) -> None:
    for file in sorted((FILES / "scenes").iterdir()):
        choose_scene(page, file.stem)
        assert page.locator(".refam-error").inner_text() == ""


def test_a_tap_shows_a_map(browser: Browser, home: str) -> None:
    with opened(browser, home, has_touch=True, viewport={"width": 390, "height": 844}) as page:
        page.locator(".refam-token").nth(2).tap()
        assert state(page)[4] == "word 2"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_scripts_there_is_a_picture_and_a_sentence(browser: Browser, home: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(home + NAME)
    picture = page.locator("[data-refam-explorer] img")
    assert len(picture.get_attribute("alt")) > 40
    assert picture.bounding_box()["width"] > 300
    assert "Where scripts run" in page.locator("[data-refam-explorer]").inner_text()
    context.close()


def test_the_files_are_small() -> None:
    assert sum(file.stat().st_size for file in files_of(FILES)) <= 5_000_000


@pytest.mark.parametrize(
    ("look", "options"),
    [
        ("light", {"color_scheme": "light"}),
        ("dark", {"color_scheme": "dark"}),
        ("390", {"color_scheme": "light", "viewport": {"width": 390, "height": 844}}),
    ],
    ids=["light", "dark", "390-wide"],
)
def test_screenshot(browser: Browser, book_address: str, look: str, options: dict[str, Any]) -> None:
    with opened(browser, book_address, device_scale_factor=1.5, **options) as page:
        choose_scene(page, "two-words")
        picture = page.locator("[data-refam-explorer]").screenshot(path=SCREENSHOTS / f"explorer-{look}.png")
        assert len(picture) > 50_000
        light = page.evaluate(
            "getComputedStyle(document.querySelector('.refam-explorer')).backgroundColor.match(/\\d+/)[0] > 128"
        )
        assert light == (look != "dark")
