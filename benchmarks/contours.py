"""Contour accuracy F beside the official code: ``python -m benchmarks.contours`` writes ``results/contour-speed``.

Both score the same pairs of masks, a frame at a time, in interleaved rounds on one core. What is called official here
is ``f_measure`` of the DAVIS 2017 evaluation, written out without its void pixels: outlines with numpy, the dilation
with OpenCV and the disk of scikit-image. Its dilations alone are timed too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from skimage.morphology import disk

from benchmarks.measure import interleaved, ratios
from refam_analysis.evaluation.metrics import contour_accuracies
from refam_analysis.experiments.provenance import RESULTS, Stopwatch, write_result

NAME = "contour-speed"
MODULE = "benchmarks.contours"
SIZE = (480, 854)
RADIUS = 8
"""0.008 of the diagonal of 480 x 854, rounded up."""

Masks = NDArray[np.bool_]
app = typer.Typer(add_completion=False, help=__doc__)


def pairs(kind: str, frames: int, seed: int = 0) -> tuple[Masks, Masks]:
    """Masks as predicted and true, (frame, height, width): an object of some size, or noise, the worst case."""
    rng = np.random.default_rng(seed)
    if kind == "noise":
        predicted, true = rng.random((2, frames, *SIZE)) < 0.5
        return predicted, true
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    half = {"small": 0.05, "medium": 0.2, "large": 0.6}[kind]
    masks = []
    for _ in range(frames):
        middle = np.array(SIZE) * rng.uniform(0.3, 0.7, 2)
        pair = []
        for _ in range(2):
            y, x = middle + rng.normal(0, 6, 2)
            angle = np.arctan2(rows - y, columns - x)
            wave = 1 + 0.2 * np.sin(5 * angle + rng.uniform(0, 6)) + 0.08 * np.sin(23 * angle)
            pair.append(np.hypot(rows - y, columns - x) < half * SIZE[0] / 2 * wave)
        masks.append(pair)
    predicted, true = np.array(masks).transpose(1, 0, 2, 3)
    return predicted, true


def official_outline(mask: Masks) -> Masks:
    """``_seg2bmap`` of the DAVIS 2017 evaluation, at the mask's own size."""
    right, below, diagonal = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    right[:, :-1] = mask[:, 1:]
    below[:-1, :] = mask[1:, :]
    diagonal[:-1, :-1] = mask[1:, 1:]
    outline = mask ^ right | mask ^ below | mask ^ diagonal
    outline[-1, :] = mask[-1, :] ^ right[-1, :]
    outline[:, -1] = mask[:, -1] ^ below[:, -1]
    outline[-1, -1] = False
    return outline


def official_dilation(outline: Masks) -> NDArray[np.uint8]:
    """OpenCV's dilation by the disk."""
    return cv2.dilate(outline.astype(np.uint8), disk(RADIUS).astype(np.uint8))


def official_f(predicted: Masks, true: Masks) -> float:
    """``f_measure`` of the DAVIS 2017 evaluation, of one frame."""
    ours, truth = official_outline(predicted), official_outline(true)
    near_ours = truth * official_dilation(ours)
    near_truth = ours * official_dilation(truth)
    ours_size, truth_size = np.sum(ours), np.sum(truth)
    if ours_size == 0 or truth_size == 0:
        return float(ours_size == truth_size)
    precision, recall = np.sum(near_truth) / float(ours_size), np.sum(near_ours) / float(truth_size)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def official(predicted: Masks, true: Masks) -> list[float]:
    """F of every frame."""
    return [official_f(p, t) for p, t in zip(predicted, true, strict=True)]


def dilations(outlines: list[Masks]) -> list[NDArray[np.uint8]]:
    """The morphology alone: outlines are given."""
    return [official_dilation(outline) for outline in outlines]


def variants(kind: str, frames: int) -> Mapping[str, Callable[[], object]]:
    """What is timed, by name, over the same masks; both must agree."""
    predicted, true = pairs(kind, frames)
    np.testing.assert_allclose(contour_accuracies(predicted, true), official(predicted, true), atol=1e-9)
    outlines = [official_outline(mask) for mask in (*predicted, *true)]
    return {
        "official": partial(official, predicted, true),
        "official dilations alone": partial(dilations, outlines),
        "refam": partial(contour_accuracies, predicted, true),
    }


@app.command()
def run(
    rounds: Annotated[int, typer.Option(help="For each sort of masks.")] = 25,
    frames: Annotated[int, typer.Option(help="Pairs of masks a round.")] = 20,
    results: Annotated[Path, typer.Option(help="Folder of results.")] = RESULTS,
) -> None:
    """Measure, write the result and print the table."""
    cv2.setNumThreads(1)
    watch, parts = Stopwatch(), []
    for kind in ("small", "medium", "large", "noise"):
        table = ratios(interleaved(variants(kind, frames), rounds=rounds), against="official")
        parts.append(table.assign(masks=kind, milliseconds_a_frame=1000 * table["seconds"] / frames))
    table = pd.concat(parts, ignore_index=True)
    configuration = {"rounds": rounds, "frames": frames, "size": SIZE, "threads": 1, "opencv": cv2.__version__}
    provenance = watch.provenance(f"python -m {MODULE} --rounds {rounds} --frames {frames}", configuration, weights={})
    write_result(NAME, {"speed": table}, provenance, results=results)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    app()
