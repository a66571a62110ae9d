"""``refam evaluate`` and ``refam report``, as a new user types them, with tiny models."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
import typer
from references.commands import refam
from typer.testing import Result

from refam_analysis.cli import app
from refam_analysis.evaluation.runner import RunConfiguration, evaluate, load_results
from refam_analysis.files import read_json, write_json


@pytest.fixture(scope="module")
def run(tiny_flux_folder: Path, tiny_sam: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes without magnets, in a folder ``run``."""
    out = tmp_path_factory.mktemp("runs") / "run"
    done = start(tiny_flux_folder, tiny_sam, out, "--magnets", "")
    assert done.exit_code == 0, done.output
    return out


def start(model: Path, tiny_sam: Path, out: Path, *more: object) -> Result:
    return refam(
        "evaluate", "--dataset", "scenes", "--split", "validation", "--limit", 3, "--model", model,
        "--segmenter", tiny_sam, "--on-error", "skip", "--out", out, *more,
    )  # fmt: skip


def test_evaluate_writes_the_table_of_the_library_call(
    run: Path, tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path
) -> None:
    configuration = RunConfiguration(
        "scenes", "validation", model=str(tiny_flux_folder), segmenter=str(tiny_sam), magnets=(), limit=3
    )
    expected = evaluate(configuration, tmp_path / "again", on_error="skip").table
    times = [name for name in expected if name.startswith("seconds_")]
    pd.testing.assert_frame_equal(load_results(run).table.drop(columns=times), expected.drop(columns=times))


def test_the_commands_of_the_book_are_those_of_the_program() -> None:
    page = (Path(__file__).parents[2] / "book" / "running-benchmarks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    known = {command.name: {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
             for command in typer.main.get_command(app).commands.values()}  # fmt: skip
    assert len(lines) >= 4
    for program, command, *arguments in map(shlex.split, lines):
        assert program == "refam"
        assert {argument for argument in arguments if argument.startswith("--")} <= known[command]
    assert set(re.findall(r"`(--[a-z-]+)", page)) <= set.union(*known.values())


def test_every_option_is_an_entry_of_the_run(tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"noise_levels": [0.3], "normalisation": "map"}')
    done = start(
        tiny_flux_folder, tiny_sam, tmp_path / "run", "--magnets", ". a", "--np", "--no-sb", "--gas", "none",
        "--mask-choice", "agreement", "--batch-size", 2, "--settings", tmp_path / "settings.json", "--seed", 4,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    entries = {"magnets": [".", "a"], "noun_phrase": True, "spatial_bias": False, "gas": "none", "seed": 4, "limit": 3,
               "mask_choice": "agreement", "batch_size": 2}  # fmt: skip
    assert entries.items() <= about["configuration"].items()
    settings = {"noise_levels": [0.3], "normalisation": "map", "noun_phrase": True, "spatial_bias": 0.0}
    assert settings.items() <= about["settings"].items()


def test_evaluate_shows_the_score_and_the_time_left(run: Path, tiny_flux_folder: Path, tiny_sam: Path) -> None:
    done = start(tiny_flux_folder, tiny_sam, run, "--magnets", "")
    assert done.exit_code == 0, done.output
    assert "oIoU" in done.stderr and "expressions" in done.stderr
    assert "measured" in done.stdout and "3 images" in done.stdout


def test_another_configuration_in_the_same_folder_is_one_sentence(
    run: Path, tiny_flux_folder: Path, tiny_sam: Path
) -> None:
    done = start(tiny_flux_folder, tiny_sam, run, "--magnets", ".")
    assert done.exit_code == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: ") and "configuration.magnets was [] and is ['.']" in line


@pytest.mark.parametrize("text", ["{", "[]", '{"noise": 1}'], ids=["cut", "list", "unknown"])
def test_settings_that_mean_nothing_are_one_sentence(
    tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path, text: str
) -> None:
    (tmp_path / "settings.json").write_text(text)
    done = start(tiny_flux_folder, tiny_sam, tmp_path / "run", "--settings", tmp_path / "settings.json")
    assert done.exit_code == 1 and done.stderr.startswith("Error: ") and not (tmp_path / "run").exists()


def test_report_prints_draws_and_shows(run: Path, tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"  # of the same name
    assert start(tiny_flux_folder, tiny_sam, other, "--magnets", "", "--seed", 1).exit_code == 0
    done = refam("report", run, other, "--out", tmp_path / "report", "--gallery", 2)
    assert done.exit_code == 0, done.output
    assert "measured" in done.stdout and "Slices of" in done.stdout and "Differences" in done.stdout
    assert "configuration.seed 0 -> 1" in done.stdout
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"scores.csv", "differences.csv", "differences.png", "scores-scenes-validation.png"} <= names
    assert len([name for name in names if name.startswith("gallery-")]) == 2
    scores = pd.read_csv(tmp_path / "report" / "scores.csv")
    assert scores["run"].nunique() == 2 and set(scores["origin"]) == {"measured"}


def test_report_of_one_run_lies_in_its_folder(run: Path) -> None:
    done = refam("report", run, "--gallery", 0)
    assert done.exit_code == 0, done.output
    names = {path.name for path in (run / "report").iterdir()}
    assert names == {"scores.csv", "scores-scenes-validation.png", "slices-run.csv", "slices-run.png"}


def test_report_of_what_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    done = refam("report", tmp_path)
    assert done.exit_code == 1 and done.stderr.startswith("Error: There is no run")


def test_a_report_without_the_pictures_has_its_tables(run: Path, tmp_path: Path) -> None:
    about = read_json(run / "run.json")
    about["configuration"] |= {"dataset": "refcoco", "split": "val"}
    write_json(tmp_path / "run.json", about)
    shutil.copy(run / "results.parquet", tmp_path)
    done = refam("report", tmp_path, "--out", tmp_path / "report")
    assert done.exit_code == 0, done.output
    assert "No gallery" in done.stderr and "RefCOCO" in done.stderr
    assert not list((tmp_path / "report").glob("*.html"))
