"""How soon the probe answers: ``python -m benchmarks.probe run`` writes ``results/probe-speed``.

Each change that a reader can make is made many times over, as the browser makes it, and timed until the answer is
ready to be sent; those that need no forward pass and those that do. The pause that typing waits for is not counted. On
two cores it takes about two minutes and wants the machine for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from benchmarks.measure import interleaved
from refam_analysis.experiments.provenance import RESULTS, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.segmentation import Segmenter, load_segmenter
from refam_analysis.weights import embedded_folder
from refam_analysis.widgets.probe import PAUSE, Probe

NAME = "probe-speed"
GOALS = {False: 0.3, True: 1.5}
"""Whether a change needs forward passes -> seconds within which it is to be answered on two cores."""
_LONG = 600.0

app = typer.Typer(add_completion=False, help=__doc__)


@app.callback()
def _commands() -> None:
    """Keeps ``run`` a command by name, as in the other benchmarks."""


def changes() -> dict[str, tuple[bool, Callable[[], Mapping[str, Any]]]]:
    """Name of a change -> whether it needs forward passes, and what gives it anew at every call."""
    blocks, heads, tokens = cycle(range(6)), cycle((None, 0, 1, 2)), cycle(("green", "large", None))
    switches = {name: cycle((True, False)) for name in ("noun_phrase", "spatial_bias", "stop_words")}
    seeds, scenes, noise = iter(range(100, 10**6, 10)), iter(range(1, 10_000)), iter(range(10**6))
    numbers = iter(range(10**6))
    return {
        "another block": (False, lambda: {"block": next(blocks)}),
        "another head": (False, lambda: {"head": next(heads)}),
        "another token": (False, lambda: {"token": next(tokens)}),
        "noun phrase": (False, lambda: {"noun_phrase": next(switches["noun_phrase"])}),
        "spatial bias": (False, lambda: {"spatial_bias": next(switches["spatial_bias"])}),
        "magnets, seen before": (False, lambda: {"stop_words": next(switches["stop_words"])}),
        "another sentence": (True, lambda: {"expression": f"the green ring number {next(numbers)}"}),
        "another seed": (True, lambda: {"seed": next(seeds)}),
        "another noise level": (True, lambda: {"noise_level": 0.3 + 1e-4 * next(noise)}),
        "another scene": (True, lambda: {"scene": {"number": next(scenes)}}),
        "two sentences, another seed": (True, lambda: {"comparison": "no magnets", "seed": next(seeds)}),
    }


def speed(model: DiffusionModel, segmenter: Segmenter, rounds: int) -> pd.DataFrame:
    """Seconds from each change to its answer.

    Args:
        model: from ``load_model``.
        segmenter: a loaded one.
        rounds: how often each change is made.

    Returns:
        A row a change: ``name``, ``needs_passes``, ``passes`` (median), ``seconds`` (median), ``slowest``, ``goal``,
        ``share_within_goal``, ``rounds``.
    """
    probe, offered = Probe(model, segmenter=segmenter, expression="the large green one"), changes()
    probe.wait(_LONG)
    probe.ask(noun_phrase=True).wait(_LONG)  # the parser is loaded in the background before a reader gets there
    probe.ask(noun_phrase=False, stop_words=False).wait(_LONG)
    passes: dict[str, list[int]] = {name: [] for name in offered}

    def work(name: str) -> Callable[[], object]:
        def once() -> object:
            before = probe.passes_run
            probe.ask(**offered[name][1]()).wait(_LONG)
            passes[name].append(probe.passes_run - before)
            return probe.answers

        return once

    times = pd.concat(
        interleaved({name: work(name)}, rounds=rounds).assign(needs_passes=offered[name][0]) for name in offered
    )
    probe.close()
    rows = []
    for name, group in times.groupby("name", sort=False):
        # What is typed waits for the next letter first, on purpose.
        seconds = group["seconds"] - (PAUSE if name == "another sentence" else 0.0)
        goal = GOALS[bool(group["needs_passes"].iloc[0])]
        rows.append(
            {"name": name, "needs_passes": bool(group["needs_passes"].iloc[0]),
             "passes": int(pd.Series(passes[str(name)]).median()), "seconds": float(seconds.median()),
             "slowest": float(seconds.max()), "goal": goal, "share_within_goal": float((seconds <= goal).mean()),
             "rounds": len(group)}
        )  # fmt: skip
    return pd.DataFrame(rows)


@app.command()
def run(
    rounds: Annotated[int, typer.Option(help="How often each change is made.", min=1)] = 20,
    results: Annotated[Path, typer.Option(help="Folder of all results.")] = RESULTS,
) -> None:
    """Measure, write the result and print the table."""
    print(measure(rounds, results=results)["speed"].to_string(index=False, float_format="{:.3f}".format))


def measure(rounds: int, *, results: Path = RESULTS) -> Result:
    """Time the probe on the embedded models, and write the result.

    Args:
        rounds: how often each change is made.
        results: the folder of all results.

    Returns:
        The table of :func:`speed`.
    """
    watch, model, segmenter = Stopwatch(), load_model("embedded"), load_segmenter("embedded")
    weights = weights_sha256(embedded_folder("embedded-dit")) | weights_sha256(embedded_folder("embedded-sam"))
    tables = {"speed": speed(model, segmenter, rounds)}
    configuration = {"rounds": rounds, "pause": PAUSE, "device": model.device.type, "threads": torch.get_num_threads()}
    provenance = watch.provenance(f"python -m benchmarks.probe run --rounds {rounds}", configuration, weights)
    return write_result(NAME, tables, provenance, results=results)


if __name__ == "__main__":
    app()
