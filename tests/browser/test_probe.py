"""The probe in Jupyter Lab, as a reader uses it: typed into, clicked, by keyboard, and when something is wrong.

Lab runs on this machine alone, with a token, in a folder of its own; nothing is fetched from any other host.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.jupyter import SLOW, jupyter, probe_in
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from refam_analysis.models import block_table, load_model
from refam_analysis.segmentation import default_settings

SCREENSHOTS = Path(__file__).parents[2] / "_build" / "screenshots"

expect.set_options(timeout=SLOW)
AXE = Path(__file__).parents[2] / "_build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
BREACHES = """() => axe.run('.refam-probe', { runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa'] }).then((found) =>
    found.violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 90)}`)))"""
"""What axe finds against the accessibility guidelines WCAG 2.2, levels A and AA: names, roles, contrast."""


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Lab with the probe."""
    with jupyter(tmp_path_factory.mktemp("lab"), "jupyterlab") as address, probe_in(browser, address) as visit:
        visit.page.evaluate(AXE.read_text(encoding="utf-8"))
        yield visit.page
        assert (visit.problems, visit.other_hosts) == ([], set())


@pytest.fixture
def probe(page: Page) -> Locator:
    """The app, with one sentence and the heatmap shown."""
    found = page.get_by_role("region", name="RefAM probe")
    if found.get_by_role("button", name="Back to the heatmap").is_enabled():
        found.get_by_role("button", name="Back to the heatmap").click()
    found.get_by_role("radio", name="nothing", exact=True).check(force=True)
    found.get_by_role("radio", name="Scene", exact=True).check(force=True)
    look_for(found, "the large green one")
    return found


def look_for(probe: Locator, sentence: str) -> None:
    probe.get_by_label("What to look for").fill(sentence)
    expect(heading(probe)).to_have_text(re.compile(f"^{re.escape(sentence)}( \\+|$)"))
    expect(probe).to_have_attribute("data-busy", "false")


@pytest.fixture(scope="module")
def blocks_and_passes() -> tuple[int, int]:
    """Of the model: how many blocks it has, and how many forward passes a sentence takes with the one for its map."""
    model = load_model("embedded")
    settings = default_settings(model)
    return int(block_table(model)["number"].sum()), 1 + len(settings.noise_levels) * settings.seeds


def heading(probe: Locator) -> Locator:
    return probe.locator(".refam-answer-head").first


def picture_of(probe: Locator, index: int = 0) -> str:
    """What a canvas shows, as one text."""
    return probe.locator(".refam-picture-canvas").nth(index).evaluate("canvas => canvas.toDataURL()")


def keep(probe: Locator, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    probe.screenshot(path=SCREENSHOTS / f"probe-{name}.png")


def test_first_answer_is_there(probe: Locator) -> None:
    keep(probe, "first")
    tokens = probe.get_by_role("radiogroup", name="Tokens of the sentence").get_by_role("radio")
    expect(tokens.first).to_have_text("whole sentence")
    assert tokens.all_inner_texts()[1:5] == ["the", "large", "green", "one"]
    expect(probe.get_by_role("img", name=re.compile("^Heatmap of the sentence"))).to_be_visible()
    expect(
        probe.get_by_role("img", name=re.compile("predicted IoU .* The dashed line is the true mask"))
    ).to_be_visible()


def test_typing_asks_the_last_sentence_alone(probe: Locator, blocks_and_passes: tuple[int, int]) -> None:
    box = probe.get_by_label("What to look for")
    box.fill("")
    expect(probe.locator(".refam-status-text")).to_contain_text("is empty")
    box.press_sequentially("the pink cross", delay=25)
    expect(heading(probe)).to_have_text("the pink cross + 9 magnets")
    expect(probe.locator(".refam-status-text")).to_have_text(
        re.compile(rf"^Answered in .* {blocks_and_passes[1]} forward passes$")
    )


def test_magnets_are_switched_by_the_keyboard(probe: Locator) -> None:
    colours = probe.get_by_role("switch", name="colours")
    before = picture_of(probe)
    colours.press("Space")
    expect(colours).to_have_attribute("aria-checked", "false")
    expect(heading(probe)).to_have_text("the large green one + 3 magnets")
    assert picture_of(probe) != before
    colours.press("Space")
    expect(heading(probe)).to_have_text("the large green one + 8 magnets")


def test_click_into_the_matrix_picks_block_and_token(probe: Locator, blocks_and_passes: tuple[int, int]) -> None:
    rows = 1 + blocks_and_passes[0]
    matrix = probe.get_by_role("application", name=re.compile("^Blocks and tokens"))
    box = matrix.bounding_box()
    assert box
    columns = probe.locator(".refam-matrix-columns").first.locator("span").count()
    matrix.click(position={"x": box["width"] * 2.5 / columns, "y": box["height"] * 4.5 / rows})
    caption = probe.locator(".refam-caption").first
    expect(caption).to_have_text("Map of “green”, block 3, mean of its heads")
    heads = probe.get_by_role("application", name=re.compile("^Heads of the block"))
    box = heads.bounding_box()
    assert box
    heads.click(position={"x": box["width"] * 1.5 / columns, "y": box["height"] * 2.5 / 4})
    expect(caption).to_have_text("Map of “large”, block 3, head 1")
    keep(probe, "picked")


def test_arrow_keys_walk_through_the_matrix_and_nothing_else(page: Page, probe: Locator) -> None:
    """Lab's own keys, by which arrows choose another cell, stay out of it."""
    matrix = probe.get_by_role("application", name=re.compile("^Blocks and tokens"))
    caption = probe.locator(".refam-caption").first
    matrix.focus()
    for key, text in (
        ("ArrowDown", "Map of “the”, block 0, mean of its heads"),
        ("ArrowRight", "Map of “large”, block 0, mean of its heads"),
        ("End", "Map of “padding ×19”, block 0, mean of its heads"),
    ):
        matrix.press(key)
        expect(caption).to_have_text(text)
    expect(matrix).to_be_focused()
    expect(probe.locator(".refam-line").first).to_contain_text("block 0, “padding ×19” (padding)")


def test_measure_of_the_matrix_is_chosen(probe: Locator) -> None:
    bar = probe.locator(".refam-part-blocks .refam-bar-label").first
    expect(bar).to_have_text("received mass from image queries (1 = uniform)")
    probe.get_by_role("radio", name="entropy").check(force=True)
    expect(bar).to_have_text("entropy of the token's row (nats)")
    probe.get_by_role("radio", name="mass from image").check(force=True)
    expect(bar).to_have_text("received mass from image queries (1 = uniform)")


@pytest.mark.parametrize("light", [True, False], ids=["light", "dark"])
def test_with_and_without_magnets_side_by_side(page: Page, probe: Locator, light: bool) -> None:
    probe.get_by_role("radio", name="no magnets").check(force=True)
    headings = probe.locator(".refam-answer-head")
    expect(headings).to_have_text(["the large green one + 8 magnets", "the large green one"])
    page.evaluate("light => document.body.setAttribute('data-jp-theme-light', String(light))", light)
    keep(probe, "compared" if light else "dark")
    assert page.evaluate(BREACHES) == []
    page.evaluate("document.body.setAttribute('data-jp-theme-light', 'true')")


def test_error_of_one_side_stands_in_its_place(probe: Locator) -> None:
    probe.get_by_role("radio", name="sentence", exact=True).check(force=True)
    probe.get_by_label("Another sentence").fill("of the")
    problem = probe.get_by_role("alert").filter(has_text="only stop words")
    expect(problem).to_be_visible()
    expect(heading(probe)).to_be_visible()
    keep(probe, "error")


def test_markup_in_a_sentence_is_text(page: Page, probe: Locator) -> None:
    """Also within the sentence about what is wrong with it: this one is too long for the text encoder."""
    probe.get_by_label("What to look for").fill('<img src=x onerror="window.harmed = 1"><b>a very long ring</b>')
    expect(probe.get_by_role("alert").filter(has_text="would be cut")).to_be_visible()
    look_for(probe, "<b>ring</b>")
    assert page.evaluate("window.harmed") is None
    assert probe.locator(".refam-answer b, .refam-answer img").count() == 0


def test_upload_and_what_is_refused(probe: Locator, tmp_path: Path) -> None:
    probe.get_by_role("radio", name="Upload").check(force=True)
    picker = probe.get_by_label("Picture file")
    before = probe.locator(".refam-preview").get_attribute("src")
    (tmp_path / "evil.png").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg'><script>window.harmed = 1</script></svg>"
    )
    picker.set_input_files(tmp_path / "evil.png")
    status = probe.locator(".refam-status-text")
    expect(status).to_contain_text("'evil.png' is no PNG, JPEG or WebP picture")
    (tmp_path / "large.png").write_bytes(bytes(9 * 2**20))
    picker.set_input_files(tmp_path / "large.png")
    expect(status).to_contain_text("has 9.0 MiB, and at most 8 are taken")
    assert probe.locator(".refam-preview").get_attribute("src") == before
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "sea.png")
    picker.set_input_files(tmp_path / "sea.png")
    expect(probe.get_by_text("sea.png", exact=True)).to_be_visible()
    expect(status).to_contain_text("Answered in")
    box = probe.locator(".refam-picture-canvas").first.bounding_box()
    assert box and box["width"] / box["height"] == pytest.approx(1.5, abs=0.02)


def test_another_scene_brings_its_own_sentences(probe: Locator) -> None:
    before = probe.locator(".refam-preview").get_attribute("src")
    probe.get_by_label("Scene number").fill("7")
    expect(probe.get_by_text("Scene 7 with 3 objects")).to_be_visible()
    assert probe.locator(".refam-preview").get_attribute("src") != before
    offered = probe.locator(".refam-offer").last
    text = offered.inner_text()
    offered.click()
    expect(heading(probe)).to_contain_text(text)
    probe.get_by_label("Scene number").fill("0")
    expect(probe.get_by_text("Scene 0 with 3 objects")).to_be_visible()


@pytest.mark.parametrize(
    "button, name, start",
    [("Script", "probe.py", b"import"), ("SVG", "probe.svg", b"<?xml"), ("PNG", "probe.png", b"\x89PNG"),
     ("Recording", "recording.zip", b"PK")],
)  # fmt: skip
def test_what_is_taken_away(page: Page, probe: Locator, button: str, name: str, start: bytes) -> None:
    with page.expect_download() as waiting:
        probe.get_by_role("button", name=button, exact=True).click()
    assert waiting.value.suggested_filename == name
    content = Path(waiting.value.path()).read_bytes()
    assert content.startswith(start)
    if name.endswith(".py"):
        assert "'the large green one'" in content.decode()
    if name.endswith(".zip"):
        assert any("image_to_text" in entry for entry in zipfile.ZipFile(io.BytesIO(content)).namelist())


def test_narrow_page_has_everything_below_each_other(page: Page, probe: Locator) -> None:
    page.set_viewport_size({"width": 640, "height": 1500})
    keep(probe, "narrow")
    whole, controls = probe.bounding_box(), probe.locator(".refam-probe-controls").bounding_box()
    assert whole and controls and controls["width"] > 0.9 * whole["width"]
    assert probe.evaluate("probe => probe.scrollWidth <= probe.clientWidth + 1")
    page.set_viewport_size({"width": 1400, "height": 1500})


def test_the_classic_notebook_answers_too(browser: Browser, tmp_path: Path) -> None:
    with jupyter(tmp_path, "notebook") as address, probe_in(browser, address) as visit:
        look_for(visit.page.get_by_role("region", name="RefAM probe"), "the pink cross")
        assert visit.other_hosts == set()
