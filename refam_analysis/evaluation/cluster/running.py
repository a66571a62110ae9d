"""A benchmark on a Ray cluster: the runner's own way from a data set to a folder of rows, with workers for hands."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from refam_analysis.evaluation.cluster.connecting import connected, room
from refam_analysis.evaluation.cluster.worker import Load
from refam_analysis.evaluation.cluster.workers import Workers
from refam_analysis.evaluation.runner.configuration import RunConfiguration
from refam_analysis.evaluation.runner.description import start_of
from refam_analysis.evaluation.runner.groups import OnError, load_models
from refam_analysis.evaluation.runner.running import carry_out, dataset_of
from refam_analysis.evaluation.runner.store import RunResults


def evaluate_on_cluster(
    configuration: RunConfiguration,
    out: str | Path,
    *,
    address: str,
    workers: int | None = None,
    load: Load = load_models,
    on_error: OnError = "stop",
    progress: bool = False,
) -> RunResults:
    """Measure a model on a data set, on a Ray cluster; a run that was stopped goes on, wherever it was started.

    Each GPU has a worker that holds the models; where there is no GPU, each processor has one, of one thread. The
    folder is written on this machine, and is that of :func:`~refam_analysis.evaluation.runner.running.evaluate`.

    Args:
        configuration: what is measured. Folders and files that it names must be at the same place on every machine, or
            be addresses that fsspec knows.
        out: folder of the results: new, or of the same run.
        address: "auto" for the cluster that this machine belongs to, "host:port" of its head, or "local".
        workers: at most so many; None for all that there is room for.
        load: loads the models on a worker's machine; a function that Ray can send there.
        on_error: as for :func:`~refam_analysis.evaluation.runner.running.evaluate`. An expression over which workers
            die, for want of memory or otherwise, is one that cannot be answered.
        progress: show a bar with the score so far and the time left.

    Returns:
        The rows of the whole run, also those of earlier starts.

    Raises:
        NoRayError: Ray is not installed.
        ClusterError: the cluster cannot be used, or its workers cannot.
        OtherRunError: the folder holds another run.
        GroupError: an expression failed, and the run stops there.

    >>> evaluate_on_cluster(
    ...     RunConfiguration("scenes", "test", limit=0), "new", address="auto"
    ... )  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    RunConfigurationError: limit=0 leaves nothing to measure: give 1 or more, or none.
    """
    if configuration.root is not None and "://" not in configuration.root:
        configuration = replace(configuration, root=os.path.abspath(configuration.root))
    dataset = dataset_of(configuration, Path(out), on_error=on_error)
    with connected(address), Workers(configuration, room(workers), load=load) as hands:
        return carry_out(
            configuration, dataset, Path(out), hands.answer, models=hands.description,
            start=start_of(configuration, None) | hands.noted, on_error=on_error, progress=progress,
        )  # fmt: skip
