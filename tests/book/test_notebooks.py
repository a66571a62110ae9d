"""What the book asks of its notebooks before they are run."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST_CELL = 15


@cache
def cells(path: Path) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(path.read_text(encoding="utf-8"))["cells"])


def figures(path: Path) -> list[dict[str, Any]]:
    """The metadata for MyST-NB of every cell that draws a figure."""
    chosen = [cell["metadata"].get("mystnb", {}) for cell in cells(path)]
    return [one for one in chosen if "figure" in one]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_long_cells_are_folded(path: Path) -> None:
    long = [
        cell["id"]
        for cell in cells(path)
        if cell["cell_type"] == "code"
        and len("".join(cell["source"]).splitlines()) > LONGEST_CELL
        and "hide-input" not in cell["metadata"].get("tags", [])
    ]
    assert long == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_figures_have_caption_name_and_alternative_text(path: Path) -> None:
    for one in figures(path):
        assert one["figure"].get("name", "").startswith("fig-")
        assert len(one["figure"].get("caption", "")) >= 25
        assert len(one.get("image", {}).get("alt", "")) >= 15


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_saved_as_a_figure_is_one_in_the_book(path: Path) -> None:
    saving = [cell for cell in cells(path) if re.search(r"^save_figure\(", "".join(cell["source"]), re.MULTILINE)]
    assert [cell["id"] for cell in saving if "figure" not in cell["metadata"].get("mystnb", {})] == []


def test_names_of_figures_are_unique() -> None:
    names = Counter(one["figure"]["name"] for path in NOTEBOOKS for one in figures(path))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_first_cell_says_what_is_needed(path: Path) -> None:
    first = cells(path)[0]
    assert first["cell_type"] == "markdown"
    assert re.match(r"# \S", "".join(first["source"]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_headings_skip_no_level(path: Path) -> None:
    text = "\n".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "markdown")
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    levels = [len(found) for found in re.findall(r"^(#+) ", text, flags=re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert [pair for pair in zip(levels, levels[1:], strict=False) if pair[1] > pair[0] + 1] == []


def test_text_refers_to_every_figure() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "book").rglob("*.md")]
    notes = ["".join(cell["source"]) for path in NOTEBOOKS for cell in cells(path)]
    referred = set(re.findall(r"\{numref\}`(?:[^`<]*<)?([\w-]+)>?`", "\n".join(pages + notes)))
    names = {one["figure"]["name"]: path.stem for path in NOTEBOOKS for one in figures(path)}
    assert {name: notebook for name, notebook in names.items() if name not in referred} == {}
