"""The survey of a model's sinks: the tables of direct calls, from the command line too."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from families import pixart
from families.running import loaded
from typer.testing import CliRunner

from refam_analysis.analysis import detect_sinks, key_importance
from refam_analysis.cli import app
from refam_analysis.evaluation import hard_items, record_items
from refam_analysis.experiments.sink_survey import SinkSurvey, survey_sinks
from refam_analysis.models import load_model

KEEP = ["entropy", *(f"{what}_from_{side}" for what in ("received", "uniformity") for side in ("text", "image"))]


@pytest.fixture(scope="module")
def survey() -> SinkSurvey:
    return survey_sinks(load_model("embedded"), scenes=3, noise_level=0.5, reference="all", batch_size=2, seed=4)


def test_tables_are_those_of_direct_calls(survey: SinkSurvey) -> None:
    items = hard_items("validation", 3)
    recordings = record_items(load_model("embedded"), items, keep=KEEP, noise_level=0.5, seed=4)
    expected = detect_sinks(recordings, reference="all", seed=4)
    pd.testing.assert_frame_equal(survey.sinks, expected, rtol=1e-3, atol=1e-4)
    pd.testing.assert_frame_equal(survey.importance, key_importance(recordings, seed=4), rtol=1e-3)


def test_where_no_role_is_called_the_nearest_common_ones_are_shown(survey: SinkSurvey) -> None:
    assert not survey.sinks["is_sink"].any()  # three scenes are too few
    shown = survey.strongest(5)
    assert len(shown) == 5
    assert shown["effect"].is_monotonic_decreasing
    assert shown["scenes"].min() >= 2


def test_what_is_called_is_shown_alone(survey: SinkSurvey) -> None:
    called = survey.sinks.assign(is_sink=survey.sinks["role"] == "</s>")
    shown = SinkSurvey(survey.model, called, survey.importance).strongest()
    assert set(shown["role"]) == {"</s>"} and len(shown) == survey.sinks["block"].nunique()


def test_the_command_prints_both_and_writes_every_row(tiny_flux_folder: Path, tmp_path: Path) -> None:
    arguments = ["sinks", "--model", str(tiny_flux_folder), "--scenes", "2", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    direct = survey_sinks(load_model(tiny_flux_folder), scenes=2)
    assert direct.summary() in result.stdout
    assert "peak sink-to-random key-importance ratio" in direct.summary()
    written = pd.read_csv(tmp_path / "out" / "sinks.csv", keep_default_na=False)
    assert written["role"].tolist() == direct.sinks["role"].tolist()
    assert len(pd.read_csv(tmp_path / "out" / "key-importance.csv")) == direct.importance["block"].nunique()


def test_a_model_without_text_queries_is_surveyed_from_its_image_queries(tmp_path: Path) -> None:
    survey = survey_sinks(loaded(pixart.CASE, tmp_path), scenes=2)
    assert survey.sinks["one_sided"].all()
    assert survey.sinks["row_evenness"].isna().all()
