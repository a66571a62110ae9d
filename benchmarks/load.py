"""What holds out under load: ``python -m benchmarks.load run`` writes ``results/load``.

Three loads, each in a process of its own: recordings of the embedded model one after the other, whose memory must not
grow; an evaluation of many scenes, whose throughput must not fall, on the smallest models of the same classes, as the
tests have them; and visitors of the probe's app who come at once (`visitors`). What grows or falls is told by a slope
with its interval, over means of stretches, since what is near in time is alike; seconds are those of the processor,
which other programmes on the machine hardly change. Finished parts are kept in ``.cache`` until the result is written.
"""

from __future__ import annotations

import gc
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import psutil
import torch
import typer
from numpy.typing import ArrayLike
from scipy import stats

from benchmarks import visitors
from benchmarks.measure import in_own_process, status_of
from refam_analysis.evaluation.datasets import load_dataset
from refam_analysis.evaluation.runner import (
    GroupTask,
    RunConfiguration,
    Way,
    carry_out,
    describe_models,
    in_this_process,
    load_models,
    start_of,
)
from refam_analysis.evaluation.runner.rows import Row
from refam_analysis.experiments.provenance import RESULTS, ROOT, Parts, Stopwatch, weights_sha256, write_result
from refam_analysis.models import load_model
from refam_analysis.recording import record
from refam_analysis.scenes import Scenes
from refam_analysis.segmentation.segmenters.embedded import SamConfig, save_embedded_sam, small_sam
from refam_analysis.weights import embedded_folder
from tests.families.parts import make_tiny_flux

NAME = "load"
STRETCHES = 20
WARM_UP = 0.1
"""Share of the samples, the first ones, in which libraries fill their caches: it does not count."""
SMALL = {"image_size": [48, 48], "text_length": 64, "steps": 2, "guidance": 1.0}
"""The ``refam.json`` of the evaluation's model. The longest sentence fits, without magnets."""

app = typer.Typer(add_completion=False, help=__doc__)


def trend(values: ArrayLike, *, every: int = 1, confidence: float = 0.95) -> dict[str, float]:
    """Whether something grows or falls over a load, by a straight line through means of stretches.

    The warm-up is left out, the rest cut into :data:`STRETCHES` stretches of one length, and a line laid through their
    means by least squares. The interval is that of its slope by Student's t.

    Args:
        values: in the order in which they were measured.
        every: how many items were done from one value to the next.
        confidence: of the interval.

    Returns:
        ``mean``; ``per_thousand``, the change from one item to the thousandth after it, with ``low`` and ``high``;
        ``counted``, the items that it is from.
    """
    counted = np.asarray(values, dtype=np.float64)[round(WARM_UP * np.size(values)) :]
    length = len(counted) // STRETCHES
    means = counted[len(counted) - length * STRETCHES :].reshape(STRETCHES, length).mean(axis=1)
    line = stats.linregress(np.arange(STRETCHES) * length * every, means)
    spread = float(stats.t.ppf((1 + confidence) / 2, STRETCHES - 2) * line.stderr)
    slope = float(line.slope)
    return {
        "mean": float(means.mean()), "per_thousand": 1000 * slope, "low": 1000 * (slope - spread),
        "high": 1000 * (slope + spread), "counted": length * STRETCHES * every,
    }  # fmt: skip


def in_use() -> dict[str, float]:
    """What this process holds: its own memory in mebibytes, objects that Python looks after, open files, threads."""
    process = psutil.Process()
    return {
        "mebibytes": status_of("RssAnon") / 2**20, "objects": len(gc.get_objects()), "files": process.num_fds(),
        "threads": process.num_threads(),
    }  # fmt: skip


def recordings(number: int) -> pd.DataFrame:
    """Record one scene after the other, and let go of each recording.

    Returns:
        A row a recording, of :func:`in_use` after it.
    """
    model, rows = load_model("embedded"), []
    for seed, scene in enumerate(Scenes("test", length=number)):
        record(model, scene.image, scene.expressions[0].text, noise_level=0.6, seed=seed)
        rows.append(in_use())
    return pd.DataFrame(rows)


def evaluation(scenes: int, every: int, *, minutes: float = math.inf) -> pd.DataFrame:
    """Carry out an evaluation as ``refam evaluate`` does, into a new folder.

    Args:
        scenes: of the test split.
        every: how many from one sample to the next.
        minutes: after which it ends, with the scenes that it has come to.

    Returns:
        A row after every so many scenes: ``scenes`` and ``expressions`` so far; ``cpu_seconds`` and ``seconds`` that
        these scenes took, with what is written; and :func:`in_use`.
    """
    samples: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        model, segmenter = small_models(Path(folder))
        configuration = RunConfiguration(
            "scenes", "test", limit=scenes, model=str(model), segmenter=str(segmenter), magnets=()
        )
        loaded, dataset = load_models(configuration), load_dataset("scenes", "test", limit=scenes)
        done = carry_out(
            configuration, dataset, Path(folder) / "run",
            sampled(in_this_process(loaded), every, samples.append, until=time.monotonic() + 60 * minutes),
            models=describe_models(loaded), start=start_of(configuration, loaded),
        )  # fmt: skip
        assert done.table["error"].isna().all()
    return pd.DataFrame(samples)


def small_models(folder: Path) -> tuple[Path, Path]:
    """A FLUX of four blocks and a ``Sam`` of one, which have learnt nothing: folders that ``load_model`` etc. take."""
    model, segmenter = folder / "flux", folder / "sam"
    make_tiny_flux().save_pretrained(model)
    (model / "refam.json").write_text(json.dumps(SMALL), encoding="utf-8")
    config = SamConfig(image_size=48, patch_size=8, width=24, depth=1, heads=2)
    torch.manual_seed(0)
    save_embedded_sam(small_sam(config), config, segmenter)
    return model, segmenter


def sampled(way: Way, every: int, keep: Callable[[dict[str, float]], object], *, until: float = math.inf) -> Way:
    """A way of carrying out tasks that also notes what they took, every so many tasks; what is left over is not noted.

    Args:
        way: that is measured.
        every: how many tasks.
        keep: is called with what was found.
        until: when it ends with the tasks that it has come to, by ``time.monotonic``.
    """

    def carried(tasks: Iterable[GroupTask]) -> Iterator[list[Row]]:
        expressions, cpu, wall = 0, time.process_time(), time.perf_counter()
        for number, rows in enumerate(way(tasks), start=1):
            yield rows  # the runner writes them before it asks for more, so that this counts too
            expressions += len(rows)
            if number % every == 0:
                took = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall}
                keep({"scenes": number, "expressions": expressions, **took, **in_use()})
                cpu, wall = time.process_time(), time.perf_counter()
            if time.monotonic() > until:
                return

    return carried


def trends(recorded: pd.DataFrame, evaluated: pd.DataFrame, every: int) -> pd.DataFrame:
    """The slopes of both loads.

    Args:
        recorded: from :func:`recordings`.
        evaluated: from :func:`evaluation`; empty where there was none.
        every: how many scenes a row of it is.

    Returns:
        A row a quantity: ``load``, ``quantity``, and the columns of :func:`trend`.
    """
    units = {"mebibytes": "memory, MiB", "objects": "Python objects"}
    rows = [{"load": "recordings", "quantity": unit, **trend(recorded[name])} for name, unit in units.items()]
    if evaluated.empty:
        return pd.DataFrame(rows)
    rows += [
        {"load": "evaluation", "quantity": unit, **trend(evaluated[name], every=every)} for name, unit in units.items()
    ]
    seconds = trend(1000 * evaluated["cpu_seconds"] / every, every=every)
    return pd.DataFrame([*rows, {"load": "evaluation", "quantity": "ms of a processor a scene", **seconds}])


@app.command()
def run(
    number: Annotated[int, typer.Option("--recordings", help="One after the other.", min=50)] = 1000,
    scenes: Annotated[int, typer.Option(help="Of the evaluation; 0 for none.", min=0)] = 10_000,
    every: Annotated[int, typer.Option(help="Scenes from one sample of the evaluation to the next.", min=1)] = 50,
    minutes: Annotated[
        float, typer.Option(help="After which the evaluation ends with what it has come to.")
    ] = math.inf,
    at_once: Annotated[int, typer.Option("--visitors", help="Who come at the same moment.", min=1)] = 8,
    results: Annotated[Path, typer.Option(help="Folder of results.")] = RESULTS,
) -> None:
    """Measure, write the result and print its tables."""
    watch = Stopwatch()
    configuration = {
        "recordings": number, "scenes": scenes, "every": every, "visitors": at_once, "threads": 1,
        "minutes": minutes if minutes < math.inf else None, "small": SMALL, "warm_up": WARM_UP, "stretches": STRETCHES,
    }  # fmt: skip
    weights = weights_sha256(embedded_folder("embedded-dit"), also=["refam.json"])
    weights |= weights_sha256(embedded_folder("embedded-sam"))
    parts = Parts(ROOT / ".cache", NAME, {**configuration, **weights})
    recorded = parts.keep("recordings", lambda: _apart("recordings", str(number)))
    came = parts.keep("visitors", lambda: _visits(at_once))
    evaluation_of = ("evaluation", str(scenes), "--every", str(every), "--minutes", str(minutes))
    evaluated = parts.keep("evaluation", lambda: _apart(*evaluation_of)) if scenes else pd.DataFrame()
    tables = {
        "recordings": recorded, **({"evaluation": evaluated} if scenes else {}),
        "trends": trends(recorded, evaluated, every), "visitors": came,
    }  # fmt: skip
    command = f"python -m benchmarks.load run --recordings {number} --scenes {scenes} --every {every}"
    command += f" --visitors {at_once}" + (f" --minutes {minutes:g}" if minutes < math.inf else "")
    provenance = watch.provenance(command, configuration, weights)
    write_result(NAME, tables, provenance, results=results)
    parts.forget()
    for name in ("trends", "visitors"):
        print(tables[name].round(3).to_string(index=False))


def _apart(*arguments: str) -> pd.DataFrame:
    """A load in a process of its own."""
    return pd.read_json(io.StringIO(json.dumps(in_own_process("benchmarks.load", *arguments))), orient="table")


def _visits(number: int) -> pd.DataFrame:
    """A row a visitor, and what holds for the server in all of them."""
    came, server = visitors.run(number)
    return came.assign(**server, busy=os.getloadavg()[0], cores=os.cpu_count())


def _tell(table: pd.DataFrame) -> None:
    print(table.to_json(orient="table", index=False))


@app.command("recordings")
def _recordings(number: int) -> None:
    """One load of :func:`run`, told as JSON."""
    torch.set_num_threads(1)
    _tell(recordings(number))


@app.command("evaluation")
def _evaluation(
    scenes: int, every: Annotated[int, typer.Option()] = 50, minutes: Annotated[float, typer.Option()] = math.inf
) -> None:
    """One load of :func:`run`, told as JSON."""
    torch.set_num_threads(1)
    _tell(evaluation(scenes, every, minutes=minutes))


if __name__ == "__main__":
    app()
