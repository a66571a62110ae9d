"""What becomes of pointing, drawing and reading while a training goes on: steps of one run, each as suits it best.

    python -m refam_analysis.training.pointing --run runs/rich --step 7000 --step 8000 --configuration deep-wide

The probe of a training reads heatmaps in one fixed way, so that its curve may fall where another reading would not.
Here the weights of every step that ``--keep`` put aside are exported, read as a search on validation scenes chooses for
them, and measured on test scenes as the shipped weights are: :mod:`refam_analysis.experiments.grounding`,
:mod:`refam_analysis.experiments.generation` and :mod:`refam_analysis.experiments.exchange`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from tqdm.auto import tqdm

from refam_analysis.experiments import exchange, generation, grounding, settings
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, write_result
from refam_analysis.training.dit import CONFIGURATIONS
from refam_analysis.training.export import export
from refam_analysis.training.milestones import about_runs, run_options

NAME = "pointing"
TABLES = ("readings", "points", "drawing", "exchanges")

SearchOption = Annotated[int, typer.Option(help="Validation scenes that find a reading; as many choose.", min=1)]
ScenesOption = Annotated[int, typer.Option(help="Of the test split.", min=1)]
CaptionsOption = Annotated[int, typer.Option(help="That are drawn.", min=1)]
ExchangesOption = Annotated[int, typer.Option(help="Scenes whose captions are exchanged.", min=1)]
SeedOption = Annotated[int, typer.Option(help="Of everything but the training.")]
ResultsOption = Annotated[Path, typer.Option(help="Folder of the result.")]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured of every model.

    Attributes:
        search: validation scenes that find a reading, and as many that choose.
        scenes: of the test split, for the points.
        captions: that are drawn.
        exchanges: scenes whose captions are exchanged.
        seed: of all of it; not of the training.
    """

    search: int = 250
    scenes: int = 500
    captions: int = 200
    exchanges: int = 256
    seed: int = 0

    @property
    def search_settings(self) -> settings.SettingsSearch:
        """How a reading is searched."""
        return settings.SettingsSearch(items=self.search, seed=self.seed)

    @property
    def options(self) -> str:
        """As a command takes them."""
        return (
            f"--search {self.search} --scenes {self.scenes} --captions {self.captions} --exchanges {self.exchanges} "
            f"--seed {self.seed}"
        )


@dataclass(frozen=True)
class PointingTest(Sizes):
    """What is measured of every step.

    Attributes:
        milestones: steps whose weights were put aside.
        configuration: which of ``dit.CONFIGURATIONS`` was trained.
    """

    milestones: tuple[int, ...]
    configuration: str = "small"

    def command(self, run: Path) -> str:
        """Makes the result again; where the working folder lies is left out."""
        steps = " ".join(f"--step {step}" for step in self.milestones)
        return (
            f"python -m refam_analysis.training.{NAME} {run_options([run])} {steps} --configuration "
            f"{self.configuration} {self.options}"
        )


def run(folder: Path, test: PointingTest, *, results: Path = RESULTS, progress: bool = False) -> Result:
    """Export, search and measure step by step, and write the result; a stopped call goes on with the next part.

    Args:
        folder: working folder of the training; each step gets a folder ``model-<step>`` in it.
        test: what is measured.
        results: the folder of all results.
        progress: show bars.

    Returns:
        Four tables with a column ``step``: ``readings``, the chosen row of the search's finalists (of
        :func:`refam_analysis.experiments.settings.run`); ``points``, ``drawing`` and ``exchanges``, the summaries of
        :func:`refam_analysis.experiments.grounding.run`, :func:`refam_analysis.experiments.generation.run` and
        :func:`refam_analysis.experiments.exchange.run`.

    Raises:
        FileNotFoundError: no weights were put aside at a step.
    """
    watch, about = Stopwatch(), {**dataclasses.asdict(test), **about_runs([folder])}
    parts = Parts(results.parent / ".cache", f"{NAME}-{folder.name}", about)
    tables = []
    for step in tqdm(test.milestones, desc="steps", disable=not progress):
        model, own = folder / f"model-{step}", folder / f"results-{step}"
        search = partial(
            exported_reading, folder, model, test.search_settings, configuration=test.configuration, results=own,
            step=step, progress=progress,
        )  # fmt: skip
        found = measured(model, test, search, parts, str(step), results=own, progress=progress)
        tables.append({name: rows.assign(step=step) for name, rows in found.items()})
    result = write_result(NAME, stacked(tables), watch.provenance(test.command(folder), about, {}), results=results)
    parts.forget()
    return result


def measured(
    model: Path,
    sizes: Sizes,
    search: Callable[[], pd.DataFrame],
    parts: Parts,
    name: str,
    *,
    results: Path,
    progress: bool = False,
) -> dict[str, pd.DataFrame]:
    """Search how a model is read and measure it, as those that ship are; what was done before is not done again.

    Args:
        model: its folder.
        sizes: how much is measured.
        search: lets validation scenes choose how the model is read, writes that into its folder, and gives the chosen
            row of the finalists.
        parts: that are kept.
        name: of the model among them.
        results: where each measurement leaves its result.
        progress: show bars.

    Returns:
        A table for each of ``TABLES``; see :func:`run`.
    """
    asked: dict[str, Callable[..., Result]] = {
        "points": partial(grounding.run, grounding.GroundingTest(items=sizes.scenes, seed=sizes.seed)),
        "drawing": partial(generation.run, generation.GenerationTest(captions=sizes.captions, seed=sizes.seed)),
        "exchanges": partial(exchange.run, exchange.ExchangeTest(scenes=sizes.exchanges, seed=sizes.seed)),
    }
    found = {"readings": parts.keep(f"readings-{name}", search)}
    for table, ask in asked.items():
        measure = partial(_summary, partial(ask, folder=model, results=results, progress=progress))
        found[table] = parts.keep(f"{table}-{name}", measure)
    return found


def _summary(measure: Callable[[], Result]) -> pd.DataFrame:
    return measure()["summary"]


def stacked(tables: Sequence[Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The tables of several models, one below the other."""
    return {name: pd.concat([found[name] for found in tables], ignore_index=True) for name in TABLES}


def exported_reading(
    run: Path,
    model: Path,
    search: settings.SettingsSearch,
    *,
    configuration: str,
    results: Path,
    step: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Export a run and let validation scenes choose how its heatmaps are read, which is written into the export.

    Args:
        run: the training's working folder.
        model: where to export to.
        search: for the reading.
        configuration: which of ``dit.CONFIGURATIONS`` was trained.
        results: where the search leaves its result.
        step: one whose weights were put aside; None for the newest.
        progress: show bars.

    Returns:
        The chosen row of the search's finalists.
    """
    export(run, model, configuration=configuration, step=step)
    return chosen_reading(model, search, results=results, progress=progress)


def chosen_reading(
    model: Path, search: settings.SettingsSearch, *, results: Path, progress: bool = False
) -> pd.DataFrame:
    """Let validation scenes choose how the heatmaps of an exported model are read, and write that into its folder.

    Args:
        model: its folder.
        search: for the reading.
        results: where the search leaves its result.
        progress: show bars.

    Returns:
        The chosen row of the search's finalists.
    """
    return settings.run(search, folder=model, results=results, progress=progress)["finalists"].iloc[:1]


def print_measured(result: Result) -> None:
    """Points and drawing of every model, for the command line."""
    print(result["points"].query("source == 'model'").round(3).to_string(index=False))
    print(result["drawing"].round(3).to_string(index=False))


def main(
    folder: Annotated[Path, typer.Option("--run", help="Working folder of a training.")],
    steps: Annotated[list[int], typer.Option("--step", help="One that --keep put aside; give several.")],
    configuration: Annotated[str, typer.Option(help=f"Trained: one of {', '.join(CONFIGURATIONS)}.")] = "small",
    search: SearchOption = Sizes.search,
    scenes: ScenesOption = Sizes.scenes,
    captions: CaptionsOption = Sizes.captions,
    exchanges: ExchangesOption = Sizes.exchanges,
    seed: SeedOption = Sizes.seed,
    results: ResultsOption = RESULTS,
) -> None:
    """Measure several steps of a training: where words point, what is drawn, and what the loss feels of captions."""
    test = PointingTest(
        tuple(steps), configuration, search=search, scenes=scenes, captions=captions, exchanges=exchanges, seed=seed
    )
    found = run(folder, test, results=results, progress=True)
    print_measured(found)


if __name__ == "__main__":
    typer.run(main)
