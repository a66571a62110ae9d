"""What the runner costs beside a bare loop: ``python -m benchmarks.runner`` writes ``results/runner-speed``.

The loop calls ``segment_expressions`` and counts pixels, and keeps everything in memory; the runner does what
``refam evaluate`` does, folder, parts and bar included. Both run with the same loaded models over the same scenes, in
interleaved rounds.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.measure import interleaved, ratios
from refam_analysis.evaluation.datasets import decode_mask, load_dataset
from refam_analysis.evaluation.datasets.base import ReferringDataset, ReferringImage
from refam_analysis.evaluation.runner import (
    LoadedModels,
    RunConfiguration,
    carry_out,
    describe_models,
    in_this_process,
    load_models,
    start_of,
)
from refam_analysis.experiments.provenance import RESULTS, Stopwatch, weights_sha256, write_result
from refam_analysis.segmentation.pipeline import segment_expressions
from refam_analysis.weights import embedded_folder

NAME = "runner-speed"
MODULE = "benchmarks.runner"

app = typer.Typer(add_completion=False, help=__doc__)


def bare_loop(configuration: RunConfiguration, dataset: ReferringDataset, loaded: LoadedModels) -> list[Any]:
    """Points, masks and pixels of every expression, and nothing more."""
    found = []
    for item in dataset:
        assert isinstance(item, ReferringImage)
        results = segment_expressions(
            loaded.model, item.load(), [expression.text for expression in item.expressions],
            magnets=configuration.magnets, segmenter=loaded.segmenter, settings=loaded.settings,
            seed=configuration.seed_of(item.key),
        )  # fmt: skip
        for result, expression in zip(results, item.expressions, strict=True):
            true = decode_mask(expression.mask) if expression.mask is not None else np.zeros_like(result.mask)
            both, either = np.count_nonzero(result.mask & true), np.count_nonzero(result.mask | true)
            found.append((result.point, result.mask, both, either))
    return found


def whole_runner(
    configuration: RunConfiguration, dataset: ReferringDataset, loaded: LoadedModels, models: dict[str, Any]
) -> None:
    """What ``refam evaluate`` does once its models are loaded, in a new folder."""
    folder = Path(tempfile.mkdtemp(prefix="runner-speed-"))
    try:
        with redirect_stderr(io.StringIO()):
            carry_out(
                configuration, dataset, folder / "run", in_this_process(loaded), models=models,
                start=start_of(configuration, loaded), progress=True,
            )  # fmt: skip
    finally:
        shutil.rmtree(folder)


@app.command()
def run(
    rounds: Annotated[int, typer.Option(help="Of both.")] = 15,
    scenes: Annotated[int, typer.Option(help="Images a round.")] = 20,
    results: Annotated[Path, typer.Option(help="Folder of results.")] = RESULTS,
) -> None:
    """Measure, write the result and print the table."""
    torch.set_num_threads(1)
    watch, configuration = Stopwatch(), RunConfiguration("scenes", "test", limit=scenes)
    loaded = load_models(configuration)
    models, dataset = describe_models(loaded), load_dataset("scenes", "test", limit=scenes)
    works = {
        "bare loop": lambda: bare_loop(configuration, dataset, loaded),
        "runner": lambda: whole_runner(configuration, dataset, loaded, models),
    }
    table = ratios(interleaved(works, rounds=rounds), against="bare loop")
    table = table.assign(images=scenes, expressions=dataset.expressions)
    settings = {"rounds": rounds, "scenes": scenes, "threads": 1, "settings": loaded.settings.to_dict()}
    provenance = watch.provenance(
        f"python -m {MODULE} --rounds {rounds} --scenes {scenes}", settings,
        weights_sha256(embedded_folder("embedded-dit")) | weights_sha256(embedded_folder("embedded-sam")),
    )  # fmt: skip
    write_result(NAME, {"overhead": table}, provenance, results=results)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    app()
