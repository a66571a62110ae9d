"""``refam``: the library from a shell. Options in, one library call, a file out; nothing is decided here."""

from __future__ import annotations

import typer

from refam_analysis.cli import commands, evaluate, science, segmenting
from refam_analysis.cli.datasets import benchmarks
from refam_analysis.cli.experiments import experiment
from refam_analysis.cli.options import Commands
from refam_analysis.cli.probe import probe
from refam_analysis.cli.video import segment_video
from refam_analysis.cli.weights import weights

app = typer.Typer(
    name="refam",
    cls=Commands,
    help="Look into the attention of diffusion transformers, and turn it into masks.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (
    segmenting.segment,
    segmenting.segment_batch,
    segment_video,
    commands.record,
    commands.estimate,
    commands.demo,
    science.sinks,
    science.claims,
    science.bundle,
    evaluate.evaluate,
    evaluate.report,
    probe,
):
    app.command()(command)
app.add_typer(experiment, name="experiment")
app.add_typer(benchmarks, name="datasets")
app.add_typer(weights, name="weights")
