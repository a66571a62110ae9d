"""The page of the book about data sets says what the catalogue says, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from references.small_datasets import make_davis, make_refcoco
from typer.main import get_command

from refam_analysis.cli import app
from refam_analysis.evaluation.datasets.catalogue import BENCHMARKS

PAGE = (Path(__file__).parents[3] / "book" / "datasets.md").read_text(encoding="utf-8")


def published_rows() -> list[tuple[str, str, str, str]]:
    """Name, split, pictures or clips, and sentences, from the page's first table."""
    rows, name = [], ""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and re.fullmatch(r"[\w, ]+", cells[2]) and cells[2] != "split":
            name = cells[1].strip("`") or name
            rows += [(name, split, cells[3], cells[4]) for split in cells[2].split(", ")]
    return rows


def test_published_counts_on_the_page_are_those_of_the_catalogue() -> None:
    expected = []
    for name, benchmark in BENCHMARKS.items():
        for split in () if benchmark.drawn else benchmark.splits:
            count = benchmark.published.get(split)
            items = "?" if count is None or count.items is None else f"{count.items:,}"
            sentences = " or ".join(f"{n:,}" for n in count.expressions) if count and count.expressions else "?"
            expected.append((name, split, items, sentences))
    assert published_rows() == expected


def test_the_example_runs_on_small_releases(tmp_path: Path) -> None:
    make_refcoco(tmp_path / "refer")
    make_davis(tmp_path / "ref-davis")
    example = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert example
    names: dict[str, object] = {}
    exec(example[1].replace("/data/", f"{tmp_path}/"), names)
    assert np.shape(names["pixels"]) == (30, 40, 3) and np.shape(names["frame"]) == (24, 32, 3)
    assert np.shape(names["mask"]) == (24, 32) and np.any(names["mask"])  # type: ignore[arg-type]


@pytest.mark.parametrize("line", re.findall(r"^refam .+$", PAGE, re.MULTILINE))
def test_commands_of_the_page_are_understood(line: str) -> None:
    _, group, command, *options = line.split()
    known = get_command(app).commands[group].commands[command]  # type: ignore[attr-defined]
    known.make_context(command, options)
