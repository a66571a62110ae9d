"""A benchmark from its first image to its last, with progress, in one process or in any other way that yields rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from refam_analysis.evaluation.datasets import load_dataset
from refam_analysis.evaluation.datasets.base import ReferringDataset
from refam_analysis.evaluation.runner.configuration import RunConfiguration
from refam_analysis.evaluation.runner.description import describe_models, identity_of, start_of
from refam_analysis.evaluation.runner.groups import GroupTask, LoadedModels, OnError, evaluate_group, load_models
from refam_analysis.evaluation.runner.rows import Row
from refam_analysis.evaluation.runner.store import RunResults, RunStore, load_results, refuse_other_run

Way = Callable[[Iterable[GroupTask]], Iterable[list[Row]]]
"""How tasks are carried out: takes them one by one, yields the rows of each as they come, in any order."""


def evaluate(
    configuration: RunConfiguration,
    out: str | Path,
    *,
    on_error: OnError = "stop",
    loaded: LoadedModels | None = None,
    progress: bool = False,
) -> RunResults:
    """Measure a model on a data set, in this process; a run that was stopped goes on.

    Args:
        configuration: what is measured.
        out: folder of the results: new, or of the same run.
        on_error: whether an expression that cannot be answered, or an item that cannot be read, ends the run, or is
            listed.
        loaded: the models of the configuration, where they are loaded already.
        progress: show a bar with the score so far and the time left.

    Returns:
        The rows of the whole run, also those of earlier starts.

    Raises:
        refam_analysis.evaluation.runner.store.OtherRunError: the folder holds another run.
        GroupError: an expression failed, and the run stops there.
        RefamError: the data set or the models cannot be used.

    >>> evaluate(RunConfiguration("scenes", "test", limit=0), "new")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    RunConfigurationError: limit=0 leaves nothing to measure: give 1 or more, or none.
    """
    dataset = dataset_of(configuration, Path(out), on_error=on_error)
    models = loaded or load_models(configuration)
    return carry_out(
        configuration, dataset, Path(out), in_this_process(models), models=describe_models(models),
        start=start_of(configuration, models), on_error=on_error, progress=progress,
    )  # fmt: skip


def dataset_of(configuration: RunConfiguration, out: Path, *, on_error: OnError) -> ReferringDataset:
    """The data set of a run, where its rows may lie in this folder; both are known before any model is loaded.

    Args:
        configuration: what is measured.
        out: folder of the results.
        on_error: as for :func:`evaluate`.

    Raises:
        DatasetError: the data set cannot be read.
        OtherRunError: the folder holds another run.
        RunFolderError: it holds something else.
    """
    dataset = load_dataset(
        configuration.dataset, configuration.split, configuration.root, limit=configuration.limit,
        on_error="raise" if on_error == "stop" else "skip",
    )  # fmt: skip
    refuse_other_run(out, identity_of(configuration, dataset))
    return dataset


def in_this_process(loaded: LoadedModels) -> Way:
    """One task after the other."""
    return lambda tasks: (evaluate_group(task, loaded) for task in tasks)


def carry_out(
    configuration: RunConfiguration,
    dataset: ReferringDataset,
    out: Path,
    way: Way,
    *,
    models: Mapping[str, Any],
    start: Mapping[str, Any],
    on_error: OnError = "stop",
    progress: bool = False,
) -> RunResults:
    """What every way of running has in common: what is to be done, what is kept, what is shown.

    Args:
        configuration: what is measured.
        dataset: as it was read.
        out: folder of the results.
        way: carries out the tasks. It may take several before it yields rows; a task whose rows it never yields is
            done at the next start.
        models: from :func:`~refam_analysis.evaluation.runner.description.describe_models`.
        start: from :func:`~refam_analysis.evaluation.runner.description.start_of`.
        on_error: as for :func:`evaluate`.
        progress: show a bar.

    Returns:
        The rows of the whole run, also those of earlier starts.

    Raises:
        OtherRunError: the folder holds another run.
        RunFolderError: it holds something else, or another process is writing into it.
    """
    identity = {**identity_of(configuration, dataset), **models}
    with RunStore(out, identity, start=start, problems=[str(problem) for problem in dataset.problems]) as store:
        pending = store.pending(len(dataset))
        tasks = _tasks(dataset, pending, configuration, on_error)
        score = RunningScore(dataset.video)
        waiting = set(pending)
        finished = store.table.to_pandas()
        score.add(finished[~finished["group"].isin(waiting)].to_dict("records"))
        with _bar(dataset, score, progress) as bar:
            for rows in way(tasks) if pending else ():
                store.write(rows)
                score.add(rows)
                bar.set_postfix_str(str(score), refresh=False)
                bar.update(len(rows))
                waiting.discard(rows[0]["group"])
        if not waiting:
            store.finish()
    return load_results(out)


class RunningScore:
    """The score so far, for the bar.

    >>> score = RunningScore(video=False)
    >>> score.add([{"intersection": 1, "union": 2, "iou": 0.5, "on_target": 1.0, "error": None}])
    >>> str(score)
    'oIoU 0.500, mIoU 0.500, on target 1.000'
    """

    def __init__(self, video: bool) -> None:
        self.video = video
        self.rows = self.failed = 0
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count finished rows."""
        for row in rows:
            self.rows += 1
            self.failed += not pd.isna(row["error"])
            for name in ("intersection", "union", "iou", "on_target", "j", "f"):
                value = row.get(name)
                if value is not None and not pd.isna(value):
                    self.sums[name] = self.sums.get(name, 0.0) + float(value)
                    self.counts[name] = self.counts.get(name, 0) + 1

    def __str__(self) -> str:
        if self.video:
            named = {"J": self._mean("j"), "F": self._mean("f"), "on target": self._mean("on_target")}
        else:
            union = self.sums.get("union", 0.0)
            overall = self.sums.get("intersection", 0.0) / union if union else float("nan")
            named = {"oIoU": overall, "mIoU": self._mean("iou"), "on target": self._mean("on_target")}
        text = ", ".join(f"{name} {value:.3f}" for name, value in named.items())
        return f"{text}, {self.failed} failed" if self.failed else text

    def _mean(self, name: str) -> float:
        return self.sums[name] / self.counts[name] if self.counts.get(name) else float("nan")


def _tasks(
    dataset: ReferringDataset, pending: list[int], configuration: RunConfiguration, on_error: OnError
) -> Iterator[GroupTask]:
    for group in pending:
        yield GroupTask(group, dataset[group], configuration, dataset.empty, on_error)


def _bar(dataset: ReferringDataset, score: RunningScore, progress: bool) -> Any:
    """In a terminal twice a second; in a log a line every half minute."""
    return tqdm(
        total=dataset.expressions, initial=score.rows, desc=f"{dataset.name} {dataset.split}", unit=" expressions",
        disable=not progress, mininterval=0.5 if sys.stderr.isatty() else 30.0,
        postfix=str(score) if score.rows else "",
    )  # fmt: skip
