"""The chapters on the phenomena with a bundle of another model beside the embedded one, built and looked at.

The bundle is made of a small random model of the real FLUX classes, and the book is a small one: the chapters that draw
bundles, on few scenes (`REFAM_SCENES`), since building all of it takes minutes. Without a bundle these chapters are
those of the book that the other tests of this folder look at.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from browser.pages import BOOK
from references.bundles import make_tiny_bundle

from refam_analysis.notebook import other_models

ROOT = Path(__file__).parents[2]
NAME = "tiny-flux"
CHAPTERS = {
    "09-entropy": 3, "10-emergence": 3, "11-sinks": 2, "12-padding": 1, "13-magnets": 2, "14-causal": 1, "15-claims": 2,
}  # fmt: skip
"""Chapter -> how many of its figures draw other models."""
UNJUDGED = ("12-padding",)
"""Chapters without a table of verdicts: no claim of the paper is about padding."""

QUICK = {"REFAM_SCENES": "4", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "JUPYTER_PREFER_ENV_PATH": "1"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The built chapters, by name."""
    folder = tmp_path_factory.mktemp("book")
    bundle = make_tiny_bundle(tmp_path_factory.mktemp("tiny"), scenes=3, ledger_scenes=2)
    book = folder / "book"
    shutil.copytree(ROOT / "book", book, ignore=shutil.ignore_patterns("*.md", "node_modules"))
    (folder / "notebooks").mkdir()
    for chapter in CHAPTERS:
        shutil.copy(ROOT / "notebooks" / f"{chapter}.ipynb", folder / "notebooks")
    (folder / "index.md").write_text("# A small book\n")
    chapters = [{"file": f"notebooks/{chapter}"} for chapter in CHAPTERS]
    (folder / "_toc.yml").write_text(yaml.safe_dump({"format": "jb-book", "root": "index", "chapters": chapters}))
    configuration = {
        "title": "A small book",
        "execute": {"execute_notebooks": "force", "timeout": 300, "allow_errors": False},
        "parse": {"myst_enable_extensions": ["amsmath", "colon_fence", "dollarmath"]},
        "bibtex_bibfiles": ["book/references.bib"],
        "sphinx": {
            "config": {"nb_execution_raise_on_error": True, "nb_render_markdown_format": "myst", "numfig": True}
        },
    }
    (folder / "_config.yml").write_text(yaml.safe_dump(configuration))
    environment = {**os.environ, **QUICK, "REFAM_BUNDLES": str(bundle), "JUPYTER_CONFIG_DIR": str(folder / "jupyter"),
                   "IPYTHONDIR": str(folder / "ipython")}  # fmt: skip
    for name in ("MPLBACKEND", "JUPYTER_PATH", "JUPYTER_DATA_DIR", "REFAM_MODEL", "REFAM_FIGURES"):
        environment.pop(name, None)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", folder, "-n", "--keep-going"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return {name: (folder / "_build/html/notebooks" / f"{name}.html").read_text() for name in CHAPTERS}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_names_the_other_model_in_words_and_in_its_figures(pages: dict[str, str], chapter: str) -> None:
    page = pages[chapter]
    assert "this page shows other models" in page and "No other model is shown on this page" not in page
    assert re.search(rf"<em>{NAME}</em>: <code[^>]*>", page), "the sentence that says which model it is"
    assert page.count("<figure") >= CHAPTERS[chapter]
    judged = re.search(rf"<th[^>]*>(<p>)?{NAME}", page)
    assert judged or chapter in UNJUDGED, "the table of verdicts has a column of that model"


def test_no_path_of_this_machine_is_in_a_page(pages: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    base = str(tmp_path_factory.getbasetemp())
    assert [name for name, page in pages.items() if base in page] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_book_without_a_bundle_says_so_and_how_to_make_one(chapter: str) -> None:
    page = (BOOK / "notebooks" / f"{chapter}.html").read_text()
    if other_models().bundles:
        assert "this page shows other models" in page
    else:
        assert "No other model is shown on this page" in page
        assert re.search(r"refam\s+bundle\s+--model", re.sub(r"<[^>]+>", "", page))
