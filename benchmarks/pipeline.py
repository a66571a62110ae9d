"""How fast sentences become masks: ``python -m benchmarks.pipeline run`` writes ``results/pipeline-speed``.

One sentence about a picture, ten sentences by ten calls, and ten that share the picture, in interleaved rounds, each
round with a picture that nothing has seen before; then the same split by stage. On two cores it takes about five
minutes and wants the machine for itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from PIL import Image
from tqdm.auto import tqdm

from benchmarks.measure import interleaved, median_interval, ratios
from benchmarks.stages import STAGES, by_stage
from refam_analysis.evaluation.items import hard_items
from refam_analysis.experiments.provenance import RESULTS, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS
from refam_analysis.segmentation import default_settings, load_segmenter, segment, segment_expressions
from refam_analysis.weights import embedded_folder

NAME = "pipeline-speed"
SHARING = 10
"""Sentences about one picture."""

ONE, CALLS, LOADED, TOGETHER = "one", "ten calls", "ten calls, segmenter loaded", "ten together"
NUMBER = {ONE: 1, CALLS: SHARING, LOADED: SHARING, TOGETHER: SHARING}
"""Way to ask -> sentences. "ten calls" give the segmenter's name, so that each loads it; in the next way it is loaded
once before, and knows a picture again that it has encoded."""
_WARM_UP = 1

app = typer.Typer(add_completion=False, help=__doc__)


@app.callback()
def _commands() -> None:
    """Keeps ``run`` a command by name, as in the other benchmarks."""


@dataclass(frozen=True)
class Subject:
    """What is timed.

    Attributes:
        model: from ``load_model``.
        segmenter: a name or a path.
        magnets: appended to every sentence.
        pictures: paths, one a round and warm-up.
        sentences: :data:`SHARING` of them.
    """

    model: DiffusionModel
    segmenter: str
    magnets: tuple[str, ...]
    pictures: Sequence[Path]
    sentences: Sequence[str]

    def works(self) -> dict[str, Callable[[], object]]:
        """Each way to ask, about the next picture at every call; none knows what another one has encoded."""
        return {ONE: self._one(), CALLS: self._calls(loaded=False), LOADED: self._calls(loaded=True),
                TOGETHER: self._together()}  # fmt: skip

    def _one(self) -> Callable[[], object]:
        segmenter, pictures = load_segmenter(self.segmenter), iter(self.pictures)
        return lambda: segment(self.model, next(pictures), self.sentences[0], segmenter=segmenter, magnets=self.magnets)

    def _calls(self, *, loaded: bool) -> Callable[[], object]:
        segmenter = load_segmenter(self.segmenter) if loaded else self.segmenter
        pictures = iter(self.pictures)

        def work() -> object:
            picture = next(pictures)
            return [
                segment(self.model, picture, sentence, segmenter=segmenter, magnets=self.magnets)
                for sentence in self.sentences
            ]

        return work

    def _together(self) -> Callable[[], object]:
        pictures = iter(self.pictures)
        return lambda: segment_expressions(
            self.model, next(pictures), self.sentences, segmenter=self.segmenter, magnets=self.magnets
        )


def speed(subject: Subject, rounds: int) -> pd.DataFrame:
    """Seconds of every way to ask.

    Returns:
        A row a way: ``name``, ``expressions``, ``seconds`` (median), ``low``, ``high``, ``seconds_an_expression``,
        ``expressions_a_second``, and ``ratio`` to "ten together" with ``ratio_low`` and ``ratio_high``, medians over
        rounds and their intervals; ``rounds``.
    """
    times = interleaved(subject.works(), rounds=rounds, warm_up=_WARM_UP)
    table = ratios(times, against=TOGETHER).rename(columns={"low": "ratio_low", "high": "ratio_high"})
    table["expressions"] = table["name"].map(NUMBER)
    table["seconds_an_expression"] = table["seconds"] / table["expressions"]
    table["expressions_a_second"] = 1 / table["seconds_an_expression"]
    return table.merge(_medians(times, ["name"])[["name", "low", "high"]], on="name")


def stages(subject: Subject, rounds: int, *, seed: int = 0) -> pd.DataFrame:
    """Seconds of every stage, for one sentence and for ten that share the picture.

    Returns:
        A row a (name, stage): ``name``, ``stage``, ``seconds`` (median over rounds), ``low``, ``high``, ``share`` of
        the sum of the medians.
    """
    rng, rows = np.random.default_rng(seed), []
    asked = {ONE: subject.sentences[:1], TOGETHER: subject.sentences}
    segmenters = {name: load_segmenter(subject.segmenter) for name in asked}
    for number in tqdm(range(-_WARM_UP, rounds), desc="rounds by stage", mininterval=5):
        for name in rng.permutation(list(asked)):
            with by_stage(subject.model, segmenters[name]) as seconds:
                segment_expressions(
                    subject.model, subject.pictures[number + _WARM_UP], asked[name], segmenter=segmenters[name],
                    magnets=subject.magnets,
                )  # fmt: skip
            if number >= 0:
                rows += [{"name": str(name), "stage": stage, "seconds": taken} for stage, taken in seconds.items()]
    table = _medians(pd.DataFrame(rows), ["name", "stage"])
    table["share"] = table["seconds"] / table.groupby("name")["seconds"].transform("sum")
    order = {stage: place for place, stage in enumerate(STAGES)}
    return table.sort_values(["name", "stage"], key=lambda column: column.map(order).fillna(0), kind="stable",
                             ignore_index=True)  # fmt: skip


def subject_of(model: DiffusionModel, segmenter: str, magnets: Sequence[str], rounds: int, folder: Path) -> Subject:
    """Pictures and sentences of the test scenes.

    Args:
        model: that is timed.
        segmenter: a name or a path.
        magnets: appended to every sentence.
        rounds: of each measurement; a picture each, and one to warm up.
        folder: where the pictures are written.
    """
    items = hard_items("test", max(SHARING, rounds + _WARM_UP))
    paths = [folder / f"{number}.png" for number in range(len(items))]
    for item, path in zip(items, paths, strict=True):
        Image.fromarray(item.image).save(path)
    return Subject(model, segmenter, tuple(magnets), paths, [item.expression for item in items[:SHARING]])


@app.command()
def run(
    rounds: Annotated[int, typer.Option(help="Rounds of each measurement.", min=1)] = 15,
    results: Annotated[Path, typer.Option(help="Folder of all results.")] = RESULTS,
) -> None:
    """Measure, write the result and print the tables."""
    result = measure(rounds, results=results)
    for name, table in result.tables.items():
        print(f"\n{name}\n{table.to_string(index=False, float_format='{:.3f}'.format)}")


def measure(rounds: int, *, results: Path = RESULTS) -> Result:
    """Time the embedded models with their own settings, and write the result.

    Args:
        rounds: of each measurement.
        results: the folder of all results.

    Returns:
        The tables of :func:`speed` and :func:`stages`.
    """
    watch, model = Stopwatch(), load_model("embedded")
    weights = weights_sha256(embedded_folder("embedded-dit")) | weights_sha256(embedded_folder("embedded-sam"))
    with tempfile.TemporaryDirectory() as folder:
        subject = subject_of(model, "embedded", DEFAULT_MAGNETS, rounds, Path(folder))
        tables = {"speed": speed(subject, rounds), "stages": stages(subject, rounds)}
    configuration = {
        "rounds": rounds,
        "sentences": list(subject.sentences),
        "magnets": list(subject.magnets),
        "settings": default_settings(model).to_dict(),
        "device": model.device.type,
        "threads": torch.get_num_threads(),
    }
    provenance = watch.provenance(f"python -m benchmarks.pipeline run --rounds {rounds}", configuration, weights)
    return write_result(NAME, tables, provenance, results=results)


def _medians(times: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Median seconds of each group, with a 95 % bootstrap interval over rounds."""
    rows = []
    for names, group in times.groupby(by, sort=False):
        seconds, low, high = median_interval(group["seconds"])
        rows.append({**dict(zip(by, names, strict=True)), "seconds": seconds, "low": low, "high": high})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    app()
