"""The folder of a run: whole parts, one run only, one writer only, and whatever was left by a crash."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from refam_analysis.evaluation.runner.rows import IMAGE_SCHEMA, failed_row
from refam_analysis.evaluation.runner.store import (
    NoRunError,
    OtherRunError,
    RunFolderError,
    RunStore,
    load_results,
    refuse_other_run,
)

IDENTITY = {
    "configuration": {"dataset": "scenes", "split": "test", "magnets": ["a"]},
    "data": {"items": 3, "video": False},
    "model": {"weights": "abc"},
}
START = {"date": "2026-01-01", "root": None}


def row(group: int, number: int = 0, *, iou: float = 0.5, error: str | None = None) -> dict[str, object]:
    common = {
        "group": group, "number": number, "item": f"image-{group}", "expression": f"{group}/{number}", "text": "ring",
        "kind": "place", "facts": json.dumps({"words": group}), "seed": 1, "height": 4, "width": 5,
    }  # fmt: skip
    if error is not None:
        return {**common, **failed_row(5, ValueError(error))}
    scores = {"x": 1.0, "y": 2.0, "intersection": 1, "union": 2, "iou": iou, "on_target": 1.0, "error": None}
    return {**common, **scores, "mask": "00"}


def opened(folder: Path, identity: dict = IDENTITY) -> RunStore:
    return RunStore(folder, identity, start=START)


def test_rows_come_back_in_the_order_of_the_data_set_with_their_facts(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as store:
        store.write([row(2, 0), row(2, 1)])
        store.write([row(0)])
    run = load_results(tmp_path / "run")
    assert run.table["expression"].tolist() == ["0/0", "2/0", "2/1"]
    assert run.table["fact_words"].tolist() == [0, 2, 2]
    assert (run.name, run.missing, run.video, run.about["finished"]) == ("run", 1, False, None)


def test_a_finished_run_is_one_table_and_what_it_is(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for group in (1, 0, 2):
            store.write([row(group)])
        store.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "results.parquet", "run.json"]
    assert pd.read_parquet(tmp_path / "results.parquet")["group"].tolist() == [0, 1, 2]
    run = load_results(tmp_path)
    assert run.missing == 0 and run.about["finished"] and run.about["model"] == {"weights": "abc"}


def test_a_second_start_is_noted_and_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write([row(1)])
    with opened(tmp_path) as store:
        assert store.pending(3) == [0, 2]
        store.write([row(0)])
    assert len(load_results(tmp_path).about["starts"]) == 2
    assert load_results(tmp_path).table["group"].tolist() == [0, 1]


def test_what_failed_is_pending_and_its_row_is_replaced(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write([row(0, 0), row(0, 1, error="no words")])
        store.write([row(1)])
        store.finish()
    with opened(tmp_path) as store:
        assert store.pending(2) == [0]
        store.write([row(0, 0), row(0, 1, iou=0.25)])
        store.finish()
    table = load_results(tmp_path).table
    assert table["iou"].tolist() == [0.5, 0.25, 0.5] and table["error"].isna().all()


def test_rows_of_another_run_are_refused_by_the_entries_that_differ(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write([row(0)])
    other = {**IDENTITY, "model": {"weights": "xyz"}, "configuration": {**IDENTITY["configuration"], "magnets": []}}
    with pytest.raises(OtherRunError) as caught:
        opened(tmp_path, other)
    assert "configuration.magnets was ['a'] and is []" in str(caught.value)
    assert "model.weights was 'abc' and is 'xyz'" in str(caught.value)
    assert "split" not in str(caught.value)
    assert len(load_results(tmp_path).about["starts"]) == 1


def test_another_run_is_refused_before_models_are_loaded(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    refuse_other_run(tmp_path, {"data": IDENTITY["data"]})
    with pytest.raises(OtherRunError, match="data.items was 3 and is 4"):
        refuse_other_run(tmp_path, {"data": {**IDENTITY["data"], "items": 4}})


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(RunFolderError, match="thesis.tex"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunFolderError, match="is a file"):
        opened(tmp_path / "run")


def test_what_a_crash_has_left_is_removed_or_done_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write([row(0)])
        store.write([row(1)])
    parts = tmp_path / "parts"
    whole = (parts / "00000001.parquet").read_bytes()
    (parts / "00000001.parquet").write_bytes(whole[: len(whole) // 2])  # as after a power cut
    (parts / ".00000002.parquet.partial").write_bytes(b"PAR1")
    (tmp_path / ".run.json.partial").write_text("{")
    assert load_results(tmp_path).table["group"].tolist() == [0]
    with opened(tmp_path) as store:
        assert store.pending(3) == [1, 2]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_crash_before_anything_was_said_leaves_a_new_folder(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.partial").write_text("{")
    with opened(tmp_path) as store:
        assert store.pending(1) == [0]


def test_parts_that_were_put_together_already_count_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write([row(0)])
        part = (tmp_path / "parts" / "00000000.parquet").read_bytes()
        store.finish()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "00000000.parquet").write_bytes(part)  # as after a crash between both
    assert load_results(tmp_path).table["group"].tolist() == [0]


def test_a_damaged_table_is_not_passed_over(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write([row(0)])
        store.finish()
    (tmp_path / "results.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunFolderError, match="damaged"):
        load_results(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 99, "starts": [], "data": {"video": false}}'])
def test_a_description_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunFolderError):
        load_results(tmp_path)
    with pytest.raises(RunFolderError):
        opened(tmp_path)


def test_no_run_is_told_apart_from_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(NoRunError, match="refam evaluate"):
        load_results(tmp_path)
    with opened(tmp_path):
        assert load_results(tmp_path).table.empty
    assert set(load_results(tmp_path).table.columns) == set(IMAGE_SCHEMA.names) - {"facts"}


def test_two_do_not_write_into_one_folder_at_once(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(RunFolderError, match="Another process"):
        opened(tmp_path)
    with opened(tmp_path):
        pass
