"""Runs that are killed by SIGKILL at given moments, and finished by a second start.

    python killed_runs.py FOLDER LIMIT SEED TIMES

One process loads the embedded models and forks for every run. ``FOLDER/whole`` is never killed; ``FOLDER/<i>`` is
killed once, a random while after it kept a number of groups that goes round with ``i``, then ``FOLDER/killed.jsonl``
notes what had been finished by then and what the folder held, then it is finished.
"""

from __future__ import annotations

import itertools
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

    def begin(out: Path) -> tuple[int, int]:
        """A run, and where it says what it kept."""
        reader, writer = os.pipe()
        child = forked(lambda: start(configuration, loaded, models, out, writer))
        os.close(writer)
        return child, reader

    spans, moments = undisturbed(*begin(folder / "whole")), random.Random(seed)
    for number in range(times):
        out = folder / str(number)
        kept = number % len(spans)
        # in a process of its own too: this one stays without parquet's threads, so that it can fork
        noted = {"number": number} | kill(*begin(out), kept, moments.uniform(0.0, spans[kept]))
        finished(forked(lambda out=out, noted=noted: note(folder, {**noted, "held": in_folder(out)})))
        finished(forked(lambda out=out: start(configuration, loaded, models, out, None)))


def undisturbed(child: int, reader: int) -> list[float]:
    """Seconds of a run to its first kept group, from one to the next, and from the last to the end."""
    moments = [time.monotonic()]
    while os.read(reader, 1):
        moments.append(time.monotonic())
    finished(child)
    os.close(reader)
    moments.append(time.monotonic())
    return [after - before for before, after in itertools.pairwise(moments)]


def kill(child: int, reader: int, kept: int, seconds: float) -> dict[str, object]:
    """End a run so many seconds after it kept so many groups; which it had kept by then, and whether it still ran."""
    said = b"".join(os.read(reader, 1) for _ in range(kept))
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    ended = os.waitpid(child, 0)[1]
    with os.fdopen(reader, "rb") as file:
        return {"said": list(said + file.read()), "killed": os.WIFSIGNALED(ended)}


def note(folder: Path, entry: dict) -> None:
    with (folder / "killed.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(argument) for argument in sys.argv[2:]))
