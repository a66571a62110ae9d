"""Which findings hold in every training: runs that differ in their seed alone, judged by the ledger of claims.

    python -m refam_analysis.training.seeds --run runs/seed-0 --run runs/seed-1 --run runs/seed-2

An interval over scenes says nothing about the training: another seed gives another model. Here every run is exported,
read as a search on validation scenes chooses for it, and judged by the rules and on the scenes of `refam claims`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from tqdm.auto import tqdm

from refam_analysis.experiments.claims import ledger
from refam_analysis.experiments.claims.profiles import profile_means
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, write_result
from refam_analysis.experiments.settings import SettingsSearch
from refam_analysis.training.dit import CONFIGURATIONS
from refam_analysis.training.milestones import about_runs, run_options, table_of
from refam_analysis.training.pointing import exported_reading

NAME = "seeds"
MODEL = "model"
"""Folder of a run's export, in its working folder."""
TABLES = ("ledger", "verdicts", "scenes", "profiles")
"""Of a ledger. Of the profiles the means over scenes are kept."""


@dataclass(frozen=True)
class SeedsTest:
    """What is measured of every run.

    Attributes:
        configuration: which of ``dit.CONFIGURATIONS`` was trained.
        scenes: of the test split, for the ledger.
        search: for the reading of heatmaps, on validation scenes.
        seed: of noise, untrained weights and statistics; not of the trainings.
    """

    configuration: str = "small"
    scenes: int = 500
    search: SettingsSearch = SettingsSearch(items=200)
    seed: int = 0

    def command(self, runs: Sequence[Path]) -> str:
        """Makes the result again; where the working folders lie is left out."""
        return (
            f"python -m refam_analysis.training.{NAME} {run_options(runs)} --configuration {self.configuration} "
            f"--scenes {self.scenes} --search {self.search.items} --seed {self.seed}"
        )


def run(
    runs: Sequence[Path],
    test: SeedsTest | None = None,
    *,
    name: str = NAME,
    results: Path = RESULTS,
    progress: bool = False,
) -> Result:
    """Judge every claim on every run, and write the result.

    Args:
        runs: working folders, which are called by their names; each gets a folder ``model``, its export.
        test: None for the one that is reported.
        name: of the result.
        results: the folder of all results.
        progress: show bars.

    Returns:
        The tables of :func:`refam_analysis.experiments.claims.ledger.run` with a column ``run``, the profiles as
        :func:`~refam_analysis.experiments.claims.profiles.profile_means` says, and ``readings``: a row a run with the
        ``settings`` of its heatmaps, as JSON, and the shares of points on the ``target`` and on the
        ``likelier_distractor`` of the validation scenes that chose them.

    Raises:
        FileNotFoundError: a run holds no checkpoint.
        ValueError: two runs have one name.
    """
    test, watch = test or SeedsTest(), Stopwatch()
    configuration = {**dataclasses.asdict(test), **about_runs(runs)}
    every = [_parts(folder, test, name, results) for folder in runs]
    measured = [
        {table: rows.assign(run=folder.name) for table, rows in _measured(folder, test, parts, progress).items()}
        for folder, parts in zip(tqdm(runs, desc="runs", disable=not progress), every, strict=True)
    ]
    whole = {table: pd.concat([of[table] for of in measured], ignore_index=True) for table in measured[0]}
    result = write_result(name, whole, watch.provenance(test.command(runs), configuration, {}), results=results)
    for parts in every:
        parts.forget()
    return result


def _parts(run: Path, test: SeedsTest, name: str, results: Path) -> Parts:
    """Of one run alone: another beside it, or one that trains on, leaves them as they are."""
    return Parts(results.parent / ".cache", f"{name}-{run.name}", {**dataclasses.asdict(test), **about_runs([run])})


def _measured(run: Path, test: SeedsTest, parts: Parts, progress: bool) -> dict[str, pd.DataFrame]:
    readings = parts.keep("readings", partial(_chosen_reading, run, test, progress))
    judge = cache(partial(_judged, run, test, progress))
    return {"readings": readings} | {table: parts.keep(table, partial(table_of, judge, table)) for table in TABLES}


def _chosen_reading(run: Path, test: SeedsTest, progress: bool) -> pd.DataFrame:
    found = exported_reading(
        run, run / MODEL, test.search, configuration=test.configuration, results=run / "results", progress=progress
    )
    return found[["settings", "target", "likelier_distractor"]]


def _judged(run: Path, test: SeedsTest, progress: bool) -> Mapping[str, pd.DataFrame]:
    asked = ledger.LedgerRun(model=str(run / MODEL), scenes=test.scenes, seed=test.seed)
    tables = ledger.run(asked, out=run / "results" / ledger.NAME, progress=progress).tables
    return {**tables, "profiles": profile_means(tables["profiles"], seed=test.seed)}


def main(
    runs: Annotated[list[Path], typer.Option("--run", help="Working folder of a training; give several.")],
    configuration: Annotated[str, typer.Option(help=f"Trained: one of {', '.join(CONFIGURATIONS)}.")] = "small",
    scenes: Annotated[int, typer.Option(help="Of the test split, for the ledger.", min=1)] = SeedsTest.scenes,
    search: Annotated[int, typer.Option(help="Validation scenes that find a reading.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Of everything but the trainings.")] = 0,
    name: Annotated[str, typer.Option(help="Of the result, in the folder results.")] = NAME,
) -> None:
    """Judge the paper's claims on several trainings, and write the result."""
    reading = SettingsSearch(items=search, seed=seed)
    test = SeedsTest(configuration=configuration, scenes=scenes, search=reading, seed=seed)
    found = run(runs, test, name=name, progress=True)["verdicts"]
    print(found.pivot(index="claim", columns="run", values="verdict").to_string())


if __name__ == "__main__":
    typer.run(main)
