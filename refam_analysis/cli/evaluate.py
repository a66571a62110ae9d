"""``refam evaluate`` and ``refam report``: benchmarks, run and told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from refam_analysis.cli.heatmap_options import MaskChoiceOption
from refam_analysis.cli.options import (
    MAGNETS,
    GasOption,
    MagnetsOption,
    ModelOption,
    SeedOption,
    SegmenterOption,
    written_output,
)

if TYPE_CHECKING:
    import pandas as pd

    from refam_analysis.evaluation.runner import RunResults


def evaluate(
    dataset: Annotated[str, typer.Option(help='Name, such as "refcoco"; "scenes" needs no files.')],
    split: Annotated[str, typer.Option(help='Of the data set, such as "val"; of scenes "test".')],
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run in it goes on.")],
    root: Annotated[str | None, typer.Option(help="Folder of the data set's release, or an address.")] = None,
    model: ModelOption = "embedded",
    segmenter: SegmenterOption = None,
    propagation: Annotated[
        str, typer.Option(help='How clips are followed: "reprompting", or a SAM 2 video model.')
    ] = "reprompting",
    magnets: MagnetsOption = MAGNETS,
    np: Annotated[bool | None, typer.Option("--np/--no-np", help="Read the noun phrase alone.")] = None,
    sb: Annotated[bool | None, typer.Option("--sb/--no-sb", help="Use the spatial bias of words of place.")] = None,
    gas: GasOption = None,
    mask_choice: MaskChoiceOption = "score",
    settings: Annotated[
        Path | None, typer.Option(help="JSON file of heatmap settings in place of the model's own.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="The first so many images or clips; all by default.", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Expressions a forward pass.", min=1)] = 16,
    on_error: Annotated[
        Literal["stop", "skip"], typer.Option(help="At what cannot be read or answered: stop, or list it and go on.")
    ] = "stop",
    seed: SeedOption = 0,
    ray: Annotated[
        str | None, typer.Option(help='A Ray cluster to run on: "auto", "host:port", or "local" for one made here.')
    ] = None,
) -> None:
    """Measure a model on a benchmark; kill it whenever you like, and start it again to go on."""
    from refam_analysis.evaluation import runner
    from refam_analysis.evaluation.report.scores import score_table
    from refam_analysis.evaluation.report.text import scores_as_text, state_of

    configuration = runner.RunConfiguration(
        dataset=dataset, split=split, root=root, model=model, segmenter=segmenter, propagation=propagation,
        magnets=tuple(magnets.split()), noun_phrase=np, spatial_bias=sb, gas=gas, mask_choice=mask_choice,
        settings=_settings(settings), seed=seed, limit=limit, batch_size=batch_size,
    )  # fmt: skip
    if ray is None:
        run = runner.evaluate(configuration, out, on_error=on_error, progress=True)
    else:
        from refam_analysis.evaluation.cluster import evaluate_on_cluster

        run = evaluate_on_cluster(configuration, out, address=ray, on_error=on_error, progress=True)
    typer.echo(f"{out}: {state_of(run)}")
    typer.echo(scores_as_text(score_table([run])))


def report(
    folders: Annotated[list[Path], typer.Argument(help="Of runs; further ones are compared with the first.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the report; `report` in the first run's folder.")] = None,
    root: Annotated[str | None, typer.Option(help="Folder of the data set, where it has moved since.")] = None,
    gallery: Annotated[int, typer.Option(help="Answers of each sort in the gallery; 0 for none.", min=0)] = 24,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Print and draw scores with published ones beside them, slices, differences of runs, and a gallery."""
    from refam_analysis.evaluation import runner
    from refam_analysis.evaluation.report import differences, scores, text

    runs = [runner.load_results(folder, name=name) for folder, name in zip(folders, _names(folders), strict=True)]
    place = out or folders[0] / "report"
    table = scores.score_table(runs, seed=seed)
    typer.echo("\n".join(text.state_of(run) for run in runs))
    _say("Scores in %, 95 % intervals over images", text.scores_as_text(table))
    for source in dict.fromkeys(text.beside_published(table).query("origin == 'published'")["source"]):
        typer.echo(f"published: {source}")
    tables = {"scores": text.beside_published(table)}
    for run in runs:
        sliced = tables[f"slices-{run.name}"] = scores.slice_table(run, seed=seed)
        _say(f"Slices of {run.name}", text.slices_as_text(sliced))
    compared = _of_same_data(runs)
    if len(compared) > 1:
        tables["differences"] = differences.difference_table(compared, seed=seed)
        _say("Differences in points of %, paired over images", text.differences_as_text(tables["differences"]))
        typer.echo(text.settings_as_text(compared))
    _write_tables(place, tables)
    _draw(place, tables)
    for run in runs if gallery else ():
        _write_gallery(run, place / f"gallery-{run.name}.html", gallery, root)
    typer.echo(f"\n{place}: " + ", ".join(sorted(path.name for path in place.iterdir() if path.is_file())))


def _settings(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import json

    from refam_analysis.segmentation.settings import HeatmapSettingsError

    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HeatmapSettingsError(f"{str(path)!r} cannot be read as JSON ({error}).") from error
    if not isinstance(entries, dict):
        raise HeatmapSettingsError(f"{str(path)!r} holds no settings by name, such as {{'noise_levels': [0.6]}}.")
    return entries


def _names(folders: list[Path]) -> list[str]:
    """The last part of each path, or as many as tell it from the others."""
    parts = [folder.resolve().parts[1:] or ("run",) for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["-".join(one[-length:]) for one in parts]
        if len(set(names)) == len(folders):
            return names
    raise typer.BadParameter("a folder is given twice")


def _of_same_data(runs: list[RunResults]) -> list[RunResults]:
    """The runs of the first one's data set and split."""

    def data(run: RunResults) -> tuple[str, str]:
        return run.about["configuration"]["dataset"], run.about["configuration"]["split"]

    return [run for run in runs if data(run) == data(runs[0])]


def _say(title: str, text: str) -> None:
    typer.echo(f"\n{title}\n{text}")


def _write_tables(place: Path, tables: dict[str, pd.DataFrame]) -> None:
    for name, table in tables.items():
        with written_output(place / f"{name}.csv") as file:
            table.to_csv(file, index=False)


def _draw(place: Path, tables: dict[str, pd.DataFrame]) -> None:
    from refam_analysis import figures
    from refam_analysis.cli.drawing import drawn_figure

    scores = tables["scores"]
    for (dataset, split), rows in scores.groupby(["dataset", "split"], sort=False):
        rows.attrs = scores.attrs
        metric = "J&F" if "J&F" in set(rows["metric"]) else "oIoU"
        lines = (rows["metric"] == metric).sum()
        with drawn_figure(place / f"scores-{dataset}-{split}.png", (6.5, 1.3 + 0.28 * lines)) as figure:
            figures.benchmark_scores(figure.subplots(), rows, metric=metric).set_title(f"{dataset} {split}")
    for name, table in tables.items():
        if name.startswith("slices-"):
            metric = "J&F" if "J&F" in set(table["metric"]) else "mIoU"
            lines = (table["metric"] == metric).sum()
            with drawn_figure(place / f"{name}.png", (6.5, 1.6 + 0.33 * lines)) as figure:
                figures.slice_scores(figure.subplots(), table, metric=metric)
    if "differences" in tables:
        table = tables["differences"]
        with drawn_figure(place / "differences.png", (6.5, 1.3 + 0.28 * len(table))) as figure:
            figures.run_differences(figure.subplots(), table)


def _write_gallery(run: RunResults, path: Path, number: int, root: str | None) -> None:
    """The page; where the pictures cannot be read, a word about it instead: the tables do not need them."""
    from refam_analysis.evaluation.datasets import DatasetError
    from refam_analysis.evaluation.report.gallery import write_gallery

    try:
        write_gallery(run, path, number=number, root=root)
    except DatasetError as error:
        typer.echo(f"No gallery of {run.name}: {error}", err=True)
