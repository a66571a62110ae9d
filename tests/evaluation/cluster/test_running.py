"""A run on two nodes: the table of one process, whatever happens to a node, a worker, or its memory."""

from __future__ import annotations

import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from references import small_datasets
from references.cluster import BROKEN, DEADLY, HEAVY, SETTINGS, load_greedy
from references.small_datasets import make_refcoco, refcoco_parts, reference, write_refcoco

from refam_analysis.evaluation.cluster import ClusterError, evaluate_on_cluster
from refam_analysis.evaluation.cluster.worker import Worker
from refam_analysis.evaluation.datasets import load_dataset
from refam_analysis.evaluation.runner import (
    GroupError,
    LoadedModels,
    OtherRunError,
    RunConfiguration,
    RunResults,
    carry_out,
    describe_models,
    evaluate,
    in_this_process,
    load_models,
    start_of,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """As workers have it: the rounding of products depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def loaded() -> LoadedModels:
    return load_models(RunConfiguration("scenes", "test", settings=SETTINGS))


def without_times(run: RunResults) -> pd.DataFrame:
    return run.table.drop(columns=[name for name in run.table if name.startswith("seconds_")])


def same_table(run: RunResults, other: RunResults) -> None:
    pd.testing.assert_frame_equal(without_times(run), without_times(other), check_exact=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_refcoco(tmp_path_factory.mktemp("release")).root


@pytest.fixture(scope="module")
def runs(
    cluster: Any, small: Path, loaded: LoadedModels, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunResults, RunResults]:
    """Of a folder in one process, and of the same by its address on the cluster."""
    out = tmp_path_factory.mktemp("runs")
    entries = {"dataset": "refcoco", "split": "val", "settings": SETTINGS}
    one = evaluate(RunConfiguration(root=str(small), **entries), out / "one", loaded=loaded)
    configuration = RunConfiguration(root=f"file://{small}", **entries)
    return one, evaluate_on_cluster(configuration, out / "cluster", address=cluster.address)


class TestReleaseThroughFsspec:
    def test_the_table_is_that_of_one_process(self, runs: tuple[RunResults, RunResults]) -> None:
        same_table(*runs)
        assert len(runs[1].table) == 7 and runs[1].missing == 0

    def test_the_run_is_described_as_that_of_one_process(self, runs: tuple[RunResults, RunResults]) -> None:
        one, cluster = (dict(run.about) for run in runs)
        for about in (one, cluster):
            assert about.pop("finished")
            (start,) = about.pop("starts")
        assert one == cluster
        assert (start["workers"], start["device"]) == (2, "cpu")

    def test_the_time_of_reading_ahead_is_noted(self, runs: tuple[RunResults, RunResults]) -> None:
        assert (runs[1].table["seconds_load"] > 0).all()

    def test_another_run_is_refused_before_workers_start(
        self, runs: tuple[RunResults, RunResults], small: Path
    ) -> None:
        configuration = RunConfiguration("refcoco", "val", root=str(small), settings=SETTINGS, seed=1)
        with pytest.raises(OtherRunError, match="seed was 0 and is 1"):
            evaluate_on_cluster(configuration, runs[1].folder, address="no cluster")


LADY, BAG, CUP, CAT, SNAKE = "the lady", f"{HEAVY} bag", f"{BROKEN} cup", "cat", f"{DEADLY} snake"
"""The first three of one image, the others of another."""


@pytest.fixture(scope="module")
def greedy(tmp_path_factory: pytest.TempPathFactory) -> RunConfiguration:
    root = tmp_path_factory.mktemp("greedy")
    _, instances, _ = refcoco_parts()
    refs = [
        reference(1, 11, 581857, "val", list(enumerate((LADY, BAG, CUP), start=1))),
        reference(2, 21, 98304, "val", list(enumerate((CAT, SNAKE), start=4))),
    ]
    write_refcoco(root, refs, instances)
    return RunConfiguration("refcoco", "val", root=str(root), settings=SETTINGS)


@pytest.fixture(scope="module")
def table(cluster: Any, greedy: RunConfiguration, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    out = tmp_path_factory.mktemp("run")
    run = evaluate_on_cluster(greedy, out, address=cluster.address, load=load_greedy, on_error="skip", workers=1)
    return run.table.set_index("text")


class TestShortOfMemory:
    """Expressions that take all memory, some of them the whole process."""

    def test_every_expression_has_one_row_in_its_order(self, table: pd.DataFrame) -> None:
        assert table.index.tolist() == [LADY, BAG, CUP, CAT, SNAKE]
        assert table["number"].tolist() == [0, 1, 2, 0, 1]

    def test_what_is_too_much_together_is_answered_alone(
        self, table: pd.DataFrame, greedy: RunConfiguration, loaded: LoadedModels, tmp_path: Path
    ) -> None:
        alone = evaluate(greedy, tmp_path, loaded=loaded).table.set_index("text")
        answered = [LADY, BAG, CAT]
        assert table.loc[answered, "error"].isna().all()
        columns = ["x", "y", "intersection", "union", "mask"]
        pd.testing.assert_frame_equal(table.loc[answered, columns], alone.loc[answered, columns])

    def test_what_is_too_much_alone_is_reported(self, table: pd.DataFrame) -> None:
        assert "MemoryError: Unable to allocate" in table.loc[CUP, "error"]
        assert "WorkerLostError: the worker died 2 times" in table.loc[SNAKE, "error"]
        assert table.loc[[CUP, SNAKE], "iou"].tolist() == [0.0, 0.0]

    def test_a_run_that_is_to_stop_names_the_item(self, cluster: Any, greedy: RunConfiguration, tmp_path: Path) -> None:
        with pytest.raises(GroupError, match=rf"^581857, expression '{CUP}': .*Unable to allocate"):
            evaluate_on_cluster(greedy, tmp_path, address=cluster.address, load=load_greedy, workers=1)


def test_models_that_cannot_be_loaded_are_named() -> None:
    configuration = RunConfiguration("scenes", "test", segmenter="/no/such/file.pth")
    with pytest.raises(ClusterError, match=r"cannot load the models.*/no/such/file\.pth"):
        Worker(load_models, configuration, None).load()


BOX = [small_datasets.polygon((3, 3, 20, 30))]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> RunConfiguration:
    """A release of 24 small pictures, one expression each."""
    root = tmp_path_factory.mktemp("many")
    numbers = range(1, 25)
    instances = {
        "images": [small_datasets.image_entry(number, (36, 24 + number)) for number in numbers],
        "annotations": [small_datasets.annotation(number, number, small_datasets.CAT, BOX) for number in numbers],
        "categories": small_datasets.CATEGORIES,
    }
    refs = [reference(number, number, number, "val", [(number, "the cat")]) for number in numbers]
    write_refcoco(root, refs, instances)
    return RunConfiguration("refcoco", "val", root=str(root), settings=SETTINGS)


def test_a_killed_node_loses_nothing_and_doubles_nothing(
    two_nodes: Any, many: RunConfiguration, loaded: LoadedModels, tmp_path: Path
) -> None:
    dataset, models = load_dataset("refcoco", "val", many.root), describe_models(loaded)
    start = start_of(many, loaded)

    def begin(tasks: Any) -> Any:
        return islice(in_this_process(loaded)(tasks), 4)

    begun = carry_out(many, dataset, tmp_path / "cluster", begin, models=models, start=start)
    assert begun.missing == 20
    killed_at: list[int] = []

    def kill() -> None:
        parts = tmp_path / "cluster" / "parts"
        while len(found := list(parts.glob("*.parquet"))) < 4:
            time.sleep(0.02)
        two_nodes.remove_node(next(iter(two_nodes.worker_nodes)), allow_graceful=False)
        killed_at.append(len(found))

    killer = threading.Thread(target=kill)
    killer.start()
    run = evaluate_on_cluster(many, tmp_path / "cluster", address=two_nodes.address)
    killer.join()
    assert 4 <= killed_at[0] < 20
    assert run.missing == 0 and run.about["finished"] and len(run.about["starts"]) == 2
    assert not run.table.duplicated("expression").any()
    same_table(run, evaluate(many, tmp_path / "one", loaded=loaded))
