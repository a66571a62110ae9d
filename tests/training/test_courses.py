"""What each course of a training added: the models that courses ended with, each in the reading that suits it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from refam_analysis.errors import RefamError
from refam_analysis.evaluation import grounding_accuracy, hard_items
from refam_analysis.experiments import load_result
from refam_analysis.experiments.provenance import Result
from refam_analysis.models import load_model
from refam_analysis.segmentation import HeatmapSettings, default_settings
from refam_analysis.training.courses import CoursesTest, named_folder, run, side_by_side
from refam_analysis.training.export import export

TEST = CoursesTest(search=2, scenes=4, captions=2, exchanges=3)


@pytest.fixture(scope="module")
def courses(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("courses")
    models = {name: folder / name / "model" for name in ("first", "second")}
    for run_folder, model in zip(runs, models.values(), strict=True):
        export(run_folder, model, configuration="small")
    run(models, TEST, results=folder / "results")
    return models


@pytest.fixture(scope="module")
def found(courses: dict[str, Path]) -> Result:
    return load_result("courses", results=courses["first"].parents[1] / "results")


def test_every_course_is_measured(found: Result) -> None:
    assert {table["course"].unique().tolist() == ["first", "second"] for table in found.tables.values()} == {True}
    assert set(found.tables) == {"readings", "points", "drawing", "exchanges"}
    assert found.provenance.command == (
        "python -m refam_analysis.training.courses --model first=model --model second=model --search 2 --scenes 4 "
        "--captions 2 --exchanges 3 --seed 0"
    )
    digests = found.provenance.configuration["models"]
    assert digests["first"] != digests["second"]


def test_points_are_those_of_the_course_in_the_chosen_reading(courses: dict[str, Path], found: Result) -> None:
    model = load_model(courses["second"])
    chosen = HeatmapSettings.from_dict(json.loads(found["readings"].query("course == 'second'")["settings"].item()))
    assert default_settings(model) == chosen
    again = grounding_accuracy(model, hard_items("test", 4), chosen, sources=["model"]).summary()
    row = found["points"].query("course == 'second' and source == 'model' and kind == 'all'")
    assert row["target"].item() == pytest.approx(again["target"].item())


def test_models_stand_beside_each_other_with_their_intervals(courses: dict[str, Path], found: Result) -> None:
    of = {name: {table: rows[rows["course"] == name] for table, rows in found.tables.items()} for name in courses}
    words = side_by_side(of)
    assert list(words) == ["first", "second"]
    felt = of["first"]["exchanges"].query("noise_level == 0.85 and exchange == 'colour'").iloc[0]
    low, high = (float(end) for end in words.loc["loss: colour", "first"].split("[")[1].rstrip("]").split(","))
    assert (low, high) == pytest.approx((1000 * felt.growth_low, 1000 * felt.growth_high), abs=0.051)
    drawn = of["second"]["drawing"].set_index("measure")["share"]["shape as named"]
    assert float(words.loc["drawn: shape as named", "second"].split()[0]) == pytest.approx(drawn, abs=0.005)
    assert "points on the target" in words.index


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(RefamError, match="nowhere"):
        run({"first": tmp_path / "nowhere"}, TEST, results=tmp_path / "results")


@pytest.mark.parametrize("text", ["six", "=models/six", "six="])
def test_a_course_needs_a_name_and_a_folder(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="give its name and the folder"):
        named_folder(text)
