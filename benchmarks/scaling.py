"""How a run grows with its workers: ``python -m benchmarks.scaling`` measures it and writes ``results/scaling``.

The same scenes are answered by a bare loop, by the runner in one process, and by the runner on a Ray cluster of this
machine with one worker and with two, each of one thread; in interleaved rounds, models loaded before. On two cores it
takes some minutes and wants the machine for itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer

from benchmarks.measure import interleaved, median_interval, ratios
from refam_analysis.evaluation.cluster.connecting import connected, room
from refam_analysis.evaluation.cluster.workers import Workers
from refam_analysis.evaluation.datasets import ReferringDataset, load_dataset
from refam_analysis.evaluation.runner import (
    GroupTask,
    LoadedModels,
    RunConfiguration,
    Way,
    carry_out,
    describe_models,
    evaluate_group,
    in_this_process,
    load_models,
    start_of,
)
from refam_analysis.evaluation.runner.store import TABLE
from refam_analysis.experiments.provenance import RESULTS, Stopwatch, weights_sha256, write_result
from refam_analysis.weights import embedded_folder

NAME = "scaling"
BARE, RUNNER, ONE, TWO = "bare loop", "runner, one process", "runner, Ray, 1 worker", "runner, Ray, 2 workers"

app = typer.Typer(add_completion=False)


def run(scenes: int = 48, rounds: int = 7, *, results: Path = RESULTS) -> pd.DataFrame:
    """Measure and write.

    Args:
        scenes: of the test split.
        rounds: that count.
        results: the folder of all results.

    Returns:
        The table ``summary``: a row a way, with median ``seconds``, ``ratio`` to the bare loop with its interval, and
        ``speedup`` over one worker, ``seconds_an_expression`` and ``bytes_a_row``.
    """
    watch = Stopwatch()
    torch.set_num_threads(1)
    configuration = RunConfiguration("scenes", "test", limit=scenes)
    dataset, loaded = load_dataset("scenes", "test", limit=scenes), load_models(configuration)
    with ExitStack() as stack:
        os.environ["RAY_worker_niceness"] = "0"  # as the loop that they are compared with
        stack.enter_context(connected("local"))
        ways: dict[str, Way] = {RUNNER: in_this_process(loaded)}
        ways |= {name: _workers(stack, configuration, number) for name, number in ((ONE, 1), (TWO, 2))}
        works: dict[str, Callable[[], object]] = {BARE: lambda: _bare(configuration, dataset, loaded)}
        sizes: list[float] = []
        for name, way in ways.items():
            works[name] = lambda way=way: sizes.append(_carried_out(configuration, dataset, loaded, way))  # type: ignore[misc]
        times = interleaved(works, rounds=rounds)
    summary = ratios(times, against=BARE).assign(scenes=scenes, expressions=dataset.expressions)
    summary = summary.merge(_speedups(times), on="name", how="left")
    summary["seconds_an_expression"] = summary["seconds"] / dataset.expressions
    summary["bytes_a_row"] = float(np.median(sizes))
    weights = weights_sha256(embedded_folder("embedded-dit"), also=["refam.json"])
    weights |= weights_sha256(embedded_folder("embedded-sam"))
    provenance = watch.provenance(
        f"python -m benchmarks.scaling --scenes {scenes} --rounds {rounds}",
        {"scenes": scenes, "rounds": rounds, "threads": 1, **configuration.entries()}, weights,
    )  # fmt: skip
    write_result(NAME, {"times": times, "summary": summary}, provenance, results=results)
    return summary


def _workers(stack: ExitStack, configuration: RunConfiguration, number: int) -> Way:
    """That many workers, ready; all that are here together share two processors, of which only some are at work."""
    one = room(1)
    half = {name: share / 2 for name, share in one.resources.items()}
    size = type(one)(number, half, one.threads)
    return stack.enter_context(Workers(configuration, size, load=load_models)).answer


def _tasks(configuration: RunConfiguration, dataset: ReferringDataset) -> list[GroupTask]:
    return [GroupTask(group, item, configuration, dataset.empty) for group, item in enumerate(dataset)]


def _bare(configuration: RunConfiguration, dataset: ReferringDataset, loaded: LoadedModels) -> object:
    return [evaluate_group(task, loaded) for task in _tasks(configuration, dataset)]


def _carried_out(configuration: RunConfiguration, dataset: ReferringDataset, loaded: LoadedModels, way: Way) -> float:
    """A whole run into a new folder; the bytes a row of what it leaves."""
    with tempfile.TemporaryDirectory() as folder:
        done = carry_out(
            configuration, dataset, Path(folder) / "run", way, models=describe_models(loaded),
            start=start_of(configuration, loaded),
        )  # fmt: skip
        if done.missing:
            raise RuntimeError(f"{done.missing} images have no rows, so the time is not that of a whole run.")
        return (done.folder / TABLE).stat().st_size / len(done.table)


def _speedups(times: pd.DataFrame) -> pd.DataFrame:
    """How many times as fast as one worker the two are, round by round: median and interval."""
    wide = times.pivot(index="round", columns="name", values="seconds")
    speedup, low, high = median_interval(wide[ONE] / wide[TWO])
    return pd.DataFrame([{"name": TWO, "speedup": speedup, "speedup_low": low, "speedup_high": high}])


@app.command()
def main(
    scenes: Annotated[int, typer.Option(help="Of the test split.")] = 48,
    rounds: Annotated[int, typer.Option(help="That count.")] = 7,
    results: Annotated[Path, typer.Option(help="The folder of all results.")] = RESULTS,
) -> None:
    """Measure how a run grows with its workers."""
    print(run(scenes, rounds, results=results).round(3).to_string(index=False))


if __name__ == "__main__":
    app()
