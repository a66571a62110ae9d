"""``refam``: the library from a shell. Options in, one library call, a file out; nothing is decided here."""

from __future__ import annotations

import typer

from refam_analysis.cli import commands, science
from refam_analysis.cli.experiments import experiment
from refam_analysis.cli.options import Commands

app = typer.Typer(
    name="refam",
    cls=Commands,
    help="Look into the attention of diffusion transformers, and turn it into masks.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (
    commands.segment,
    commands.record,
    commands.estimate,
    commands.demo,
    science.sinks,
    science.claims,
    science.bundle,
):
    app.command()(command)
app.add_typer(experiment, name="experiment")
