"""``refam weights``: named weights, from a shell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from refam_analysis.cli.options import Commands

weights = typer.Typer(
    cls=Commands, help="Weights of segmenters: what there is, get them, check them.", no_args_is_help=True
)

FolderOption = Annotated[
    Path | None, typer.Option(help="Folder of the cache; the one of REFAM_CACHE or of the platform by default.")
]


@weights.command("list")
def weights_list(folder: FolderOption = None) -> None:
    """Show all named weights, and which of them are in the cache."""
    from refam_analysis.weights import WEIGHTS, WeightsFile, cache_folder, is_fetched

    width = max(map(len, WEIGHTS))
    for name, entry in WEIGHTS.items():
        size = f"{entry.size / 1e6:8,.0f} MB" if isinstance(entry, WeightsFile) else f"{'on the hub':>11}"
        here = "in the cache" if is_fetched(entry, folder=folder) else ""
        typer.echo(f"{name:{width}}  {size}  {entry.licence:10}  {here:12}  {entry.about}")
    typer.echo(f"The cache: {folder or cache_folder()}")


@weights.command("fetch")
def weights_fetch(
    names: Annotated[list[str], typer.Argument(help="Of the list.")], folder: FolderOption = None
) -> None:
    """Have weights in the cache, whole and checked. What was interrupted goes on where it stopped."""
    from refam_analysis.weights import fetch

    for name in names:
        typer.echo(f"{name}: {fetch(name, folder=folder, progress=sys.stderr.isatty())}")


@weights.command("verify")
def weights_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Of the list; none for all in the cache.")] = None,
    folder: FolderOption = None,
) -> None:
    """Check weights in the cache against their sha256, and end with status 1 if any is broken or missing."""
    from refam_analysis.weights import WEIGHTS, WeightsError, cache_folder, is_fetched, verify

    broken = False
    chosen = names or [name for name, entry in WEIGHTS.items() if is_fetched(entry, folder=folder)]
    if not chosen:
        typer.echo(f"Nothing is in the cache: {folder or cache_folder()}")
    for name in chosen:
        try:
            typer.echo(f"{name}: as it should be, {verify(name, folder=folder)}")
        except WeightsError as error:
            broken = True
            typer.echo(f"{name}: {error}", err=True)
    if broken:
        raise typer.Exit(1)
