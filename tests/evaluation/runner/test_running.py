"""Whole runs with tiny models: the table, going on, other ways of running, the score on the bar."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pytest

from refam_analysis.evaluation.datasets import ReferringDataset
from refam_analysis.evaluation.datasets.problems import Problem
from refam_analysis.evaluation.runner import (
    GroupError,
    GroupTask,
    LoadedModels,
    OtherRunError,
    RunConfiguration,
    carry_out,
    describe_models,
    evaluate,
    evaluate_group,
    in_this_process,
    load_results,
    start_of,
)
from refam_analysis.evaluation.runner.rows import Row
from refam_analysis.evaluation.runner.running import RunningScore

CONFIGURATION = RunConfiguration("scenes", "test", magnets=(".",), limit=4)


def comparable(table: pd.DataFrame) -> pd.DataFrame:
    """Without what is another in every run: times."""
    return table.drop(columns=[name for name in table if name.startswith("seconds_")])


@pytest.fixture(scope="module")
def dataset(image: Callable) -> ReferringDataset:
    items = (image(0, "blue", "a ring"), image(1, "left"), image(2, "the of", "red"), image(3, "a square"))
    return ReferringDataset("scenes", "test", items, 6, video=False, empty="right")


@pytest.fixture
def run(dataset: ReferringDataset, loaded: LoadedModels) -> Callable:
    """``run(folder, way=None, **options)``: over the small data set."""

    def start(folder: Path, way: Callable | None = None, **options: object) -> object:
        options = {"on_error": "skip", "models": describe_models(loaded), "start": {"root": None}, **options}
        data = options.pop("dataset", dataset)
        configuration = options.pop("configuration", CONFIGURATION)
        return carry_out(configuration, data, folder, way or in_this_process(loaded), **options)

    return start


def test_a_run_has_a_row_an_expression(run: Callable, tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.table["text"].tolist() == ["blue", "a ring", "left", "the of", "red", "a square"]
    assert result.table["error"].notna().tolist() == [False, False, False, True, False, False]
    assert result.missing == 0 and result.about["finished"]


def test_the_order_of_the_work_does_not_matter(
    run: Callable, dataset: ReferringDataset, loaded: LoadedModels, tmp_path: Path
) -> None:
    def backwards(tasks: Iterable[GroupTask]) -> Iterable[list[Row]]:
        return [evaluate_group(task, loaded) for task in reversed(list(tasks))]

    pd.testing.assert_frame_equal(
        comparable(run(tmp_path / "a").table), comparable(run(tmp_path / "b", backwards).table)
    )


def test_a_run_that_stopped_goes_on_to_the_same_table(run: Callable, loaded: LoadedModels, tmp_path: Path) -> None:
    def only_two(tasks: Iterable[GroupTask]) -> Iterable[list[Row]]:
        for task, _ in zip(tasks, range(2), strict=False):
            yield evaluate_group(task, loaded)

    assert run(tmp_path / "b", only_two).missing == 2
    asked: list[int] = []

    def rest(tasks: Iterable[GroupTask]) -> Iterable[list[Row]]:
        for task in tasks:
            asked.append(task.group)
            yield evaluate_group(task, loaded)

    result = run(tmp_path / "b", rest)
    assert asked == [2, 3]
    pd.testing.assert_frame_equal(comparable(result.table), comparable(run(tmp_path / "a").table))


def test_a_finished_run_asks_nothing_but_what_failed(run: Callable, tmp_path: Path) -> None:
    run(tmp_path)
    asked: list[int] = []
    run(tmp_path, lambda tasks: asked.extend(task.group for task in tasks) or ())
    assert asked == [2]


def test_an_error_stops_the_run_and_keeps_what_is_finished(run: Callable, tmp_path: Path) -> None:
    with pytest.raises(GroupError, match="image-2, expression 'the of'"):
        run(tmp_path, on_error="stop")
    assert load_results(tmp_path).table["group"].unique().tolist() == [0, 1]


@pytest.mark.parametrize("entry", ["seed", "magnets", "mask_choice", "batch_size", "noun_phrase", "split"])
def test_another_configuration_is_refused_by_name(run: Callable, tmp_path: Path, entry: str) -> None:
    run(tmp_path)
    values = {"seed": 1, "magnets": (), "mask_choice": "agreement", "batch_size": 2, "noun_phrase": True, "split": "x"}
    with pytest.raises(OtherRunError, match=rf"configuration\.{entry} was"):
        run(tmp_path, configuration=dataclasses.replace(CONFIGURATION, **{entry: values[entry]}))


def test_other_settings_or_weights_are_refused_by_name(run: Callable, loaded: LoadedModels, tmp_path: Path) -> None:
    run(tmp_path)
    described = describe_models(loaded)
    for room, entry in (("settings", "noise_levels"), ("model", "weights"), ("versions", "torch")):
        other = {**described, room: {**described[room], entry: "other"}}
        with pytest.raises(OtherRunError, match=rf"{room}\.{entry} was"):
            run(tmp_path, models=other)


def test_what_the_reader_left_out_is_listed(run: Callable, dataset: ReferringDataset, tmp_path: Path) -> None:
    result = run(tmp_path, dataset=dataclasses.replace(dataset, problems=(Problem("a.json", "ref 1", "it is cut"),)))
    assert result.about["problems"] == ["a.json, ref 1: it is cut"] and result.about["data"]["left_out"] == 1


def test_the_models_are_described_by_their_weights(loaded: LoadedModels) -> None:
    described = describe_models(loaded)
    assert json.loads(json.dumps(described)) == described
    assert len(described["model"]["weights"]) == len(described["segmenter"]["weights"]) == 64
    assert described["model"]["weights"] != described["segmenter"]["weights"]
    assert {"torch", "diffusers", "numpy", "refam-analysis"} <= set(described["versions"])


def test_a_start_says_when_and_where(loaded: LoadedModels) -> None:
    start = start_of(dataclasses.replace(CONFIGURATION, root="/data"), loaded)
    assert start["root"] == "/data" and start["device"] == "cpu" and start["date"].endswith("+00:00")


def test_evaluate_runs_over_a_data_set_by_name(loaded: LoadedModels, tmp_path: Path) -> None:
    configuration = RunConfiguration("scenes", "validation", magnets=(), limit=2)
    result = evaluate(configuration, tmp_path, loaded=loaded, on_error="skip")
    assert result.table["item"].unique().tolist() == ["scene-000000", "scene-000001"]
    assert {"fact_words", "fact_target_area", "fact_distractors"} <= set(result.table)
    assert result.about["data"]["expressions"] == len(result.table)


# The bar


def test_the_score_so_far_is_that_of_the_rows() -> None:
    score = RunningScore(video=False)
    score.add([{"intersection": 3, "union": 4, "iou": 0.75, "on_target": 1.0, "error": None}])
    score.add([{"intersection": 0, "union": 6, "iou": 0.0, "on_target": None, "error": "no words"}])
    assert str(score) == "oIoU 0.300, mIoU 0.375, on target 1.000, 1 failed"


def test_the_bar_shows_the_score_and_what_was_done_before(
    run: Callable, loaded: LoadedModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def one(tasks: Iterable[GroupTask]) -> Iterable[list[Row]]:
        yield evaluate_group(next(iter(tasks)), loaded)

    run(tmp_path, one)
    capsys.readouterr()
    run(tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert "2/6" in shown and "6/6" in shown and "oIoU" in shown and "1 failed" in shown
