"""Measures along trainings: every milestone of every run, on the same scenes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from refam_analysis.analysis.entropy import entropy_by_row
from refam_analysis.analysis.units import number_of_keys
from refam_analysis.evaluation.items import hard_items
from refam_analysis.evaluation.recordings import record_items
from refam_analysis.experiments import load_result
from refam_analysis.training.assembly import as_model
from refam_analysis.training.export import assemble
from refam_analysis.training.milestones import MilestonesTest, milestones, run

SIZE = 48  # of the trainings too
TEST = MilestonesTest(size=SIZE, scenes=4)


@pytest.fixture(scope="module")
def results(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout") / "results"
    run(runs, TEST, results=folder)
    return folder


def test_what_was_put_aside_and_the_newest_are_milestones(runs: list[Path]) -> None:
    assert milestones(runs[0]) == [1, 2, 3]


def test_every_milestone_of_every_run_is_measured(results: Path) -> None:
    found = load_result("milestones", results=results)
    for table in (found["profiles"], found["sinks"]):
        assert sorted(set(zip(table["run"], table["step"], strict=True))) == [
            (name, step) for name in ("seed-0", "seed-1") for step in range(4)
        ]
    assert found["profiles"].groupby(["run", "step", "measure"])["block"].nunique().eq(6).all()


@pytest.mark.parametrize("step", [2, 3])
def test_the_numbers_are_those_of_the_weights_of_that_step(runs: list[Path], results: Path, step: int) -> None:
    model = as_model(assemble(runs[1], "small", step=step if step < 3 else None), size=SIZE)
    items = hard_items("validation", TEST.scenes, objects=3, size=SIZE)
    recordings = record_items(model, items, keep=["entropy"])
    rows = [entropy_by_row(one).isel(branch=0).mean(["step", "head", "query"]) for one in recordings]
    expected = np.mean(rows, axis=0) / np.log(number_of_keys(recordings[0]))
    table = load_result("milestones", results=results)["profiles"]
    chosen = table[(table["run"] == "seed-1") & (table["step"] == step) & (table["measure"] == "row_entropy")]
    np.testing.assert_allclose(chosen.sort_values("block")["value"], expected, rtol=1e-5)


def test_steps_and_seeds_differ(results: Path) -> None:
    table = load_result("milestones", results=results)["profiles"]
    strength = table[table["measure"] == "sink_strength"].groupby(["run", "step"])["value"].sum()
    assert strength.nunique() == len(strength)


def test_the_same_runs_give_the_same_numbers(runs: list[Path], results: Path, tmp_path: Path) -> None:
    again = run(runs, TEST, results=tmp_path / "results")
    pd.testing.assert_frame_equal(again["sinks"], load_result("milestones", results=results)["sinks"])
    assert not list((tmp_path / ".cache").iterdir())


def test_runs_of_one_name_are_refused(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "elsewhere" / runs[0].name)
    with pytest.raises(ValueError, match="several are called 'seed-0'"):
        run([runs[0], tmp_path / "elsewhere" / runs[0].name], TEST, results=tmp_path / "results")


def test_a_folder_without_a_training_is_refused(tmp_path: Path, runs: list[Path]) -> None:
    shutil.copy(runs[0] / "dit-1.safetensors", tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint of a transformer"):
        milestones(tmp_path)


def test_the_learning_curves_of_every_run_are_beside_them(runs: list[Path], tmp_path: Path) -> None:
    folders = [Path(shutil.copytree(one, tmp_path / one.name)) for one in runs]
    for number, folder in enumerate(folders):
        with (folder / "log.jsonl").open("a") as log:
            log.write(f'{{"model": "dit", "step": 100, "samples": 200, "loss": 0.{number + 1}}}\n')
            log.write('{"model": "sam", "step": 100, "loss": 0.9}\n')
    table = run(folders, TEST, results=tmp_path / "results")["curves"]
    assert table[["run", "quantity", "step", "value"]].to_numpy().tolist() == [
        ["seed-0", "loss", 100, 0.1],
        ["seed-1", "loss", 100, 0.2],
    ]
