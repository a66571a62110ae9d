"""Commands that measure a model over many scenes: sinks, the ledger of claims, its bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from refam_analysis.cli.options import (
    MagnetsOption,
    ModelOption,
    SeedOption,
    StyleOption,
    progress,
    written_output,
)


def sinks(
    model: ModelOption = "embedded",
    scenes: Annotated[int, typer.Option(help="Of the validation split, one sentence each.", min=1)] = 20,
    noise_level: Annotated[float, typer.Option(help="0 is the picture, 1 noise alone.")] = 0.6,
    magnets: MagnetsOption = "",
    reference: Annotated[Literal["side", "kind", "all"], typer.Option(help="Which keys are a key's peers.")] = "side",
    out: Annotated[Path | None, typer.Option(help="Folder for both tables as CSV, every row of them.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Print a model's attention sinks, and the peak sink-to-random ratio of key importance."""
    from refam_analysis import models
    from refam_analysis.experiments.sink_survey import survey_sinks

    loaded = models.load_model(model, device=models.usual_device(model))
    survey = survey_sinks(
        loaded, scenes=scenes, noise_level=noise_level, magnets=magnets.split(),
        reference=reference, seed=seed, progress=sys.stderr.isatty(),
    )  # fmt: skip
    if out is not None:
        survey.save(out)
    typer.echo(survey.strongest().round(3).to_string(index=False))
    typer.echo(survey.summary())


def claims(
    out: Annotated[Path | None, typer.Option(help="Folder of the result; the repository's results by default.")] = None,
    model: ModelOption = "embedded",
    scenes: Annotated[int, typer.Option(help="Of the test split.", min=1)] = 500,
    control: Annotated[bool, typer.Option(help="Measure an untrained twin beside; it takes its memory again.")] = True,
    style: StyleOption = None,
    seed: SeedOption = 0,
) -> None:
    """Measure every claim of the paper on a model, and write the ledger; an interrupted run goes on."""
    from refam_analysis.experiments.claims import ledger
    from refam_analysis.experiments.provenance import RESULTS

    place = out or RESULTS / ledger.NAME
    test = ledger.LedgerRun(model=model, scenes=scenes, control=control, seed=seed, style=style)
    result = ledger.run(test, out=place, progress=sys.stderr.isatty())
    text = ledger.as_markdown(result)
    with written_output(place / "ledger.md") as file:
        file.write_text(text, encoding="utf-8")
    typer.echo(result["verdicts"][["claim", "verdict", "tested", "passed", "text"]].to_string(index=False))
    typer.echo(f"{place}: {result.provenance.seconds:.0f} seconds")


def bundle(
    ledger: Annotated[Path, typer.Option(help="Folder that `refam claims` wrote.")],
    out: Annotated[Path, typer.Option(help="The bundle: a folder that is not there yet.")],
    model: ModelOption = "embedded",
    scenes: Annotated[int, typer.Option(help="For the figures of the phenomena, two passes each.", min=1)] = 20,
    recordings: Annotated[int, typer.Option(help="Scenes whose maps are kept, with and without magnets.", min=0)] = 2,
    seed: SeedOption = 0,
) -> None:
    """Pack a model's ledger and its figures' data into a small folder that the book shows beside the embedded model."""
    with progress("loading the model", "packing") as step:
        from refam_analysis import models
        from refam_analysis.experiments.bundle import write_bundle

        loaded = models.load_model(model, device=models.usual_device(model))
        step()
        packed = write_bundle(ledger, out, model=loaded, scenes=scenes, recordings=recordings, seed=seed)
        step()
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    typer.echo(f"{out}: {packed.model}, {len(packed.recordings)} recordings, {size / 1e6:.1f} MB")
