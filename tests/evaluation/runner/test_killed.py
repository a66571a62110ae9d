"""Runs that are killed by SIGKILL at twenty random moments lose what was in flight and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from refam_analysis.evaluation.runner import load_results

PROGRAM = Path(__file__).with_name("killed_runs.py")
TIMES, SCENES = 20, 4


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(PROGRAM), str(folder), str(SCENES), "0", str(TIMES)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def notes(killed: Path) -> pd.DataFrame:
    return pd.DataFrame([json.loads(line) for line in (killed / "killed.jsonl").read_text().splitlines()])


@pytest.mark.parametrize("number", range(TIMES))
def test_a_second_start_continues_to_the_identical_table(killed: Path, number: int) -> None:
    whole, again = (load_results(killed / name) for name in ("whole", str(number)))
    times = [name for name in whole.table if name.startswith("seconds_")]
    pd.testing.assert_frame_equal(again.table.drop(columns=times), whole.table.drop(columns=times), check_exact=True)
    assert again.missing == 0 and again.about["finished"]
    left = {path.name for path in (killed / str(number)).iterdir()}
    assert left == {".lock", "results.parquet", "run.json"}


def test_what_was_finished_before_the_kill_was_kept(notes: pd.DataFrame) -> None:
    assert len(notes) == TIMES
    for said, held in zip(notes["said"], notes["held"], strict=True):
        kept = [] if held is None else held
        assert set(said) <= set(kept)
        assert len(kept) <= len(said) + 1  # kept, and killed before it could say so


def test_the_moments_fell_into_the_runs(notes: pd.DataFrame, killed: Path) -> None:
    assert notes["killed"].mean() > 0.5
    groups = load_results(killed / "whole").table["group"].nunique()
    assert set(notes["said"].map(len)) == set(range(groups + 1))
