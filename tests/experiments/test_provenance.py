"""Results come back as they were written, and not at all when the weights have changed."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from refam_analysis.experiments.provenance import (
    ROOT,
    NoResultError,
    Parts,
    StaleResultError,
    Stopwatch,
    load_result,
    weights_sha256,
    write_result,
)

TABLE = pd.DataFrame({"cat": ["Tom", "Kit"], "lives": [9, 7]})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder of shipped weights with one model in it."""
    model = tmp_path / "weights" / "embedded-cat"
    (model / "part").mkdir(parents=True)
    (model / "part" / "model.safetensors").write_bytes(b"purr")
    (model / "refam.json").write_text("{}")
    (model / "README.md").write_text("A cat.")
    return tmp_path / "weights"


def written(tmp_path: Path, weights: Path, *, also: tuple[str, ...] = ()) -> Path:
    digests = weights_sha256(weights / "embedded-cat", also=also)
    provenance = Stopwatch().provenance("refam experiment cats --items 2", {"items": 2, "levels": (0.5,)}, digests)
    write_result("cats", {"lives": TABLE}, provenance, results=tmp_path / "results")
    return tmp_path / "results"


def test_a_result_comes_back_as_it_was_written(tmp_path: Path, weights: Path) -> None:
    result = load_result("cats", results=written(tmp_path, weights), weights=weights)
    pd.testing.assert_frame_equal(result["lives"], TABLE)
    assert result.provenance.configuration == {"items": 2, "levels": [0.5]}
    assert result.provenance.weights == {"embedded-cat/part/model.safetensors": hashlib.sha256(b"purr").hexdigest()}


def test_provenance_says_where_it_comes_from_but_names_no_machine(tmp_path: Path, weights: Path) -> None:
    text = (written(tmp_path, weights) / "cats" / "provenance.json").read_text()
    entries = json.loads(text)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert entries["commit"] == (head or None)
    assert {"python", "torch", "diffusers"} <= set(entries["versions"])
    assert entries["machine"]["processor"] and entries["machine"]["cores"] >= 1
    assert entries["seconds"] >= 0 and entries["date"].startswith("20")
    assert str(tmp_path) not in text and str(ROOT) not in text


def test_changed_weights_make_a_result_stale(tmp_path: Path, weights: Path) -> None:
    results = written(tmp_path, weights)
    (weights / "embedded-cat" / "part" / "model.safetensors").write_bytes(b"hiss")
    with pytest.raises(StaleResultError, match="part/model.safetensors changed .* `refam experiment cats --items 2`"):
        load_result("cats", results=results, weights=weights)


def test_missing_weights_make_a_result_stale(tmp_path: Path, weights: Path) -> None:
    results = written(tmp_path, weights)
    (weights / "embedded-cat" / "part" / "model.safetensors").unlink()
    with pytest.raises(StaleResultError):
        load_result("cats", results=results, weights=weights)


@pytest.mark.parametrize(("also", "stale"), [((), False), (("refam.json",), True)], ids=["not named", "named"])
def test_other_files_count_where_they_are_named(
    tmp_path: Path, weights: Path, also: tuple[str, ...], stale: bool
) -> None:
    results = written(tmp_path, weights, also=also)
    (weights / "embedded-cat" / "refam.json").write_text('{"steps": 1}')
    if stale:
        with pytest.raises(StaleResultError, match="refam.json"):
            load_result("cats", results=results, weights=weights)
    else:
        load_result("cats", results=results, weights=weights)


def test_a_missing_result_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NoResultError, match="refam experiment grounding"):
        load_result("grounding", results=tmp_path)


def test_writing_again_replaces_the_whole_result(tmp_path: Path, weights: Path) -> None:
    results = written(tmp_path, weights)
    (results / ".cats.partial").mkdir()
    (results / ".cats.partial" / "half.parquet").write_bytes(b"cut")
    provenance = load_result("cats", results=results, weights=weights).provenance
    write_result("cats", {"other": TABLE}, provenance, results=results)
    assert sorted(path.name for path in results.iterdir()) == ["cats"]
    assert sorted(path.name for path in (results / "cats").iterdir()) == ["other.parquet", "provenance.json"]


def test_finished_parts_are_read_and_the_rest_made(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str) -> pd.DataFrame:
        made.append(name)
        return TABLE

    def keep(depends_on: dict[str, int], *names: str) -> Parts:
        parts = Parts(tmp_path, "cats", depends_on)
        for name in names:
            pd.testing.assert_frame_equal(parts.keep(name, lambda: make(name)), TABLE)  # noqa: B023
        return parts

    keep({"seed": 0}, "one")
    first = keep({"seed": 0}, "one", "two")
    assert made == ["one", "two"]
    keep({"seed": 1}, "one")
    assert made == ["one", "two", "one"]
    first.forget()
    keep({"seed": 0}, "two")
    assert made[3:] == ["two"]


def test_a_part_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "cats", {})
    with pytest.raises(ZeroDivisionError):
        parts.keep("one", lambda: pd.DataFrame({"x": [1 // 0]}))
    assert list(parts.folder.glob("*")) == []
