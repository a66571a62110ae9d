"""Runs as tables, without models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from refam_analysis.evaluation.datasets import decode_mask, encode_mask, load_dataset
from refam_analysis.evaluation.metrics import mask_overlaps
from refam_analysis.evaluation.runner import RunResults, load_results
from refam_analysis.evaluation.runner.rows import failed_row, plain_facts
from refam_analysis.evaluation.runner.store import RunStore

ABOUT = {
    "configuration": {"dataset": "refcoco", "split": "val", "magnets": ["a"], "segmenter": "embedded", "limit": None},
    "data": {"items": 3, "expressions": 6, "left_out": 0, "video": False},
    "model": {"model": "tiny"},
    "problems": [],
    "starts": [{"root": None}],
}


@pytest.fixture(scope="session")
def made() -> Callable[..., RunResults]:
    """``made([(item, intersection, union), ...], name=..., **columns)``: a run of refcoco val."""

    def make(
        rows: Sequence[tuple[str, int, int]], *, name: str = "ours", about: dict | None = None, **columns: object
    ) -> RunResults:
        table = pd.DataFrame(rows, columns=["item", "intersection", "union"])
        table["group"] = pd.factorize(table["item"])[0]
        table["expression"] = [f"{item}/{i}" for i, item in enumerate(table["item"])]
        table["iou"] = table["intersection"] / table["union"]
        defaults = {"kind": "place", "text": "ring", "on_target": 1.0, "score": 0.5, "error": None}
        table = table.assign(**{**defaults, **columns})
        return RunResults(Path(name), name, about or ABOUT, table)

    return make


@pytest.fixture(scope="session")
def scenes_run(tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    """A run of three scenes: answers are the truth, half of it, nothing, and errors, with markup in what they say."""
    folder = tmp_path_factory.mktemp("runs") / "scenes"
    dataset = load_dataset("scenes", "test", limit=3)
    entries = {"dataset": "scenes", "split": "test", "limit": 3, "magnets": ["a"], "segmenter": "embedded"}
    identity = {
        "configuration": entries, "data": {"items": 3, "expressions": dataset.expressions, "video": False},
        "model": {"model": "tiny"},
    }  # fmt: skip
    with RunStore(folder, identity, start={"root": None}, problems=["<a.json>: it is cut"]) as store:
        for group, item in enumerate(dataset):
            rows = []
            for number, expression in enumerate(item.expressions):
                row = {
                    "group": group, "number": number, "item": item.key, "expression": expression.key,
                    "text": f"<script>alert('{expression.text}')</script>", "kind": expression.kind,
                    "facts": plain_facts(expression.facts), "seed": 0, "height": 96, "width": 96,
                }  # fmt: skip
                rows.append({**row, **answer(expression.mask, (group + number) % 4)})
            store.write(rows)
        store.finish()
    return load_results(folder)


def answer(true: dict, quality: int) -> dict[str, object]:
    mask = decode_mask(true)
    if quality == 3:
        return failed_row(int(mask.sum()), ValueError("<b>no words</b> & more"))
    mask = [mask, mask & (np.arange(96) % 2 == 0), np.zeros_like(mask)][quality]
    predicted = encode_mask(mask)
    both, either = (int(counts[0]) for counts in mask_overlaps([predicted], [true]))
    return {
        "x": 10.0, "y": 20.0, "peak": 1.0, "score": 0.9 - quality / 10, "on_target": float(quality == 0),
        "intersection": both, "union": either, "true_area": either, "predicted_area": int(mask.sum()),
        "iou": both / either, "mask": predicted["counts"].decode(), "error": None,
    }  # fmt: skip
