"""Training of the embedded segmenter: segment-anything's own ``Sam``, small, on scenes.

Each picture is encoded once and asked for each of its objects by one point drawn uniformly inside the object's visible
part. The loss is SAM's: focal and dice on the best of the three candidate masks, and the squared error of every
mask's predicted IoU; the single mask that SAM gives without candidates is trained beside them.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
import typer
from scipy.stats import pearsonr
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from refam_analysis.scenes import Scene, SceneOptions, Scenes, render
from refam_analysis.segmentation.segmenters.embedded import SamConfig, save_embedded_sam, small_sam
from refam_analysis.training.checkpoints import (
    append_log,
    load_checkpoint,
    restore_training,
    save_checkpoint,
    training_tensors,
    update_average,
)

_OPTIONS = SceneOptions(objects=(1, 4), occlusion=0.3)
_LEAST_PIXELS = 20


class Clicks(NamedTuple):
    """Pictures, and one click an object.

    Attributes:
        images: float32 (picture, 3, size, size), RGB in [0, 255] as SAM takes them.
        picture: int64 (click,), which picture the click is in.
        points: float32 (click, 2), x and y in pixels.
        masks: float32 (click, size, size), 0 or 1: the visible part of the clicked object.
    """

    images: Tensor
    picture: Tensor
    points: Tensor
    masks: Tensor


def draw_clicks(scenes: list[Scene], rng: np.random.Generator, size: int) -> Clicks:
    """Render the scenes and click once into every object with at least 20 visible pixels, uniformly inside it."""
    rendering = render(scenes, size=size)
    kept = rendering.masks.sum((2, 3)) >= _LEAST_PIXELS
    picture, item = kept.nonzero(as_tuple=True)
    masks = rendering.masks[picture, item]
    points = []
    for mask in masks.numpy():
        rows, columns = mask.nonzero()
        chosen = int(rng.integers(len(rows)))
        points.append((columns[chosen], rows[chosen]))
    return Clicks(rendering.images * 255, picture, torch.tensor(points, dtype=torch.float32), masks.float())


def predict(sam: Sam, clicks: Clicks) -> tuple[Tensor, Tensor]:
    """Mask logits (click, 4, size, size) and predicted IoU (click, 4): SAM's single mask first, then the candidates.

    The same computation as SAM's mask decoder, but for clicks of many pictures at once: its own ``forward`` repeats one
    picture's embedding for all prompts.
    """
    embeddings = sam.image_encoder(sam.preprocess(clicks.images))[clicks.picture]
    labels = torch.ones(len(clicks.points), 1)
    sparse, dense = sam.prompt_encoder(points=(clicks.points[:, None], labels), boxes=None, masks=None)
    decoder = sam.mask_decoder
    own = torch.cat((decoder.iou_token.weight, decoder.mask_tokens.weight)).expand(len(sparse), -1, -1)
    positions = sam.prompt_encoder.get_dense_pe().expand(len(sparse), -1, -1, -1)
    states, grid = decoder.transformer(embeddings + dense, positions, torch.cat((own, sparse), 1))
    upscaled = decoder.output_upscaling(grid.transpose(1, 2).reshape(embeddings.shape))
    weights = torch.stack(
        [mlp(states[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )  # (click, mask, channel)
    logits = torch.einsum("nmc,nchw->nmhw", weights, upscaled)
    size = clicks.images.shape[-1]
    logits = functional.interpolate(logits, (size, size), mode="bilinear", align_corners=False)
    return logits, decoder.iou_prediction_head(states[:, 0])


def intersection_over_union(masks: Tensor, true: Tensor) -> Tensor:
    """IoU over the last two axes of boolean masks, which must not both be empty."""
    return (masks & true).sum((-2, -1)) / (masks | true).sum((-2, -1))


def sam_loss(logits: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """20 x focal + dice on the best candidate and on the single mask, and the squared error of predicted IoU."""
    target = true[:, None].expand_as(logits)
    cross = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = (1 - torch.exp(-cross)).square() * cross
    probability = logits.sigmoid()
    dice = 1 - (2 * (probability * target).sum((2, 3)) + 1) / (probability.sum((2, 3)) + target.sum((2, 3)) + 1)
    each = 20 * focal.mean((2, 3)) + dice
    with torch.no_grad():
        actual = intersection_over_union(logits > 0, target > 0.5)
    return each[:, 0].mean() + each[:, 1:].min(1).values.mean() + functional.mse_loss(predicted, actual)


def train(out: Path, *, minutes: float, steps: int, batch: int, seed: int, config: SamConfig) -> Sam:
    """Train, or go on training, until ``steps`` or ``minutes`` are over; returns the average of the weights."""
    torch.manual_seed(seed)
    model = small_sam(config).train()
    average = small_sam(config)
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    step = 0
    if (found := load_checkpoint(out, "sam")) is not None:
        restore_training(found[0], model, average, optimizer)
        step = int(found[1]["step"])
    split = Scenes("train", length=10**9, size=config.image_size, options=_OPTIONS, kinds=())
    end, saved, recent = time.monotonic() + 60 * minutes, time.monotonic(), []
    progress = tqdm(total=steps, initial=step, desc="segmenter", unit="step", mininterval=5)
    try:
        while step < steps and time.monotonic() < end:
            rng = np.random.default_rng([seed, step])
            scenes = [split.draw(step * batch + i)[0] for i in range(batch)]
            clicks = draw_clicks(scenes, rng, config.image_size)
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * min(1.0, (step + 1) / 200) * (0.51 + 0.49 * math.cos(math.pi * step / steps))
            loss = sam_loss(*predict(model, clicks), clicks.masks)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            update_average(average, model, min(0.998, step / (step + 10)))
            recent.append(loss.item())
            progress.update()
            if step % 100 == 0:
                append_log(out, {"model": "sam", "step": step, "samples": step * batch, "loss": float(np.mean(recent))})
                progress.set_postfix(loss=f"{np.mean(recent):.4f}")
                recent.clear()
            if time.monotonic() - saved > 180:
                save_checkpoint(out, "sam", training_tensors(model, average, optimizer), {"step": step, "seed": seed})
                saved = time.monotonic()
    finally:
        save_checkpoint(out, "sam", training_tensors(model, average, optimizer), {"step": step, "seed": seed})
        progress.close()
    return average


@torch.inference_mode()
def evaluate(model: Sam, *, number: int = 500, occlusion: float = 0.0, seed: int = 0, size: int = 96) -> pd.DataFrame:
    """One row a click into held-out test scenes.

    Returns:
        Columns ``size`` (word), ``visible`` (share of the object in sight), ``iou`` of the candidate with the highest
        predicted IoU, ``best`` IoU of the three, ``predicted`` IoU of the chosen one.
    """
    split = Scenes("test", length=number, size=size, options=SceneOptions(objects=(1, 4), occlusion=occlusion), kinds=())
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, number, 25):
        scenes = [split.draw(i)[0] for i in range(start, min(start + 25, number))]
        clicks = draw_clicks(scenes, rng, size)
        logits, predicted = predict(model, clicks)
        actual = intersection_over_union(logits[:, 1:] > 0, clicks.masks[:, None] > 0.5)
        chosen = predicted[:, 1:].argmax(1, keepdim=True)
        items = _clicked(scenes, clicks, size)
        parts.append(
            items.assign(
                iou=actual.gather(1, chosen)[:, 0].numpy(),
                best=actual.max(1).values.numpy(),
                predicted=predicted[:, 1:].gather(1, chosen)[:, 0].numpy(),
            )
        )
    return pd.concat(parts, ignore_index=True)


def _clicked(scenes: list[Scene], clicks: Clicks, size: int) -> pd.DataFrame:
    """Size word and visible share of every clicked object, in the order of the clicks."""
    visible = render(scenes, size=size).masks.sum((2, 3))
    rows = []
    for index, scene in enumerate(scenes):
        for item, thing in enumerate(scene.objects):
            if visible[index, item] >= _LEAST_PIXELS:
                alone = render([Scene((thing,), scene.background)], size=size).masks[0, 0].sum()
                rows.append((thing.size, thing.shape, float(visible[index, item] / alone)))
    return pd.DataFrame(rows, columns=["size", "shape", "visible"])


def summary(table: pd.DataFrame) -> dict[str, float]:
    """Mean IoU over all clicks, by size and by occlusion, and how well predicted IoU follows the true one."""
    hidden = table.visible < 0.98
    numbers = {
        "iou": table.iou.mean(),
        "iou_small": table.iou[table["size"] == "small"].mean(),
        "iou_large": table.iou[table["size"] == "large"].mean(),
        "iou_in_full_sight": table.iou[~hidden].mean(),
        "iou_best_of_three": table.best.mean(),
        "correlation": pearsonr(table.predicted, table.iou).statistic,
        "clicks": float(len(table)),
    }
    if hidden.any():
        numbers["iou_occluded"] = table.iou[hidden].mean()
    return {name: round(float(value), 4) for name, value in numbers.items()}


def main(
    out: Annotated[Path, typer.Option(help="Working folder.")] = Path("runs/embedded"),
    minutes: Annotated[float, typer.Option(help="Stop after this time.")] = 150.0,
    steps: Annotated[int, typer.Option(help="Length of the learning-rate schedule.")] = 5000,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of weights and clicks.")] = 0,
    export: Annotated[Path | None, typer.Option(help="Where to write the half-precision folder.")] = None,
) -> None:
    """Train the embedded segmenter, or go on training it, and measure it on held-out scenes."""
    config = SamConfig()
    model = train(out, minutes=minutes, steps=steps, batch=batch, seed=seed, config=config)
    for occlusion in (0.0, 0.5):
        numbers = summary(evaluate(model, occlusion=occlusion, size=config.image_size))
        append_log(out, {"model": "sam", "occlusion": occlusion, **numbers})
        print(f"occlusion {occlusion}: {numbers}")
    if export is not None:
        save_embedded_sam(model, config, export)


if __name__ == "__main__":
    typer.run(main)
