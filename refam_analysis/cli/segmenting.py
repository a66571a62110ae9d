"""Commands that turn sentences into masks: one sentence, or a table of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from refam_analysis.cli.drawing import check_picture_path, draw_overlay, write_mask
from refam_analysis.cli.heatmap_options import MaskChoiceOption, chosen_reading, reads_heatmaps
from refam_analysis.cli.options import (
    MAGNETS,
    ExpressionOption,
    ImageOption,
    MagnetsOption,
    ModelOption,
    OutputError,
    SeedOption,
    SegmenterOption,
    progress,
    written_output,
)

if TYPE_CHECKING:
    from refam_analysis.segmentation import SegmentationResult
    from refam_analysis.segmentation.video import VideoResult


@reads_heatmaps
def segment(
    image: ImageOption,
    expression: ExpressionOption,
    out: Annotated[Path, typer.Option(help="The mask: black and white, of the picture's size.")],
    reading: Mapping[str, Any],
    model: ModelOption = "embedded",
    magnets: MagnetsOption = MAGNETS,
    segmenter: SegmenterOption = None,
    mask_choice: MaskChoiceOption = "score",
    seed: SeedOption = 0,
    overlay: Annotated[Path | None, typer.Option(help="Also draw the mask and the point over the picture.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write every intermediate, from prompt to scores, as JSON.")
    ] = None,
) -> None:
    """Find the object that a sentence refers to, and write its mask."""
    for path in (out, overlay):
        check_picture_path(path)
    if json_file is not None and json_file.is_dir():
        raise OutputError(json_file, "it is a folder")
    with progress("loading the model", "reading its attention", "writing") as step:
        from refam_analysis import models, segmentation

        loaded = models.load_model(model, device=models.usual_device(model))
        settings = chosen_reading(loaded, reading)
        step()
        result = segmentation.segment(
            loaded, image, expression, magnets=magnets.split(), segmenter=segmenter, settings=settings,
            mask_choice=mask_choice, seed=seed,
        )  # fmt: skip
        step()
        write_mask(result.mask, out)
        if overlay is not None:
            draw_overlay(result, overlay)
        if json_file is not None:
            write_json(result, json_file)
        step()
    x, y = result.point
    score = result.stages["scores"][result.stages["chosen"]]
    typer.echo(f"{out}: {result.mask.sum()} pixels around the point ({x:g}, {y:g}), predicted IoU {score:.2f}")


@reads_heatmaps
def segment_batch(
    csv: Annotated[Path, typer.Option(help="Table with the columns image and expression, and magnets if you like.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; the same command completes an interrupted one.")],
    reading: Mapping[str, Any],
    model: ModelOption = "embedded",
    magnets: MagnetsOption = MAGNETS,
    segmenter: SegmenterOption = None,
    mask_choice: MaskChoiceOption = "score",
    seed: SeedOption = 0,
    on_error: Annotated[
        Literal["stop", "skip"], typer.Option(help="At a row that cannot be answered; skipped ones are listed.")
    ] = "stop",
    overlays: Annotated[bool, typer.Option(help="Also draw each mask and point over its picture.")] = False,
    intermediates: Annotated[bool, typer.Option(help="Also write every intermediate of each row as JSON.")] = False,
    batch_size: Annotated[int, typer.Option(help="Sentences of one picture in a forward pass.", min=1)] = 16,
) -> None:
    """Segment every row of a table: masks and a table of results into a folder."""
    from refam_analysis.segmentation import batch, batch_table

    rows = batch_table.read_rows(csv)
    extras: dict[str, Any] = {"overlays": (".png", draw_overlay)} if overlays else {}
    extras |= {"intermediates": (".json", write_json)} if intermediates else {}
    from refam_analysis import models

    loaded = models.load_model(model, device=models.usual_device(model))
    options = batch.BatchOptions(
        chosen_reading(loaded, reading), tuple(magnets.split()), segmenter, mask_choice=mask_choice, seed=seed
    )
    report = batch.segment_rows(
        loaded, rows, out, options, on_error=on_error, extras=extras, batch_size=batch_size,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    skipped = f", {len(report.skipped)} skipped ({batch.SKIPPED} says why)" if len(report.skipped) else ""
    typer.echo(f"{out / batch.RESULTS}: {len(report.results)} rows{skipped}")


def write_json(result: SegmentationResult | VideoResult, path: Path) -> None:
    """Write every intermediate, as the result's ``to_dict`` gives it."""
    text = json.dumps(result.to_dict(), allow_nan=False)
    with written_output(path) as place:
        place.write_text(text + "\n", encoding="utf-8")
