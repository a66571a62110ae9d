"""What changes along trainings: profiles over blocks and sinks of the weights that ``--keep`` put aside.

    python -m refam_analysis.training.milestones --run runs/seed-0 --run runs/seed-1 --run runs/seed-2

Runs that differ in their seed alone say which findings belong to the architecture and the data, and which to one model.
Where a training begins is measured too: as step 0 stands the same transformer with random weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from tqdm.auto import tqdm

from refam_analysis.analysis.key_effects import KeyEffects, key_effects
from refam_analysis.analysis.sinks import call_sinks
from refam_analysis.evaluation.grounding import untrained
from refam_analysis.evaluation.items import hard_items
from refam_analysis.evaluation.recordings import record_items
from refam_analysis.experiments.claims.profiles import kept_of, profile_means, profile_of, profile_rows
from refam_analysis.experiments.learning import curves, read_log
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.scenes.sampling import Style
from refam_analysis.training.assembly import IMAGE_SIZE, as_model
from refam_analysis.training.checkpoints import load_checkpoint
from refam_analysis.training.dit import CONFIGURATIONS
from refam_analysis.training.export import assemble

NAME = "milestones"


@dataclass(frozen=True)
class MilestonesTest:
    """What is measured.

    Attributes:
        configuration: which of ``dit.CONFIGURATIONS`` was trained.
        size: height and width of the pictures.
        scenes: of the validation split, three objects each.
        noise_level: of the recordings.
        seed: of the noise, of the untrained weights and of the statistics.
    """

    configuration: str = "small"
    size: int = IMAGE_SIZE
    scenes: int = 100
    noise_level: float = 0.6
    seed: int = 0

    def command(self, runs: Sequence[Path]) -> str:
        """Makes the result again; where the working folders lie is left out."""
        return (
            f"python -m refam_analysis.training.{NAME} {run_options(runs)} --configuration {self.configuration} "
            f"--size {self.size} --scenes {self.scenes} --seed {self.seed}"
        )


def milestones(run: Path) -> list[int]:
    """The steps whose weights a run put aside, and its newest, in their order.

    Args:
        run: its working folder.

    Raises:
        FileNotFoundError: it holds no checkpoint.
    """
    return sorted({int(path.stem.removeprefix("dit-")) for path in run.glob("dit-*.safetensors")} | {newest(run)[0]})


def newest(run: Path) -> tuple[int, Style]:
    """The newest step of a run, and the scenes that it is trained on.

    Args:
        run: its working folder.

    Raises:
        FileNotFoundError: it holds no checkpoint.
    """
    found = load_checkpoint(run, "dit")
    if found is None:
        raise FileNotFoundError(f"{run} holds no checkpoint of a transformer: give the working folder of a training.")
    return int(found[1]["step"]), found[1].get("style", "plain")


def run_options(runs: Sequence[Path]) -> str:
    """Runs as a command names them; where their folders lie is left out.

    >>> run_options([Path("runs/seed-0"), Path("runs/seed-1")])
    '--run seed-0 --run seed-1'
    """
    return " ".join(f"--run {run.name}" for run in runs)


def logged_curves(run: Path) -> pd.DataFrame:
    """What the training of a transformer logged, see :func:`refam_analysis.experiments.learning.curves`.

    Args:
        run: its working folder.

    Raises:
        NoLogError: it holds no log.
    """
    table = curves(read_log(run))
    return table[table["model"] == "dit"]


def about_runs(runs: Sequence[Path]) -> dict[str, Any]:
    """What a result says of the trainings that it is about.

    Args:
        runs: their working folders.

    Returns:
        ``runs``, their names; ``steps``, how far each has come; ``checkpoints``, the sha256 of every checkpoint of a
        transformer, by ``<run>/<file>``.

    Raises:
        FileNotFoundError: a run holds no checkpoint.
        ValueError: two runs have one name.
    """
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Runs are called by the names of their folders, and several are called {twice[0]!r}.")
    steps = {run.name: newest(run)[0] for run in runs}
    files = {file: digest for run in runs for file, digest in weights_sha256(run).items()}
    transformers = {file: digest for file, digest in files.items() if Path(file).name.startswith("dit")}
    return {"runs": names, "steps": steps, "checkpoints": transformers}


def run(
    runs: Sequence[Path],
    test: MilestonesTest | None = None,
    *,
    name: str = NAME,
    results: Path = RESULTS,
    progress: bool = False,
) -> Result:
    """Measure every milestone of every run on the same scenes, and write the result.

    Args:
        runs: working folders, which are called by their names.
        test: None for the one that is reported.
        name: of the result.
        results: the folder of all results.
        progress: show a bar over milestones.

    Returns:
        The tables ``profiles`` (a row a (run, step, measure, block), with what
        :func:`~refam_analysis.experiments.claims.profiles.profile_means` says), ``sinks`` (a row a (run, step): how
        many ``pairs`` of a block and a role there are, how many of them are ``called`` sinks, and the ``effect`` of the
        strongest that at least half of the scenes have, with its interval and its ``block`` and ``role``) and
        ``curves`` (what each run logged, see :func:`refam_analysis.experiments.learning.curves`).

    Raises:
        FileNotFoundError: a run holds no checkpoint, or no log (NoLogError).
        ValueError: two runs have one name.
    """
    test, watch = test or MilestonesTest(), Stopwatch()
    stages = [(folder, step) for folder in runs for step in (0, *milestones(folder))]
    configuration = {**dataclasses.asdict(test), **about_runs(runs)}
    parts = Parts(results.parent / ".cache", name, configuration)
    tables: dict[str, list[pd.DataFrame]] = {"profiles": [], "sinks": []}
    for folder, step in tqdm(stages, desc="milestones", disable=not progress):
        measure = cache(partial(_measured, folder, step, test))
        for table, rows in tables.items():
            part = parts.keep(f"{folder.name}-{step}-{table}", partial(table_of, measure, table))
            rows.append(part.assign(run=folder.name, step=step))
    tables["curves"] = [logged_curves(folder).assign(run=folder.name) for folder in runs]
    whole = {table: pd.concat(rows, ignore_index=True) for table, rows in tables.items()}
    result = write_result(name, whole, watch.provenance(test.command(runs), configuration, {}), results=results)
    parts.forget()
    return result


def table_of(measure: Callable[[], Mapping[str, pd.DataFrame]], name: str) -> pd.DataFrame:
    """One of the tables that a measurement gives; measured when asked."""
    return measure()[name]


def _measured(run: Path, step: int, test: MilestonesTest) -> dict[str, pd.DataFrame]:
    last, style = newest(run)
    pipeline = assemble(run, test.configuration, step=None if step in (0, last) else step)
    model = as_model(pipeline, size=test.size)
    if step == 0:
        model = untrained(model, test.seed)
    items = hard_items("validation", test.scenes, objects=3, size=test.size, style=style)
    recordings = record_items(model, items, noise_level=test.noise_level, keep=kept_of(model.family), seed=test.seed)
    effects = [key_effects(recording) for recording in recordings]
    rows = [
        {"item": number, **row}
        for number, (recording, item, of) in enumerate(zip(recordings, items, effects, strict=True))
        for row in profile_rows(run.name, of.blocks, profile_of(recording, item, of))
    ]
    profiles = profile_means(pd.DataFrame(rows), seed=test.seed).drop(columns="source")
    return {"profiles": profiles, "sinks": _sinks(effects, test.seed)}


def _sinks(effects: Sequence[KeyEffects], seed: int) -> pd.DataFrame:
    """A row: how many sinks are called, and the strongest role that at least half of the scenes have."""
    sinks = call_sinks(effects, seed=seed)
    strongest = sinks[2 * sinks["scenes"] >= len(effects)].sort_values("effect").iloc[-1]
    about = {column: strongest[column] for column in ("effect", "low", "high", "block", "role")}
    return pd.DataFrame([{"pairs": len(sinks), "called": int(sinks["is_sink"].sum()), **about}])


def main(
    runs: Annotated[list[Path], typer.Option("--run", help="Working folder of a training; give several.")],
    configuration: Annotated[str, typer.Option(help=f"Trained: one of {', '.join(CONFIGURATIONS)}.")] = "small",
    size: Annotated[int, typer.Option(help="Height and width of the pictures.", min=8)] = IMAGE_SIZE,
    scenes: Annotated[int, typer.Option(help="Of the validation split.", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="Of noise, untrained weights and statistics.")] = 0,
    name: Annotated[str, typer.Option(help="Of the result, in the folder results.")] = NAME,
) -> None:
    """Measure attention along trainings, at the steps that were put aside, and write the result."""
    test = MilestonesTest(configuration=configuration, size=size, scenes=scenes, seed=seed)
    print(run(runs, test, name=name, progress=True)["sinks"].round(3).to_string(index=False))


if __name__ == "__main__":
    typer.run(main)
