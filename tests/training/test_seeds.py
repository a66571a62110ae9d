"""Findings over trainings: every run is judged by its own weights, and by the rules of the ledger."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import refam_analysis as ra
from refam_analysis.experiments import load_result
from refam_analysis.experiments.claims import ledger
from refam_analysis.experiments.provenance import Result
from refam_analysis.experiments.settings import SettingsSearch
from refam_analysis.segmentation import HeatmapSettings, default_settings
from refam_analysis.training.seeds import SeedsTest, run

SEARCH = SettingsSearch(items=2, noise_levels=(0.6,), longest_run=1, seeds=(1,), heads=1, strengths=(1.0,))
TEST = SeedsTest(scenes=3, search=SEARCH)


@pytest.fixture(scope="module")
def copies(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of the trainings, for they are exported in their folders."""
    root = tmp_path_factory.mktemp("seeds")
    return [Path(shutil.copytree(one, root / one.name)) for one in runs]


@pytest.fixture(scope="module")
def result(copies: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Result:
    results = tmp_path_factory.mktemp("checkout") / "results"
    run(copies, TEST, results=results)
    assert not list((results.parent / ".cache").iterdir())
    return load_result("seeds", results=results)


def of(result: Result, table: str, run: Path) -> pd.DataFrame:
    rows = result[table]
    return rows[rows["run"] == run.name].drop(columns="run").reset_index(drop=True)


@pytest.mark.parametrize("number", [0, 1])
def test_every_run_is_measured_with_its_own_weights(result: Result, copies: list[Path], number: int) -> None:
    model = ra.load_model(copies[number] / "model")
    again = ledger.run(ledger.LedgerRun(model=str(copies[number] / "model"), scenes=3), out=copies[number] / "again")
    pd.testing.assert_frame_equal(of(result, "scenes", copies[number]), again["scenes"])
    pd.testing.assert_frame_equal(of(result, "ledger", copies[number]), again["ledger"])
    digests = again.provenance.configuration["folder"]
    assert "model/refam.json" in digests and "model/transformer/diffusion_pytorch_model.safetensors" in digests
    reading = of(result, "readings", copies[number])["settings"].item()
    assert HeatmapSettings.from_dict(json.loads(reading)) == default_settings(model)


def test_runs_differ(result: Result, copies: list[Path]) -> None:
    first, second = (of(result, "scenes", one) for one in copies)
    assert first["scene"].tolist() == second["scene"].tolist()
    assert (first["c9_falls"] != second["c9_falls"]).all()


def test_the_result_says_which_trainings_it_is_of(result: Result, copies: list[Path]) -> None:
    about = result.provenance.configuration
    assert about["runs"] == ["seed-0", "seed-1"] and about["steps"] == {"seed-0": 3, "seed-1": 3}
    assert set(about["checkpoints"]) >= {f"{one.name}/dit{step}.safetensors" for one in copies for step in ("", "-1")}
    assert result.provenance.command == (
        "python -m refam_analysis.training.seeds --run seed-0 --run seed-1 --configuration small --scenes 3 "
        "--search 2 --seed 0"
    )


def test_a_run_that_is_measured_is_not_measured_again(result: Result, copies: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "seed-2"
    shutil.copytree(copies[1], broken)
    shutil.rmtree(broken / "vae")  # the export fails, after the first run was measured
    with pytest.raises(OSError, match="vae"):
        run([copies[0], broken], TEST, results=tmp_path / "results")
    shutil.copytree(copies[1] / "vae", broken / "vae")
    shutil.rmtree(copies[0] / "model")
    assert of(run([copies[0], broken], TEST, results=tmp_path / "results"), "ledger", copies[0]).equals(
        of(result, "ledger", copies[0])
    )
    assert not (copies[0] / "model").exists()
