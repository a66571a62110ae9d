"""Where words point at several steps of a training: the weights of each, in the reading that was searched for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refam_analysis.evaluation import grounding_accuracy, hard_items
from refam_analysis.experiments import load_result
from refam_analysis.models import load_model
from refam_analysis.segmentation import HeatmapSettings, default_settings
from refam_analysis.training.pointing import PointingTest, run

TEST = PointingTest((1, 2), search=2, scenes=4, captions=2, exchanges=3)


@pytest.fixture(scope="module")
def results(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout") / "results"
    run(runs[0], TEST, results=folder)
    return folder


def test_every_step_is_measured(results: Path) -> None:
    found = load_result("pointing", results=results)
    assert {name: table["step"].unique().tolist() for name, table in found.tables.items()} == {
        "readings": [1, 2], "points": [1, 2], "drawing": [1, 2], "exchanges": [1, 2],
    }  # fmt: skip
    assert found.provenance.command == (
        "python -m refam_analysis.training.pointing --run seed-0 --step 1 --step 2 --configuration small --search 2 "
        "--scenes 4 --captions 2 --exchanges 3 --seed 0"
    )
    assert {f"seed-0/dit-{step}.safetensors" for step in TEST.milestones} <= set(
        found.provenance.configuration["checkpoints"]
    )


def test_points_are_those_of_the_weights_of_the_step_in_the_chosen_reading(runs: list[Path], results: Path) -> None:
    found, model = load_result("pointing", results=results), load_model(runs[0] / "model-2")
    chosen = HeatmapSettings.from_dict(json.loads(found["readings"].query("step == 2")["settings"].item()))
    assert default_settings(model) == chosen
    again = grounding_accuracy(model, hard_items("test", 4), chosen, sources=["model"]).summary()
    row = found["points"].query("step == 2 and source == 'model' and kind == 'all'")
    assert row["target"].item() == pytest.approx(again["target"].item())


def test_steps_that_were_not_put_aside_are_named(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights of step 7: train with --keep 7"):
        run(runs[1], PointingTest((7,), search=2, scenes=2, captions=1, exchanges=1), results=tmp_path)
