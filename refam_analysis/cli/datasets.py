"""``refam datasets``: which benchmarks there are, and whether a release on disk is complete."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

benchmarks = typer.Typer(help="The published benchmarks: which there are, and whether a copy is complete.",
                       no_args_is_help=True)  # fmt: skip


@benchmarks.command("list")
def list_datasets() -> None:
    """Print the data sets that can be read, their splits, and where to get them."""
    from refam_analysis.evaluation.datasets.catalogue import BENCHMARKS

    for name, benchmark in BENCHMARKS.items():
        kind = "clips" if benchmark.video else "pictures"
        typer.echo(f"{name}: {benchmark.title}, {kind}; splits {', '.join(benchmark.splits)}")
        typer.echo(f"    {benchmark.get}")


@benchmarks.command("check")
def check(
    name: Annotated[str, typer.Option(help="Of the data set, as `refam datasets list` prints it.")],
    root: Annotated[str, typer.Option(help="Folder of its release, or an address such as s3://bucket/coco.")],
    split: Annotated[list[str] | None, typer.Option(help="To look at; give several, or none for all.")] = None,
    pixels: Annotated[bool, typer.Option(help="Read every picture, frame and mask too.")] = False,
    most: Annotated[int, typer.Option(help="Problems to write out.", min=0)] = 20,
) -> None:
    """Say what of a release is there and what is missing; status 1 where it is incomplete."""
    from tqdm.auto import tqdm

    from refam_analysis.evaluation.datasets.checking import check_dataset

    found = check_dataset(
        name, root, splits=split or (), pixels=pixels,
        progress=lambda items, title: tqdm(items, desc=title, disable=not sys.stderr.isatty()),
    )  # fmt: skip
    typer.echo(found.summary(most=most))
    if not found.complete:
        raise typer.Exit(1)
