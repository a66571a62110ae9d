"""``refam``: the library from a shell. Options in, one library call, a file out; nothing is decided here."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from refam_analysis.errors import RefamError
from refam_analysis.prompts.magnets import DEFAULT_MAGNETS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from refam_analysis.segmentation import SegmentationResult


class OutputError(RefamError, OSError):
    """A file that should be written cannot be."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{str(path)!r} cannot be written: {reason}. Give another path.")


class _Commands(TyperGroup):
    """Tells what was wrong with the input in one sentence, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RefamError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    name="refam",
    cls=_Commands,
    help="Look into the attention of diffusion transformers, and turn it into masks.",
    no_args_is_help=True,
    add_completion=False,
)

ImageOption = Annotated[Path, typer.Option(help="The picture: PNG, JPEG, WebP or TIFF.")]
ExpressionOption = Annotated[str, typer.Option(help='What to look for, such as "the red circle on the left".')]
ModelOption = Annotated[
    str, typer.Option(help='"embedded", a name on the model hub, or a folder.', envvar="REFAM_MODEL")
]
MagnetsOption = Annotated[str, typer.Option(help='Words appended to the expression, between spaces; "" for none.')]
SeedOption = Annotated[int, typer.Option(help="Of the noise.")]
SizeOption = Annotated[tuple[int, int] | None, typer.Option(help="Height and width; the model's own by default.")]
KeepOption = Annotated[list[str] | None, typer.Option(help="A quantity to keep; give several, or none for the usual.")]
BlockOption = Annotated[list[int] | None, typer.Option(help="A block to keep; give several, or none for all.")]
GasOption = Annotated[
    Literal["none", "suppress", "redirect"] | None,
    typer.Option(help="What is done to attention sinks; the model's own choice by default."),
]
ResultsOption = Annotated[Path | None, typer.Option(help="Folder of results; the repository's by default.")]

_MAGNETS = " ".join(DEFAULT_MAGNETS)


@app.command()
def segment(
    image: ImageOption,
    expression: ExpressionOption,
    out: Annotated[Path, typer.Option(help="The mask: black and white, of the picture's size.")],
    model: ModelOption = "embedded",
    magnets: MagnetsOption = _MAGNETS,
    segmenter: Annotated[str, typer.Option(help='"embedded", or the folder of a small Sam.')] = "embedded",
    gas: GasOption = None,
    seed: SeedOption = 0,
    overlay: Annotated[Path | None, typer.Option(help="Also draw the mask and the point over the picture.")] = None,
) -> None:
    """Find the object that a sentence refers to, and write its mask."""
    for path in (out, overlay):
        _check_picture_path(path)
    with _progress("loading the model", "reading its attention", "writing") as step:
        from refam_analysis import models, segmentation

        loaded = models.load_model(model)
        step()
        result = segmentation.segment(
            loaded, image, expression, magnets=magnets.split(), segmenter=segmenter, gas=gas, seed=seed
        )
        step()
        _write_mask(result.mask, out)
        if overlay is not None:
            _draw_overlay(result, overlay)
        step()
    x, y = result.point
    typer.echo(f"{out}: {result.mask.sum()} pixels around the point ({x:g}, {y:g}), "
               f"predicted IoU {result.stages['scores'].max():.2f}")  # fmt: skip


@app.command()
def record(
    image: ImageOption,
    expression: ExpressionOption,
    out: Annotated[Path | None, typer.Option(help="The recording: a zarr folder that is not there yet.")] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Instead of --out: written block by block; the same command completes an interrupted one."),
    ] = None,
    model: ModelOption = "embedded",
    magnets: MagnetsOption = "",
    noise_level: Annotated[
        list[float], typer.Option(help="0 is the picture, 1 noise alone; give several for steps.")
    ] = [0.6],  # noqa: B006, E501
    keep: KeepOption = None,
    block: BlockOption = None,
    size: SizeOption = None,
    seed: SeedOption = 0,
) -> None:
    """Record what every block of the model attends to, for one picture and one sentence."""
    place = out or store
    if place is None or (out and store):
        raise typer.BadParameter("give either --out or --store")
    if out is not None and out.exists():
        raise OutputError(out, "something is there already")
    with _progress("loading the model", "recording", "writing") as step:
        from refam_analysis import models, recording

        loaded = models.load_model(model)
        step()
        recorded = recording.record(
            loaded, image, expression, magnets=magnets.split(), noise_level=noise_level, seed=seed,
            keep=keep or None, blocks=block or None, size=size, store=store,
            progress=store is not None and sys.stderr.isatty(),
        )  # fmt: skip
        step()
        if out is not None:
            recorded.save(out)
        step()
    typer.echo(f"{place}: {recorded!r}")


@app.command()
def estimate(
    model: ModelOption = "embedded",
    keep: KeepOption = None,
    block: BlockOption = None,
    size: SizeOption = None,
    steps: Annotated[int, typer.Option(help="How many noise levels.", min=1)] = 1,
    measure: Annotated[bool, typer.Option(help="Run one forward pass, to tell the time.")] = True,
) -> None:
    """Say what a recording will take in memory, on disk and of time."""
    with _progress("loading the model", "estimating") as step:
        from refam_analysis import models, recording

        loaded = models.load_model(model)
        step()
        estimated = recording.estimate(
            loaded, keep=keep or None, blocks=block or None, size=size, steps=steps, measure=measure
        )
        step()
    typer.echo(str(estimated))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The figure.")] = Path("refam-demo.png"),
    scene: Annotated[int, typer.Option(help="Which scene of the test split.", min=0, max=9999)] = 0,
    model: ModelOption = "embedded",
    magnets: MagnetsOption = _MAGNETS,
    segmenter: Annotated[str, typer.Option(help='"embedded", or the folder of a small Sam.')] = "embedded",
    seed: SeedOption = 0,
) -> None:
    """Draw a scene, find one of its objects by a sentence, and write the figure of the whole path."""
    _check_picture_path(out)
    with _progress("loading the model", "reading its attention", "drawing") as step:
        from refam_analysis import evaluation, models, segmentation

        (item,) = evaluation.hard_items("test", 1, skip=scene)
        loaded = models.load_model(model)
        step()
        result = segmentation.segment(
            loaded, item.image, item.expression, magnets=magnets.split(), segmenter=segmenter, seed=seed
        )
        step()
        truth = item.masks[item.target]
        _draw_pipeline(result, truth, out)
        step()
    found = "on" if evaluation.points_on([result.point], [truth])[0] else "off"
    typer.echo(f'{out}: "{item.expression}", point {found} the target, '
               f"IoU of the mask {evaluation.mean_iou([result.mask], [truth]):.2f}")  # fmt: skip


@app.command()
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

    survey = survey_sinks(
        models.load_model(model), scenes=scenes, noise_level=noise_level, magnets=magnets.split(),
        reference=reference, seed=seed, progress=sys.stderr.isatty(),
    )  # fmt: skip
    if out is not None:
        survey.save(out)
    typer.echo(survey.strongest().round(3).to_string(index=False))
    typer.echo(survey.summary())


@app.command()
def claims(
    out: Annotated[Path | None, typer.Option(help="Folder of the result; the repository's results by default.")] = None,
    model: ModelOption = "embedded",
    scenes: Annotated[int, typer.Option(help="Of the test split.", min=1)] = 500,
    control: Annotated[bool, typer.Option(help="Measure an untrained twin beside; it takes its memory again.")] = True,
    seed: SeedOption = 0,
) -> None:
    """Measure every claim of the paper on a model, and write the ledger; an interrupted run goes on."""
    from refam_analysis.experiments.claims import ledger

    place = out or ledger.RESULTS / ledger.NAME
    test = ledger.LedgerRun(model=model, scenes=scenes, control=control, seed=seed)
    result = ledger.run(test, out=place, progress=sys.stderr.isatty())
    text = ledger.as_markdown(result)
    (place / "ledger.md").write_text(text, encoding="utf-8")
    typer.echo(result["verdicts"][["claim", "verdict", "tested", "passed", "text"]].to_string(index=False))
    typer.echo(f"{place}: {result.provenance.seconds:.0f} seconds")


@app.command()
def bundle(
    ledger: Annotated[Path, typer.Option(help="Folder that `refam claims` wrote.")],
    out: Annotated[Path, typer.Option(help="The bundle: a folder that is not there yet.")],
    model: ModelOption = "embedded",
    scenes: Annotated[int, typer.Option(help="To record, without and with magnets.", min=0)] = 2,
    seed: SeedOption = 0,
) -> None:
    """Pack a model's ledger and some recordings into a small folder that the book shows beside the embedded model."""
    with _progress("loading the model", "packing") as step:
        from refam_analysis import models
        from refam_analysis.experiments.bundle import write_bundle

        loaded = models.load_model(model)
        step()
        packed = write_bundle(ledger, out, model=loaded, scenes=scenes, seed=seed)
        step()
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    typer.echo(f"{out}: {packed.model}, {len(packed.recordings)} recordings, {size / 1e6:.1f} MB")


experiment = typer.Typer(
    help="Make one of the committed results, of the embedded models, again; runs for minutes.", no_args_is_help=True
)
app.add_typer(experiment, name="experiment")


@experiment.command("settings")
def experiment_settings(
    items: Annotated[int, typer.Option(help="Validation scenes to find candidates on, and as many to choose.")] = 300,
    seed: SeedOption = 0,
    results: ResultsOption = None,
) -> None:
    """Search how heatmaps are best read, on validation scenes, and write it into the model's refam.json."""
    from refam_analysis.experiments import settings

    _make(settings.run, settings.SettingsSearch(items=items, seed=seed), results, "finalists")


@experiment.command("grounding")
def experiment_grounding(
    items: Annotated[int, typer.Option(help="Scenes of the test split.")] = 500,
    seed: SeedOption = 0,
    results: ResultsOption = None,
) -> None:
    """Count where the model's points fall on held-out scenes, beside the controls."""
    from refam_analysis.experiments import grounding

    _make(grounding.run, grounding.GroundingTest(items=items, seed=seed), results, "summary")


@experiment.command("generation")
def experiment_generation(
    items: Annotated[int, typer.Option(help="Captions of the test split.")] = 200,
    seed: SeedOption = 0,
    steps: Annotated[int | None, typer.Option(help="Of denoising; the model's own by default.")] = None,
    results: ResultsOption = None,
) -> None:
    """Draw pictures from held-out captions and judge their colours."""
    from refam_analysis.experiments import generation

    _make(generation.run, generation.GenerationTest(captions=items, seed=seed, steps=steps), results, "summary")


@experiment.command("segmenter")
def experiment_segmenter(
    items: Annotated[int, typer.Option(help="Scenes of the test split.")] = 500,
    seed: SeedOption = 0,
    results: ResultsOption = None,
) -> None:
    """Click into every object of held-out scenes and measure the masks."""
    from refam_analysis.experiments import segmenter

    _make(segmenter.run, segmenter.SegmenterTest(scenes=items, seed=seed), results, "summary")


@experiment.command("calibration")
def experiment_calibration(
    level_sets: Annotated[int, typer.Option(help="Data sets without sinks, of each pattern.", min=1)] = 120,
    power_sets: Annotated[int, typer.Option(help="Data sets with a planted sink, of each strength.", min=1)] = 90,
    seed: SeedOption = 0,
    results: ResultsOption = None,
) -> None:
    """Count the sink detector's false alarms on attention without sinks, and how often it finds planted ones."""
    from refam_analysis.experiments import calibration

    test = calibration.CalibrationTest(level_sets=level_sets, power_sets=power_sets, seed=seed)
    _make(calibration.run, test, results, "level")


@experiment.command("causal")
def experiment_causal(
    items: Annotated[int, typer.Option(help="Scenes of the test split.", min=1)] = 200,
    pictures: Annotated[int, typer.Option(help="Of them, those that pictures are drawn for.", min=0)] = 20,
    block: Annotated[list[int] | None, typer.Option(help="Act in this block; give several, or none for all.")] = None,
    seed: SeedOption = 0,
    results: ResultsOption = None,
) -> None:
    """Take sinks away from the model, and as many random tokens, and measure what changes."""
    from refam_analysis.experiments import causal

    blocks = tuple(sorted(set(block))) if block else None
    test = causal.CausalTest(scenes=items, pictures=pictures, blocks=blocks, seed=seed)
    _make(causal.run, test, results, "summary")


@experiment.command("magnets")
def experiment_magnets(
    items: Annotated[int, typer.Option(help="Scenes of the test split.", min=1)] = 300,
    seed: SeedOption = 0,
    results: ResultsOption = None,
) -> None:
    """Append magnets to the sentences, and what they are compared with, and measure what the heatmaps become."""
    from refam_analysis.experiments import magnets

    _make(magnets.run, magnets.MagnetTest(scenes=items, seed=seed), results, "contrasts")


@experiment.command("learning")
def experiment_learning(
    run: Annotated[Path | None, typer.Option(help="Working folder of the training; runs/embedded by default.")] = None,
    results: ResultsOption = None,
) -> None:
    """Turn the training's log into learning curves."""
    from refam_analysis.experiments import learning
    from refam_analysis.experiments.provenance import RESULTS

    result = learning.run(run or learning.RUN, results=results or RESULTS)
    last = result["curves"].groupby(["model", "quantity"], sort=False).tail(1)
    typer.echo(last.to_string(index=False))


@experiment.command("all")
def experiment_all(results: ResultsOption = None) -> None:
    """Make all of them, one after the other, as they are reported."""
    for make in (experiment_settings, experiment_grounding, experiment_generation, experiment_segmenter):
        make(results=results)
    experiment_calibration(results=results)
    experiment_causal(results=results)
    experiment_magnets(results=results)
    experiment_learning(results=results)


def _make(run: Any, configuration: Any, results: Path | None, table: str) -> None:
    """Run an experiment and print one of its tables."""
    from refam_analysis.experiments.provenance import RESULTS

    result = run(configuration, results=results or RESULTS, progress=sys.stderr.isatty())
    typer.echo(result[table].round(3).to_string(index=False))
    typer.echo(f"{result.name}: {result.provenance.seconds:.0f} seconds")


@contextmanager
def _progress(*steps: str) -> Iterator[Any]:
    """A bar over named steps on a terminal, nothing elsewhere. Calling what it gives ends a step."""
    from tqdm import tqdm

    names = iter(steps)
    with tqdm(total=len(steps), desc=next(names), bar_format="{desc}: {n}/{total} [{elapsed}]", disable=None) as bar:

        def end_step() -> None:
            bar.update()
            bar.set_description_str(next(names, "done"))

        yield end_step


def _check_picture_path(path: Path | None) -> None:
    """Refuse before the work starts what could not be written after it."""
    from PIL import Image

    if path is None:
        return
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise OutputError(path, "its ending names no picture format, such as .png")
    if path.is_dir():
        raise OutputError(path, "it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(path, f"its folder cannot be made ({error.strerror})") from error


def _write_mask(mask: NDArray[np.bool_], path: Path) -> None:
    from PIL import Image

    try:
        Image.fromarray(mask.astype("uint8") * 255).save(path)
    except OSError as error:
        raise OutputError(path, str(error)) from error


def _draw_overlay(result: SegmentationResult, path: Path) -> None:
    from refam_analysis import figures

    height, width = result.mask.shape
    with _figure(path, (6.0, 6.0 * height / width)) as figure:
        figures.mask_overlay(figure.subplots(), result.stages["image"], result.mask, point=result.point)


def _draw_pipeline(result: SegmentationResult, truth: NDArray[np.bool_], path: Path) -> None:
    from refam_analysis import figures

    tokens = result.stages["token_maps"]
    shown = tokens[[kind not in ("special", "padding", "template") for kind in tokens["kind"].values]]
    columns = min(8, len(shown) + 3)
    rows = math.ceil((len(shown) + 3) / columns)
    with _figure(path, (1.7 * columns, 2.2 * rows)) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
        for unused in axes[len(shown) + 3 :]:
            unused.remove()
        figures.pipeline_figure(
            axes[: len(shown) + 3],
            image=result.stages["image"],
            expression=result.stages["prompt"].expression,
            maps=shown,
            words=[str(text) for text in shown["text"].values],
            kinds=[str(kind) for kind in shown["kind"].values],
            heatmap=result.heatmap,
            point=result.point,
            mask=result.mask,
            truth=truth,
        )


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """A figure without a window, written when it is done."""
    from matplotlib.figure import Figure

    from refam_analysis.figures import figure_style

    with figure_style():
        figure = Figure(figsize=size)
        yield figure
        try:
            figure.savefig(path)
        except (OSError, ValueError) as error:
            raise OutputError(path, str(error)) from error


if __name__ == "__main__":
    app()
