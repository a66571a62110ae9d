"""What each course of a training added: the models that courses ended with, each read as suits it best.

    python -m refam_analysis.training.courses --model six=runs/plain/six/model --model twelve=runs/plain/complete/model

Where words point, what is drawn and what is read of a caption is measured on test scenes as it is of the weights that
ship, see `pointing`. A model may have any number of blocks: `all` leaves that of every course but the last in the
course's folder, and ``refam experiment`` measures what ships.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from tqdm.auto import tqdm

from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.training.pointing import (
    CaptionsOption,
    ExchangesOption,
    ResultsOption,
    ScenesOption,
    SearchOption,
    SeedOption,
    Sizes,
    chosen_reading,
    measured,
    print_measured,
    stacked,
)

NAME = "courses"
NOISE_LEVEL = 0.85
"""At which the loss feels most of a caption."""
EXCHANGES = ("colour", "shape", "place", "colours swapped", "places swapped")
DRAWN = ("colour fills the object", "object in the named place", "shape as named")


@dataclass(frozen=True)
class CoursesTest(Sizes):
    """How much is measured of every course."""

    def command(self, courses: Mapping[str, Path]) -> str:
        """Makes the result again; where the folders lie is left out."""
        models = " ".join(f"--model {name}={folder.name}" for name, folder in courses.items())
        return f"python -m refam_analysis.training.{NAME} {models} {self.options}"


def run(courses: Mapping[str, Path], test: CoursesTest, *, results: Path = RESULTS, progress: bool = False) -> Result:
    """Search and measure course by course, and write the result; a stopped call goes on with the next part.

    Args:
        courses: the folder of the exported model that each ended with, by its name. How it is read is written into the
            folder, and beside it are kept the results of its own, in ``results-<name>``.
        test: how much is measured.
        results: the folder of all results.
        progress: show bars.

    Returns:
        Four tables with a column ``course``: ``readings``, ``points``, ``drawing`` and ``exchanges``, as those of
        :func:`refam_analysis.training.pointing.run`.

    Raises:
        ModelFolderError: a folder holds no model that can be loaded.
    """
    watch = Stopwatch()
    digests = {name: weights_sha256(folder) for name, folder in courses.items()}
    about: dict[str, Any] = {**dataclasses.asdict(test), "courses": list(courses), "models": digests}
    parts = Parts(results.parent / ".cache", NAME, about)
    tables = []
    for name, folder in tqdm(courses.items(), desc="courses", disable=not progress):
        own = folder.parent / f"results-{name}"
        search = partial(chosen_reading, folder, test.search_settings, results=own, progress=progress)
        found = measured(folder, test, search, parts, name, results=own, progress=progress)
        tables.append({table: rows.assign(course=name) for table, rows in found.items()})
    result = write_result(NAME, stacked(tables), watch.provenance(test.command(courses), about, {}), results=results)
    parts.forget()
    return result


def side_by_side(models: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """What was measured of several models, in words.

    Args:
        models: by name, the tables ``points``, ``drawing`` and ``exchanges`` of each, as :func:`run` gives them of one
            course. They may have rows of more than is shown.

    Returns:
        A column a model, of strings such as "0.70 [0.66, 0.74]", with 95 % intervals. Its rows: by how much the
        diffusion loss grows for each exchange in a caption, in thousandths at noise level ``NOISE_LEVEL``; the share
        of points on the target; and shares of what is drawn.
    """
    return pd.DataFrame({name: _in_words(tables) for name, tables in models.items()})


def _in_words(tables: Mapping[str, pd.DataFrame]) -> pd.Series:
    """One column of :func:`side_by_side`."""
    felt = tables["exchanges"].query("noise_level == @NOISE_LEVEL").set_index("exchange").loc[list(EXCHANGES)]
    felt = (1000 * felt[["growth", "growth_low", "growth_high"]]).rename(index="loss: {}".format)
    point = tables["points"].query("source == 'model' and kind == 'all'")[["target", "target_low", "target_high"]]
    drawn = tables["drawing"].set_index("measure").loc[list(DRAWN), ["share", "low", "high"]]
    parts = [felt.round(1) + 0.0, point.set_axis(["points on the target"]).round(2),
             drawn.rename(index="drawn: {}".format).round(2)]  # fmt: skip
    rows = pd.concat([part.set_axis(["value", "low", "high"], axis=1) for part in parts])
    return rows.apply(lambda row: f"{row.value:g} [{row.low:g}, {row.high:g}]", axis=1)


def named_folder(text: str) -> tuple[str, Path]:
    """A name and a folder, as the command line gives them.

    Args:
        text: such as "six=runs/plain/six/model".

    Raises:
        typer.BadParameter: it has no name, or no folder.

    >>> named_folder("six=runs/six/model")[0]
    'six'
    """
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise typer.BadParameter(
            f"{text!r} is no course: give its name and the folder of its model, as in six=models/six."
        )
    return name, Path(folder)


def main(
    models: Annotated[list[str], typer.Option("--model", help="NAME=FOLDER of a course's model; give several.")],
    search: SearchOption = Sizes.search,
    scenes: ScenesOption = Sizes.scenes,
    captions: CaptionsOption = Sizes.captions,
    exchanges: ExchangesOption = Sizes.exchanges,
    seed: SeedOption = Sizes.seed,
    results: ResultsOption = RESULTS,
) -> None:
    """Measure the models that courses ended with: where words point, what is drawn, what the loss feels of captions."""
    test = CoursesTest(search=search, scenes=scenes, captions=captions, exchanges=exchanges, seed=seed)
    found = run(dict(map(named_folder, models)), test, results=results, progress=True)
    print_measured(found)


if __name__ == "__main__":
    typer.run(main)
