"""The page of the worst and best: right pictures, nothing fetched, nothing executed."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refam_analysis.evaluation.datasets import DatasetError
from refam_analysis.evaluation.report import worst_and_best, write_gallery
from refam_analysis.evaluation.report.overlays import PREDICTED, TRUE, draw_answer
from refam_analysis.evaluation.runner import RunResults


class Page(HTMLParser):
    """What a browser would make of it: tags with attributes, and text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def markup(scenes_run: RunResults, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_gallery(scenes_run, tmp_path_factory.mktemp("page") / "new" / "gallery.html", number=3)
    assert [file.name for file in path.parent.iterdir()] == ["gallery.html"]
    return path.read_text(encoding="utf-8")


def test_the_worst_and_the_best_are_by_iou_and_never_both(scenes_run: RunResults) -> None:
    chosen = worst_and_best(scenes_run, 3)
    scored = scenes_run.table[scenes_run.table["error"].isna()]
    each = min(3, (len(scored) + 1) // 2)
    assert chosen["worst"]["iou"].tolist() == sorted(scored["iou"])[:each]
    assert chosen["best"]["iou"].iloc[0] == scored["iou"].max()
    assert not set(chosen["worst"].index) & set(chosen["best"].index)
    assert set(chosen["worst"].index) | set(chosen["best"].index) <= set(scored.index)


def test_the_page_asks_for_nothing(markup: str) -> None:
    page = Page(markup)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base", "form"}
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,"))
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in markup and "@import" not in markup
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy is not None and policy.startswith("default-src 'none'") and "script-src" not in policy


def test_what_data_sets_and_errors_say_is_text(markup: str) -> None:
    page = Page(markup)
    text = "".join(page.text)
    assert "<script>alert('the" in text and "<b>no words</b> & more" in text and "<a.json>: it is cut" in text
    assert "b" not in {tag for tag, _ in page.tags}


def test_every_picture_is_inside_the_page(markup: str, scenes_run: RunResults) -> None:
    sources = [attributes["src"] for tag, attributes in Page(markup).tags if tag == "img"]
    assert len(sources) == sum(len(rows) for rows in worst_and_best(scenes_run, 3).values())
    for source in sources:
        with Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1]))) as picture:
            assert picture.size == (288, 288)  # 96 pixels, three times enlarged


def test_kinds_can_be_chosen_without_a_script(markup: str) -> None:
    buttons = [attributes for tag, attributes in Page(markup).tags if tag == "input"]
    classes = {attributes["class"] for tag, attributes in Page(markup).tags if tag == "figure"}
    assert {f"kind-{i}" for i in range(len(buttons) - 1)} == classes
    for name in classes:
        assert re.search(rf"#{name}:checked\) figure:not\(\.{name}\)", markup)


def test_pictures_that_cannot_be_read_are_an_error(scenes_run: RunResults, tmp_path: Path) -> None:
    about = {**scenes_run.about, "configuration": {**scenes_run.about["configuration"], "dataset": "refcoco"}}
    with pytest.raises(DatasetError):
        write_gallery(dataclasses.replace(scenes_run, about=about), tmp_path / "gallery.html")
    assert list(tmp_path.iterdir()) == []


# What is drawn


def test_masks_and_the_point_are_drawn_where_they_are() -> None:
    image = np.full((10, 20, 3), 100, np.uint8)
    predicted, true = np.zeros((2, 10, 20), bool)
    predicted[4:8, 2:8], true[2:8, 12:18] = True, True
    drawn = draw_answer(image, predicted=predicted, true=true, point=(5.0, 5.0), side=200)
    assert drawn.shape == (100, 200, 3)
    np.testing.assert_array_equal(drawn[55, 55], (255, 255, 255))
    tinted = np.round(0.55 * 100 + 0.45 * np.array(PREDICTED))
    np.testing.assert_array_equal(drawn[45, 25], tinted)
    np.testing.assert_array_equal(drawn[50, 150], (100, 100, 100))
    for colour, column in ((PREDICTED, 20), (TRUE, 120)):
        assert (drawn[60, column - 3 : column + 3] == colour).all(axis=-1).any()


def test_a_large_picture_is_made_smaller() -> None:
    assert draw_answer(np.zeros((300, 900, 3), np.uint8), predicted=None, true=None, side=300).shape == (100, 300, 3)
