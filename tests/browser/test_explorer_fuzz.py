"""Whatever a reader does with the explorer, in whatever order: it shows what was recorded of what it says it shows."""

from __future__ import annotations

import random

import numpy as np
import pytest
from browser.test_explorer import FILES, agrees, opened, recorded, recorded_map, state
from playwright.sync_api import Browser, Page, expect

ACTIONS = 50
KEYS = ("ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown", "Space", "Escape")
STILL = """() => new Promise((done) => {
    const shown = document.querySelector('[data-shown]').dataset;
    let last = '', still = 0;
    const look = () => {
        const now = [scrollX, scrollY, shown.shown, shown.settled].join();
        still = now === last ? still + 1 : 0;
        last = now;
        if (still < 8) requestAnimationFrame(look); else done();
    };
    look();
})"""
"""A key may have the page scroll for some frames, and what slides under the pointer then is shown as if pointed at."""
SCENES = sorted(file.stem for file in (FILES / "scenes").glob("*.js"))


def choose_scenes(page: Page, chance: random.Random) -> None:
    """One, two or three, each before the one before it is there, and slide meanwhile."""
    for name in chance.choices(SCENES, k=chance.randint(1, 3)):
        page.locator(f".refam-thumb:has(img[src*='/{name}.png'])").dispatch_event("click")
    slide(page, chance)
    page.wait_for_function(
        "name => document.querySelector('[data-shown]').dataset.shown.startsWith(name + '/')", arg=name
    )


def choose_word(page: Page, chance: random.Random) -> None:
    words = page.locator(".refam-token:not(:disabled)")
    word = words.nth(chance.randrange(words.count()))
    word.hover() if chance.random() < 0.5 else word.click()


def slide(page: Page, chance: random.Random) -> None:
    slider = page.get_by_label("Block", exact=True)
    slider.fill(str(chance.randint(0, int(slider.get_attribute("max") or 0))))


def choose_one(page: Page, chance: random.Random) -> None:
    """By its name, as a reader does."""
    choices = page.locator(".refam-choices .refam-choice:has(input:enabled)")
    chosen = choices.nth(chance.randrange(choices.count()))
    chosen.click()
    expect(chosen.get_by_role("radio")).to_be_checked()


def turn_magnets(page: Page, chance: random.Random) -> None:
    page.get_by_role("switch", name="magnets").click(click_count=chance.randint(1, 3))


def press_keys(page: Page, chance: random.Random) -> None:
    """Any of them, on anything that takes them."""
    places = page.locator("[data-refam-explorer] :is([tabindex='0'], button:enabled, input:enabled)")
    places.nth(chance.randrange(places.count())).focus()
    for key in chance.choices(KEYS, k=chance.randint(1, 6)):
        page.keyboard.press(key)


def point_anywhere(page: Page, chance: random.Random) -> None:
    box = page.locator("[data-refam-explorer]").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + chance.random() * box["width"], box["y"] + chance.random() * box["height"])
    if chance.random() < 0.5:
        page.mouse.click(box["x"] + chance.random() * box["width"], box["y"] + chance.random() * box["height"])


def resize(page: Page, chance: random.Random) -> None:
    page.set_viewport_size({"width": chance.randint(320, 1600), "height": chance.randint(300, 1200)})


EVERYTHING = (choose_scenes, choose_word, slide, choose_one, turn_magnets, press_keys, point_anywhere, resize)


@pytest.mark.parametrize("seed", range(3))
def test_any_actions_in_any_order(browser: Browser, book_address: str, seed: int) -> None:
    chance = random.Random(seed)
    with opened(browser, book_address) as page:
        seen = set()
        for _ in range(ACTIONS):
            chance.choice(EVERYTHING)(page, chance)
            page.evaluate(STILL)
            name, direction, block, head, key, magnets = state(page)
            view = "with" if magnets == "true" else "without"
            expected = recorded_map(
                recorded(name), view, direction, int(block), None if head == "mean" else int(head), key
            )
            assert np.isfinite(expected).all()
            agrees(page, expected)
            assert page.locator(".refam-error").inner_text() == ""
            assert page.url == f"{book_address}book/explorer.html"
            seen.add((name, direction, block, head, key, magnets))
        assert len({shown[0] for shown in seen}) > 1 and len(seen) > ACTIONS / 4
