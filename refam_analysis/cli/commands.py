"""Commands that look at one picture: record, estimate, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from refam_analysis.cli.drawing import check_picture_path, draw_pipeline
from refam_analysis.cli.options import (
    MAGNETS,
    BlockOption,
    ExpressionOption,
    ImageOption,
    KeepOption,
    MagnetsOption,
    ModelOption,
    OutputError,
    SeedOption,
    SegmenterOption,
    SizeOption,
    progress,
)


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
    with progress("loading the model", "recording", "writing") as step:
        from refam_analysis import models, recording

        loaded = models.load_model(model, device=models.usual_device(model))
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


def estimate(
    model: ModelOption = "embedded",
    keep: KeepOption = None,
    block: BlockOption = None,
    size: SizeOption = None,
    steps: Annotated[int, typer.Option(help="How many noise levels.", min=1)] = 1,
    measure: Annotated[bool, typer.Option(help="Run one forward pass, to tell the time.")] = True,
) -> None:
    """Say what a recording will take in memory, on disk and of time."""
    with progress("loading the model", "estimating") as step:
        from refam_analysis import models, recording

        loaded = models.load_model(model, device=models.usual_device(model))
        step()
        estimated = recording.estimate(
            loaded, keep=keep or None, blocks=block or None, size=size, steps=steps, measure=measure
        )
        step()
    typer.echo(str(estimated))


def demo(
    out: Annotated[Path, typer.Option(help="The figure.")] = Path("refam-demo.png"),
    scene: Annotated[int, typer.Option(help="Which scene of the test split.", min=0, max=9999)] = 0,
    model: ModelOption = "embedded",
    magnets: MagnetsOption = MAGNETS,
    segmenter: SegmenterOption = None,
    seed: SeedOption = 0,
) -> None:
    """Draw a scene, find one of its objects by a sentence, and write the figure of the whole path."""
    check_picture_path(out)
    with progress("loading the model", "reading its attention", "drawing") as step:
        from refam_analysis import evaluation, models, segmentation

        loaded = models.load_model(model, device=models.usual_device(model))
        (item,) = evaluation.hard_items("test", 1, skip=scene, style=loaded.scene_style)
        step()
        result = segmentation.segment(
            loaded, item.image, item.expression, magnets=magnets.split(), segmenter=segmenter, seed=seed
        )
        step()
        truth = item.masks[item.target]
        draw_pipeline(result, truth, out)
        step()
    found = "on" if evaluation.points_on([result.point], [truth])[0] else "off"
    typer.echo(f'{out}: "{item.expression}", point {found} the target, '
               f"IoU of the mask {evaluation.mean_iou([result.mask], [truth]):.2f}")  # fmt: skip
