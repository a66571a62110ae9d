"""Runs that are killed by SIGKILL at given moments, and finished by a second start.

    python killed_runs.py FOLDER LIMIT SEED TIMES

One process loads the embedded models and forks for every run. ``FOLDER/whole`` is never killed; ``FOLDER/<i>`` is
killed once, then ``FOLDER/killed.jsonl`` notes what had been finished by then and what the folder held, then it is
finished.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from refam_analysis.evaluation.datasets import load_dataset
from refam_analysis.evaluation.runner import (
    GroupTask,
    LoadedModels,
    RunConfiguration,
    carry_out,
    describe_models,
    evaluate_group,
    load_models,
    load_results,
    start_of,
)
from refam_analysis.evaluation.runner.rows import Row


def forked(work: Callable[[], object]) -> int:
    """Start something in a process of its own; its number."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def finished(child: int) -> None:
    """Wait for a process that must succeed."""
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("a run failed")


def start(configuration: RunConfiguration, loaded: LoadedModels, models: dict, out: Path, say: int | None) -> None:
    """A run that says the number of every group once it is kept."""
    dataset = load_dataset("scenes", "test", limit=configuration.limit)

    def way(tasks: Iterable[GroupTask]) -> Iterable[list[Row]]:
        for task in tasks:
            yield evaluate_group(task, loaded)
            if say is not None:
                os.write(say, bytes([task.group]))

    carry_out(configuration, dataset, out, way, models=models, start=start_of(configuration, loaded))


def in_folder(out: Path) -> list[int] | None:
    """The groups that a folder holds; None where it is no run yet."""
    return load_results(out).table["group"].unique().tolist() if (out / "run.json").exists() else None


def main(folder: Path, limit: int, seed: int, times: int) -> None:
    configuration = RunConfiguration("scenes", "test", limit=limit, magnets=(".", "a"), settings={"seeds": 1})
    loaded = load_models(configuration)
    models = describe_models(loaded)
    before = time.monotonic()
    finished(forked(lambda: start(configuration, loaded, models, folder / "whole", None)))
    whole, moments = time.monotonic() - before, random.Random(seed)
    for number in range(times):
        out = folder / str(number)
        reader, writer = os.pipe()
        child = forked(lambda out=out, writer=writer: start(configuration, loaded, models, out, writer))
        os.close(writer)
        time.sleep(moments.uniform(0.0, whole))
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)[1]
        with os.fdopen(reader, "rb") as file:
            said = list(file.read())
        # in a process of its own too: this one stays without parquet's threads, so that it can fork
        noted = {"number": number, "said": said, "killed": os.WIFSIGNALED(ended)}
        finished(forked(lambda out=out, noted=noted: note(folder, {**noted, "held": in_folder(out)})))
        finished(forked(lambda out=out: start(configuration, loaded, models, out, None)))


def note(folder: Path, entry: dict) -> None:
    with (folder / "killed.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(argument) for argument in sys.argv[2:]))
