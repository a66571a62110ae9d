"""The model in the page: what a reader types is answered as Python answers it, and what goes wrong is said."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from browser.pages import AXE, BOOK, NARROW, SCREENSHOTS, THEMES, WIDE, Visit, visiting
from playwright.sync_api import Browser, Page

import refam_analysis as ra
from refam_analysis.prompts import DEFAULT_MAGNETS, parsed
from refam_analysis.scenes import KINDS, SceneSample, expressions
from refam_analysis.segmentation import segment_expressions
from refam_analysis.segmentation.asked import phrase_of
from refam_analysis.segmentation.result import SegmentationResult
from refam_analysis.widgets.browser.export import browser_settings
from refam_analysis.widgets.browser.gallery import gallery

PAGE = "book/type-your-own.html"
PAIRS = 200
NOTE_ANSWERS = """window.answers = [];
document.addEventListener("refam-answer", (event) => window.answers.push(event.detail));"""


@dataclass
class Engine:
    """The page with the model loaded, and what it is asked."""

    visit: Visit
    samples: list[SceneSample] = field(default_factory=list)

    @property
    def page(self) -> Page:
        return self.visit.page

    def choose(self, scene: int) -> None:
        self.page.evaluate("window.answers.length = 0")
        self.page.get_by_role("radio", name=f"Scene {scene + 1}:").click()
        self.page.wait_for_function("window.answers.length > 0")

    def ask(self, text: str) -> dict[str, Any]:
        self.page.evaluate("window.answers.length = 0")
        self.type(text)
        return self.answer(text)

    def type(self, text: str) -> None:
        self.page.get_by_label("What to look for").fill(text)
        self.page.get_by_label("What to look for").press("Enter")

    def answer(self, text: str) -> dict[str, Any]:
        self.page.wait_for_function("text => window.answers.at(-1)?.expression === text", arg=text)
        found: dict[str, Any] = self.page.evaluate("""() => {
            const { tokenMaps, mask, heatmap, received, ...rest } = window.answers.at(-1);
            const [fromText, fromImage] = [received.text, received.image].map((rows) => rows.map((row) => [...row]));
            return { ...rest, tokenMaps: [...tokenMaps], mask: [...mask], heatmap: [...heatmap.values],
                     received: { text: fromText, image: fromImage } };
        }""")
        return found

    @property
    def said(self) -> str:
        return self.page.locator(".refam-engine-status").inner_text()


def opened(browser: Browser, home: str, name: str = PAGE, *, width: int = WIDE, script: str = "") -> Iterator[Visit]:
    with visiting(browser, home, width=width) as visit:
        visit.page.add_init_script(NOTE_ANSWERS + script)
        visit.page.goto(home + name, wait_until="load")
        yield visit
        assert visit.other_hosts == set()
        assert visit.problems == []


def load(page: Page) -> None:
    page.get_by_role("button", name="Load the model").click()
    page.wait_for_function("window.answers.length > 0", timeout=120_000)


@pytest.fixture(scope="module")
def model() -> Any:
    return ra.load_model("embedded")


@pytest.fixture(scope="module")
def engine(browser: Browser, book_address: str, model: Any) -> Iterator[Engine]:
    for visit in opened(browser, book_address):
        load(visit.page)
        yield Engine(visit, list(gallery(model)))


@pytest.fixture
def visit(browser: Browser, book_address: str) -> Iterator[Visit]:
    yield from opened(browser, book_address)


def in_no_gallery(samples: list[SceneSample], each: int) -> list[list[str]]:
    """For every scene, true sentences about it that the gallery does not suggest."""
    rng, known = random.Random(5), {one.text for sample in samples for one in sample.expressions}
    offers = [[one.text for kind in KINDS for one in expressions(sample.scene, kind)] for sample in samples]
    return [rng.sample(sorted(set(texts) - known), each) for texts in offers]


@pytest.fixture(autouse=True)
def noun_phrases_by_rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in the page, and as where spaCy is not installed."""
    monkeypatch.setattr(parsed, "is_installed", lambda: False)
    phrase_of.cache_clear()
    yield
    phrase_of.cache_clear()


def python(model: Any, sample: SceneSample, texts: list[str]) -> list[SegmentationResult]:
    return segment_expressions(model, sample.image, texts, settings=browser_settings(model))


# The same answers as Python's


def test_answers_are_those_of_python(engine: Engine, model: Any) -> None:
    samples = engine.samples[: PAIRS // 4]
    same_point, furthest, overlaps = 0, 0.0, []
    for scene, (sample, texts) in enumerate(zip(samples, in_no_gallery(samples, 4), strict=True)):
        engine.choose(scene)
        for text, result in zip(texts, python(model, sample, texts), strict=True):
            found = engine.ask(text)
            recorded = result.stages["token_maps"].values.ravel()
            furthest = max(furthest, float(np.abs(np.array(found["tokenMaps"]) - recorded).max()))
            same_point += np.allclose(found["point"], result.point, atol=1e-6)
            mask = np.array(found["mask"]).reshape(result.mask.shape).astype(bool)
            shared, either = (mask & result.mask).sum(), (mask | result.mask).sum()
            overlaps.append(shared / either if either else 1.0)  # beside an object the segmenter may find nothing
    print(f"same point {same_point} of {PAIRS}, maps within {furthest:.2g}, masks' IoU {np.mean(overlaps):.4f}")
    assert furthest < 1e-3
    assert same_point >= 0.99 * PAIRS
    assert np.mean(np.array(overlaps) > 0.99) >= 0.99


def test_magnets_are_left_out_when_switched_off(engine: Engine, model: Any) -> None:
    sample = engine.samples[3]
    engine.choose(3)
    engine.ask("the large one")
    engine.page.get_by_role("switch", name="Magnets").click()
    found = engine.ask("the one on the left")
    assert found["magnets"] == []
    expected = ra.segment(model, sample.image, "the one on the left", magnets=(), settings=browser_settings(model))
    np.testing.assert_allclose(found["point"], expected.point, atol=1e-6)
    engine.page.get_by_label("green", exact=True).check()
    assert engine.ask("the small one")["magnets"] == ["green"]
    engine.page.get_by_role("switch", name="Magnets").click()
    engine.page.get_by_role("switch", name="Magnets").click()
    assert engine.ask("the large one")["magnets"] == list(DEFAULT_MAGNETS)


def test_received_mass_is_that_of_python(engine: Engine, model: Any) -> None:
    engine.choose(0)
    found = engine.ask("the one in the middle")
    settings = browser_settings(model)
    sums = {side: 0.0 for side in ("text", "image")}
    for seed in range(settings.seeds):
        recording = ra.record(
            model, engine.samples[0].image, "the one in the middle", magnets=DEFAULT_MAGNETS, seed=seed,
            noise_level=settings.noise_levels, keep=["received_from_text", "received_from_image"],
        )  # fmt: skip
        for side in sums:
            mean = recording[f"received_from_{side}"].mean(("step", "branch", "head")).values
            sums[side] = sums[side] + mean[:, recording.layout.text] / settings.seeds
    for side, expected in sums.items():
        np.testing.assert_allclose(found["received"][side], expected, rtol=1e-3, atol=1e-3)


# What readers type


def test_words_that_the_model_does_not_know_are_answered(engine: Engine) -> None:
    found = engine.ask("the xylophone of Zürich 🎻")
    kinds = {token["word"]: token["kind"] for token in found["tokens"]}
    assert kinds["xylophone"] == kinds["🎻"] == "content"
    assert "Point at" in engine.said


def test_markup_is_shown_as_it_was_typed(engine: Engine) -> None:
    engine.ask("<img src=x onerror=alert(1)> circle")
    assert engine.page.locator(".refam-engine img").count() == 0
    assert "<" in engine.page.locator(".refam-tokens").inner_text()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("   ", "empty"),
        ("the of it", "only stop words"),
        (" ".join(["circle"] * 40), "would be cut"),
        ("\u200b\u200d", "empty"),
    ],
    ids=["spaces", "stop-words", "too-long", "invisible"],
)
def test_what_cannot_be_answered_is_said(engine: Engine, typed: str, said: str) -> None:
    engine.ask("the red one")
    engine.type(typed)
    engine.page.wait_for_selector(".refam-engine-problem")
    assert said in engine.said
    assert "Point at" in (engine.ask("the blue one") and engine.said)


def test_last_sentence_of_many_is_answered(engine: Engine) -> None:
    engine.page.get_by_label("What to look for").fill("")
    engine.page.evaluate("window.answers.length = 0")
    engine.page.get_by_label("What to look for").press_sequentially("the large blue ring at the top", delay=20)
    engine.answer("the large blue ring at the top")
    assert engine.page.evaluate("window.answers.length") <= 3


# What readers do


def test_token_is_chosen_by_keyboard(engine: Engine) -> None:
    engine.ask("the red circle")
    page = engine.page
    page.get_by_role("radio", name="whole sentence").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("radio", name="red, content word").get_attribute("aria-checked") == "true"
    assert "“red”" in page.locator(".refam-engine-pictures figcaption").first.inner_text()


def test_gallery_is_walked_by_keyboard(engine: Engine) -> None:
    engine.choose(5)
    engine.page.get_by_role("radio", name="Scene 6:").press("ArrowRight")
    assert engine.page.get_by_role("radio", name="Scene 7:").get_attribute("aria-checked") == "true"


def test_scene_drawn_anew_is_answered_and_can_be_passed_on(engine: Engine, browser: Browser, book_address: str) -> None:
    page = engine.page
    page.evaluate("window.answers.length = 0")
    page.get_by_role("button", name="Draw a new scene").click()
    page.wait_for_function("window.answers.length > 0")
    found = engine.ask("the one at the top")
    address = page.evaluate("location.href")
    engine.choose(0)
    for visit in opened(browser, book_address, address.removeprefix(book_address)):
        load(visit.page)
        again = Engine(visit).answer("the one at the top")
    assert again["point"] == found["point"] and again["tokenMaps"] == found["tokenMaps"]


# What can go wrong


def test_nothing_of_the_model_is_loaded_before_it_is_asked_for(browser: Browser, book_address: str) -> None:
    asked: list[str] = []
    with visiting(browser, book_address) as visit:
        visit.page.on("request", lambda request: asked.append(request.url))
        visit.page.goto(book_address + PAGE, wait_until="networkidle")
    assert [url for url in asked if ".gz" in url or "worker.js" in url or "ort.mjs" in url] == []


def test_page_without_webassembly_says_so_and_shows_answers(browser: Browser, book_address: str) -> None:
    for visit in opened(browser, book_address, script="delete globalThis.WebAssembly;"):
        check_fallback(visit.page, "WebAssembly")


def test_page_opened_as_a_file_says_so_and_shows_answers(browser: Browser) -> None:
    for visit in opened(browser, f"{BOOK.as_uri()}/"):
        check_fallback(visit.page, "opened as a file")


def test_files_that_do_not_arrive_are_said(browser: Browser, book_address: str) -> None:
    with visiting(browser, book_address) as visit:
        visit.page.add_init_script(NOTE_ANSWERS)
        visit.page.route("**/attention.onnx.gz*", lambda route: route.fulfill(status=404))
        visit.page.goto(book_address + PAGE, wait_until="load")
        visit.page.get_by_role("button", name="Load the model").click()
        check_fallback(visit.page, "attention.onnx.gz (404)")


def check_fallback(page: Page, reason: str) -> None:
    page.wait_for_function("window.answers.length > 0")
    assert reason in page.locator(".refam-engine-offer").inner_text()
    assert page.get_by_label("What to look for").is_hidden()
    page.evaluate("window.answers.length = 0")
    page.get_by_role("radio", name="Scene 9:").click()
    page.wait_for_function("window.answers.length > 0")
    assert "found when the book was built" in page.locator(".refam-engine-status").inner_text()
    assert page.locator(".refam-engine-pictures canvas").count() == 2


# How it looks


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [WIDE, NARROW], ids=lambda width: f"{width}px")
def test_page_is_sound_with_an_answer(browser: Browser, book_address: str, theme: str, width: int) -> None:
    for visit in opened(browser, book_address, width=width, script=f"localStorage.setItem('mode', '{theme}');"
                        f"localStorage.setItem('theme', '{theme}');"):  # fmt: skip
        page = visit.page
        load(page)
        page.locator(".refam-engine-mass summary").click()
        page.evaluate("window.scrollTo(0, 0)")
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"engine-{theme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth + 1")
        page.add_script_tag(path=AXE)
        found = page.evaluate("axe.run('.refam-engine')")
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
