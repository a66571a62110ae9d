"""``refam segment-video``: a sentence and a clip in, masks, an overlay video and what happened out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from refam_analysis.cli.heatmap_options import MaskChoiceOption, chosen_reading, reads_heatmaps
from refam_analysis.cli.options import (
    MAGNETS,
    ExpressionOption,
    MagnetsOption,
    ModelOption,
    OutputError,
    SeedOption,
    SegmenterOption,
)
from refam_analysis.cli.segmenting import write_json


@reads_heatmaps
def segment_video(
    video: Annotated[Path, typer.Option(help="A video file, or a folder of pictures.")],
    expression: ExpressionOption,
    out: Annotated[
        Path, typer.Option(help="Folder of the masks, a PNG a frame; the same command completes an interrupted one.")
    ],
    reading: Mapping[str, Any],
    model: ModelOption = "embedded",
    magnets: MagnetsOption = MAGNETS,
    segmenter: SegmenterOption = None,
    propagation: Annotated[
        str, typer.Option(help='"reprompting" of the segmenter, or a SAM 2 video model by hub id or folder.')
    ] = "reprompting",
    mask_choice: MaskChoiceOption = "score",
    clip: Annotated[int, typer.Option(help="Frames that a video model is shown; 0 for all that it takes.", min=0)] = 1,
    ask_again: Annotated[bool, typer.Option(help="Ask the model anew while the object is lost.")] = False,
    seed: SeedOption = 0,
    overlay: Annotated[Path | None, typer.Option(help="Also write a video of the masks over the frames.")] = None,
    rate: Annotated[float, typer.Option(help="Frames a second of that video.", min=0.1)] = 12.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write every intermediate and every frame's outcome as JSON.")
    ] = None,
) -> None:
    """Find the object that a sentence refers to, and follow it through a clip."""
    if json_file is not None and json_file.is_dir():
        raise OutputError(json_file, "it is a folder")
    from refam_analysis import models
    from refam_analysis.segmentation import video as room

    frames = room.open_frames(video)
    loaded = models.load_model(model, device=models.usual_device(model))
    result = room.segment_video(
        loaded, frames, expression, magnets=magnets.split(), segmenter=segmenter, propagation=propagation,
        settings=chosen_reading(loaded, reading), mask_choice=mask_choice, clip=clip or None, ask_again=ask_again,
        seed=seed, store=out, progress=sys.stderr.isatty(),
    )  # fmt: skip
    if overlay is not None:
        room.write_overlay(overlay, frames, result.masks, rate=rate)
    if json_file is not None:
        write_json(result, json_file)
    x, y = result.point
    typer.echo(f"{out}: {len(result.masks)} frames from the point ({x:g}, {y:g}), in sight in {result.visible.sum()}")
    for row in result.events.itertuples():
        typer.echo(f"frame {row.frame}: {row.event}")
