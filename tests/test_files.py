"""Files that are whole or not there: what is written comes back, and a turned bit is an error or changes nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from refam_analysis.errors import RefamError, told
from refam_analysis.files import (
    DamagedFileError,
    NotWrittenError,
    add_entry,
    kept_table,
    put_back,
    read_entries,
    read_json,
    read_table,
    read_tensors,
    write_entries,
    write_json,
    write_table,
    write_tensors,
    written_folder,
    written_whole,
)

ENTRIES = {"seed": 3, "levels": [0.25, 1.0], "prompt": "ünïcode", "revision": None}
TABLE = pd.DataFrame({"cat": ["Tom", "Kit", None], "lives": [9, 7, 1], "weight": [3.5, float("nan"), 0.25]})
TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "half": torch.ones(3).half(), "step": torch.tensor(7)}


def same_tensors(found: tuple[dict[str, torch.Tensor], dict[str, Any]]) -> bool:
    tensors, state = found
    return state == ENTRIES and tensors.keys() == TENSORS.keys() and all(
        torch.equal(value, TENSORS[name]) for name, value in tensors.items()
    )  # fmt: skip


FORMS: dict[str, tuple[Callable[[Path], object], Callable[[Path], bool]]] = {
    "json": (lambda path: write_json(path, ENTRIES), lambda path: read_json(path) == ENTRIES),
    "log": (lambda path: write_entries(path, [ENTRIES] * 2), lambda path: read_entries(path) == [ENTRIES] * 2),
    "table": (lambda path: write_table(TABLE, path), lambda path: read_table(path).equals(TABLE)),
    "tensors": (lambda path: write_tensors(path, TENSORS, ENTRIES), lambda path: same_tensors(read_tensors(path))),
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_what_is_written_comes_back(form: str, tmp_path: Path) -> None:
    write, is_same = FORMS[form]
    write(tmp_path / "file")
    assert is_same(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("bit", [0, 3, 5])
def test_a_turned_bit_is_an_error_or_changes_nothing(form: str, tmp_path: Path, bit: int) -> None:
    write, is_same = FORMS[form]
    path = tmp_path / "file"
    write(path)
    content = path.read_bytes()
    for place in range(0, len(content), 1 if len(content) < 1000 else 3):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            same = is_same(path)
        except DamagedFileError as error:
            assert str(path) in str(error)
        else:
            # A log says which of its lines is damaged, and keeps the others.
            assert same or (form == "log" and set(map(str, read_entries(path))) <= {str(ENTRIES), "None"})


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_file_is_an_error(form: str, tmp_path: Path, share: float) -> None:
    write, is_same = FORMS[form]
    path = tmp_path / "file"
    write(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    if form == "log":
        assert read_entries(path) in ([None], [ENTRIES, None], [])
        return
    with pytest.raises(DamagedFileError, match="is damaged"):
        is_same(path)


def test_what_was_written_by_hand_needs_no_checksum(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"seed": 3}')
    assert read_json(tmp_path / "run.json") == {"seed": 3}


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EROFS, "Read-only"), OSError("12 requested")],
    ids=["full", "read-only", "numpy"],
)
def test_a_refusal_leaves_the_file_as_it_was(tmp_path: Path, error: OSError) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(NotWrittenError, match="cannot be written") as caught, written_whole(path) as place:
        place.write_text("half")
        raise error
    assert isinstance(caught.value, OSError) and caught.value.reason in str(error)
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["file"]


def test_an_error_of_another_kind_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "file") as place:
        place.write_text(str(1 // 0))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_line_that_does_not_fit_is_told(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    with pytest.raises(NotWrittenError, match="log' cannot be written: No space left on device"):
        add_entry(tmp_path / "log", ENTRIES)


def test_a_damaged_table_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "parts" / "one.parquet"
    made: list[int] = []

    def make() -> pd.DataFrame:
        made.append(1)
        return TABLE

    for damage in (lambda: None, lambda: None, lambda: path.write_bytes(b"PAR1")):
        damage()
        assert kept_table(path, make).equals(TABLE)
    assert len(made) == 2


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for number in range(2):
        with written_folder(tmp_path / "result") as place:
            (place / f"{number}.txt").write_text("")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["result", "result/1.txt"]


def test_a_folder_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    with written_folder(tmp_path / "result") as place:
        (place / "before.txt").write_text("")
    with pytest.raises(NotWrittenError), written_folder(tmp_path / "result") as place:
        (place / "after.txt").write_text("")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == ["result"] and os.listdir(tmp_path / "result") == ["before.txt"]


def test_a_folder_is_put_back_where_a_kill_fell_between_both_renames(tmp_path: Path) -> None:
    (tmp_path / ".result.old").mkdir()
    (tmp_path / ".result.partial").mkdir()
    put_back(tmp_path / "result")
    assert sorted(os.listdir(tmp_path)) == [".result.partial", "result"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RefamError("Give another."), "Give another."),
        (OSError(errno.EMFILE, "Too many open files", "a.png"), "'a.png' cannot be written or opened"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (KeyError("block"), None),
    ],
    ids=["ours", "files", "memory", "torch", "bug", "key"],
)
def test_commands_tell_what_is_not_a_bug_in_a_sentence(error: Exception, says: str | None) -> None:
    sentence = told(error)
    assert sentence is None if says is None else says in str(sentence)
