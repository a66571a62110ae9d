"""Two builds of the same pages, in two folders, with hashes in another order, differ in nothing but dates."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from browser.pages import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from book.compare_builds import differences

CONTENTS = """format: jb-book
root: book/intro
parts:
  - caption: Pages
    chapters:
      - file: book/bibliography
      - file: notebooks/sums
"""
CODE = """import matplotlib.pyplot as plt

from refam_analysis.notebook import use_style

use_style()
plt.plot([0, 1], marker="o");"""
FIGURE = {
    "figure": {"name": "fig-sums", "caption": "A line that goes up, of no model at all."},
    "image": {"alt": "A line from the lower left to the upper right."},
}
INTRO = "# A small book\n\nSee {numref}`fig-sums` of {doc}`../notebooks/sums` {cite}`kukleva2025refam`, and $x^2$.\n"


def build(folder: Path, seed: str) -> Path:
    """Build a small book with the settings of the large one, and return where its pages are."""
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", folder)
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("reference", "*.md"))
    shutil.copy(ROOT / "book" / "bibliography.md", folder / "book")
    for name in ("results", "notebooks", "refam_analysis"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    (folder / "_build").mkdir()
    for name in ("npm", "explorer", "browser"):  # what large extensions keep: made once for every book
        (ROOT / "_build" / name).mkdir(exist_ok=True)
        (folder / "_build" / name).symlink_to(ROOT / "_build" / name)
    (folder / "_toc.yml").write_text(CONTENTS)
    (folder / "book" / "intro.md").write_text(INTRO)
    cells = [new_markdown_cell("# Sums", id="a"), new_code_cell(CODE, id="b", metadata={"mystnb": FIGURE})]
    kernel = {"display_name": "RefAM Analysis", "language": "python", "name": "python3"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / "notebooks" / "sums.ipynb")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", folder, "--all", "-W", "-n", "--keep-going"]
    surroundings = {**os.environ, "PYTHONHASHSEED": seed, "JUPYTER_PREFER_ENV_PATH": "1"}
    surroundings = {name: value for name, value in surroundings.items() if name != "MPLBACKEND"}
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "_build" / "html"


def test_two_builds_differ_in_nothing_but_dates(tmp_path: Path) -> None:
    one, other = (build(tmp_path / seed, seed) for seed in ("1", "2"))
    assert (one / "notebooks" / "sums.html").is_file()
    drawings = sorted(path.name for path in (one / "_images").glob("*.svg"))
    assert len(drawings) == 2 and drawings[0] == drawings[1].replace("-light.svg", "-dark.svg")
    assert differences(one, other) == []


def test_a_difference_is_named(tmp_path: Path) -> None:
    for name, text in (("one", "same 2026-01-02, then this"), ("other", "same 2026-03-04, then that")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(text)
    (found,) = differences(tmp_path / "one", tmp_path / "other")
    assert found.startswith("index.html: differs from byte")
