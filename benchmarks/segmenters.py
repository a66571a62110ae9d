"""What makes MobileSAM faster: ``python -m benchmarks.segmenters`` writes ``results/segmenter-speed``.

The time of one ``set_image`` with each speed-up by itself and with several, in interleaved rounds, as ratios to the
model as timm and the checkpoint give it; how far each one's embeddings are from that model's; and, since a smaller
input draws other masks, the IoU with the hand-drawn outlines at each size. On two cores it takes about five minutes,
much of it compiling, and wants the machine for itself. The weights are fetched if they are not in the cache.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from numpy.typing import NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from timm.models.tiny_vit import Attention
from torch import nn

from benchmarks.measure import interleaved, ratios
from refam_analysis.analysis.statistics import bootstrap_interval
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.evaluation.masks import inner_points
from refam_analysis.evaluation.metrics import mask_ious
from refam_analysis.evaluation.photographs import photograph_items
from refam_analysis.experiments.provenance import RESULTS, ROOT, Result, Stopwatch, write_result
from refam_analysis.segmentation.segmenters.checkpoints import load_sam
from refam_analysis.segmentation.segmenters.sam import SamSegmenter
from refam_analysis.segmentation.segmenters.tiny_vit import fold_norms
from refam_analysis.weights import WEIGHTS, WeightsFile, fetch

NAME = "segmenter-speed"
MODULE = "benchmarks.segmenters"
OUTLINES = ROOT / "tests" / "data" / "photographs" / "outlines.json"
PLAIN, DEFAULT, COMPILED = "as published", "default", "default, compiled"
SIZES = (1024, 768, 512)
"""Pixels of the longer side inside the model."""

Image = NDArray[np.uint8]
app = typer.Typer(add_completion=False, help=__doc__)


def published(path: Path) -> Sam:
    """The model with timm's own attention, its normalisations apart, and channels first."""
    sam = load_sam(path, fast=False)
    for module in sam.image_encoder.modules():
        if isinstance(module, Attention):
            module.__class__ = Attention
    return sam


def channels_last(sam: Sam) -> Sam:
    """The published model with its weights laid out with channels last."""
    sam.image_encoder.to(memory_format=torch.channels_last)
    return sam


def folded(sam: Sam) -> Sam:
    """The published model with every normalisation in the convolution before it."""
    fold_norms(sam.image_encoder)
    return sam


def halved(sam: Sam) -> Sam:
    """A model whose image encoder computes in bfloat16; what it gives is float32 again."""
    sam.image_encoder = _Halved(sam.image_encoder)
    return sam


class _Halved(nn.Module):
    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.inside, self.img_size = encoder.to(torch.bfloat16), encoder.img_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inside(images.to(torch.bfloat16)).float()


def compiled(sam: Sam) -> Sam:
    """A model whose image encoder goes through torch.compile, with its weights as constants."""
    sam.image_encoder.forward = torch.compile(sam.image_encoder.forward, options={"freezing": True})
    return sam


@dataclass(frozen=True)
class Variant:
    """One way to encode an image.

    Attributes:
        make: the model from the checkpoint.
        mode: under which PyTorch runs.
    """

    make: Callable[[Path], Sam]
    mode: Callable[[], Any] = torch.no_grad

    def prepared(self, path: Path, image: Image) -> Callable[[], torch.Tensor]:
        """Encode the image once at each call; gives the embedding."""
        predictor = SamPredictor(self.make(path))

        def encode() -> torch.Tensor:
            with self.mode():
                predictor.set_image(image)
            return predictor.features

        return encode


def _with_gradients(path: Path) -> Sam:
    """Gradients are kept, as where one forgets to switch them off; the predictor would switch them off."""
    sam = published(path)
    forward = sam.image_encoder.forward
    sam.image_encoder.forward = torch.enable_grad()(forward)
    return sam


VARIANTS: Mapping[str, Variant] = {
    PLAIN: Variant(published),
    "with gradients": Variant(_with_gradients),
    "inference mode": Variant(published, torch.inference_mode),
    "channels last": Variant(lambda path: channels_last(published(path))),
    "folded normalisation": Variant(lambda path: folded(published(path))),
    "fused attention": Variant(partial(load_sam, fast=False)),
    DEFAULT: Variant(load_sam),
    "default, bfloat16": Variant(lambda path: halved(load_sam(path))),
    **{f"default, {size} pixels": Variant(partial(load_sam, image_size=size)) for size in SIZES[1:]},
    COMPILED: Variant(lambda path: compiled(load_sam(path)), torch.inference_mode),
}
"""The first is what the others are compared with; "default" is what load_segmenter gives."""


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference of two embeddings, in standard deviations; NaN where their grids differ."""
    if found.shape != expected.shape:
        return float("nan")
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max() / expected.std())


def speed(path: Path, image: Image, rounds: int, names: list[str]) -> pd.DataFrame:
    """Seconds, ratios and distances of some variants; one that cannot run here is left out, and said."""
    works, distances, expected = {}, {}, VARIANTS[PLAIN].prepared(path, image)()
    for name in names:
        work = VARIANTS[name].prepared(path, image)
        try:
            distances[name] = distance(work(), expected)
        except Exception as error:  # no compiler, or no kernel for this processor
            print(f"{name} does not run here: {str(error).splitlines()[0]}")
            continue
        works[name] = work
    table = ratios(interleaved(works, rounds=rounds), against=PLAIN)
    return table.assign(distance=[distances[name] for name in table["name"]])


def quality(path: Path, items: list[GroundingItem], sizes: tuple[int, ...] = SIZES) -> pd.DataFrame:
    """A row an object and input size: ``iou`` of the candidate with the highest score, ``best`` of the three."""
    points, rows = inner_points(items), []
    for size in sizes:
        segmenter = SamSegmenter(load_sam(path, image_size=size))
        for item, point in zip(items, points, strict=True):
            segmenter.set_image(item.image)
            (masks,), (scores,) = segmenter.predict([point])
            ious = mask_ious(masks, [item.masks[0]] * len(masks))
            rows.append(
                {"image_size": size, "photograph": item.kind, "object": item.expression, "x": point[0], "y": point[1],
                 "score": float(scores.max()), "iou": ious[scores.argmax()], "best": ious.max()}
            )  # fmt: skip
    return pd.DataFrame(rows)


def quality_summary(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Mean IoU of each input size, and its change from the largest, with intervals that draw whole photographs."""
    rows, sizes = [], table["image_size"].unique()
    for column in ("iou", "best"):
        wide = table.pivot(index=["photograph", "object"], columns="image_size", values=column)[sizes]
        by_photograph = wide.groupby("photograph").mean().to_numpy()
        change = by_photograph - by_photograph[:, [0]]
        intervals = bootstrap_interval(by_photograph, seed=seed), bootstrap_interval(change, seed=seed)
        for place, size in enumerate(sizes):
            row = {"measure": column, "image_size": size}
            for name, values, (low, high) in zip(("mean", "change"), (by_photograph, change), intervals, strict=True):
                row |= {name: values[:, place].mean(), f"{name}_low": low[place], f"{name}_high": high[place]}
            rows.append({**row, "photographs": len(by_photograph), "objects": len(wide)})
    return pd.DataFrame(rows)


def measure(rounds: int, results: Path, names: list[str]) -> Result:
    """Measure everything and write the result."""
    watch, entry = Stopwatch(), WEIGHTS["mobile-sam"]
    assert isinstance(entry, WeightsFile)
    path, items = fetch(entry, progress=True), photograph_items(OUTLINES)
    image = next(item.image for item in items if item.kind == "coffee.png")
    table = quality(path, items)
    tables = {"speed": speed(path, image, rounds, names), "quality": table, "quality_summary": quality_summary(table)}
    configuration = {
        "rounds": rounds, "variants": names, "image": [*image.shape], "threads": torch.get_num_threads(),
        "weights": {entry.name: entry.sha256},
    }  # fmt: skip
    some = "" if names == list(VARIANTS) else "".join(f" --variant {shlex.quote(name)}" for name in names)
    provenance = watch.provenance(f"python -m {MODULE} --rounds {rounds}{some}", configuration, weights={})
    return write_result(NAME, tables, provenance, results=results)


@app.command()
def run(
    rounds: Annotated[int, typer.Option(help="Of all variants.")] = 15,
    variant: Annotated[list[str] | None, typer.Option(help="Measure this one; give several, or none for all.")] = None,
    results: Annotated[Path, typer.Option(help="Folder of results.")] = RESULTS,
) -> None:
    """Measure, write the result and print the tables."""
    result = measure(rounds, results, list(dict.fromkeys([PLAIN, *(variant or VARIANTS)])))
    for name in ("speed", "quality_summary"):
        print(result[name].round(4).to_string(index=False))


if __name__ == "__main__":
    app()
