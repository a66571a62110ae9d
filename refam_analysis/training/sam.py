"""Training of the embedded segmenter: segment-anything's own ``Sam``, small, on scenes.

Each picture is encoded once and asked for each of its objects by one point drawn uniformly inside the object's visible
part. The loss is SAM's: focal and dice on the best of the three candidate masks, and the squared error of every
mask's predicted IoU; the single mask that SAM gives without candidates is trained beside them.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from refam_analysis.evaluation.clicks import (
    CLICKED_OBJECTS,
    click_accuracy,
    click_summary,
    draw_clicks,
    intersection_over_union,
    predict,
)
from refam_analysis.scenes import SceneOptions, Scenes
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.segmenters.embedded import SamConfig, load_embedded_sam, save_embedded_sam, small_sam
from refam_analysis.training.checkpoints import (
    append_command,
    append_log,
    load_checkpoint,
    restore_training,
    save_checkpoint,
    steps_until,
    training_tensors,
    update_average,
)

OPTIONS: dict[Style, SceneOptions] = {
    "plain": SceneOptions(objects=CLICKED_OBJECTS["plain"], occlusion=0.3),
    "rich": SceneOptions(objects=CLICKED_OBJECTS["rich"], occlusion=0.5, style="rich"),
}
"""Which scenes are clicked, by their style."""


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


def train(
    out: Path,
    *,
    minutes: float,
    steps: int,
    batch: int,
    seed: int,
    config: SamConfig,
    style: Style = "plain",
    start: Path | None = None,
) -> Sam:
    """Train, or go on training, until ``steps`` or ``minutes`` are over; returns the average of the weights."""
    torch.manual_seed(seed)
    model = small_sam(config) if start is None else load_embedded_sam(start)
    model.train()
    average = small_sam(config)
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    step = 0
    if (found := load_checkpoint(out, "sam")) is not None:
        restore_training(found[0], model, average, optimizer)
        step = int(found[1]["step"])
    split = Scenes("train", length=10**9, size=config.image_size, options=OPTIONS[style], kinds=())
    recent, logged = [], time.monotonic()
    progress = tqdm(total=steps, initial=step, desc="segmenter", unit="step", mininterval=5)
    with steps_until(minutes) as watch, progress:
        while step < steps and not watch.over:
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
                append_log(out, {"model": "sam", "step": step, "samples": step * batch,
                                 "loss": float(np.mean(recent)), "seconds": time.monotonic() - logged})  # fmt: skip
                logged = time.monotonic()
                progress.set_postfix(loss=f"{np.mean(recent):.4f}")
                recent.clear()
            if watch.is_due():
                save_checkpoint(out, "sam", training_tensors(model, average, optimizer), {"step": step, "seed": seed})
        save_checkpoint(out, "sam", training_tensors(model, average, optimizer), {"step": step, "seed": seed})
    if watch.stopped:
        raise KeyboardInterrupt
    return average


def main(
    out: Annotated[Path, typer.Option(help="Working folder.")] = Path("runs/embedded"),
    minutes: Annotated[float, typer.Option(help="Stop after this time.")] = 150.0,
    steps: Annotated[int, typer.Option(help="Length of the learning-rate schedule.")] = 5000,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of weights and clicks.")] = 0,
    export: Annotated[Path | None, typer.Option(help="Where to write the half-precision folder.")] = None,
    scenes_style: Annotated[Style, typer.Option(help="plain or rich.")] = "plain",
    start: Annotated[Path | None, typer.Option(help="Folder of a segmenter whose weights to begin with.")] = None,
) -> None:
    """Train the embedded segmenter, or go on training it, and measure it on held-out scenes."""
    append_command(out, "sam", minutes=minutes, steps=steps, batch=batch, seed=seed,
                   **({"scenes_style": scenes_style} if scenes_style != "plain" else {}),
                   **({"start": start} if start else {}))  # fmt: skip
    config = SamConfig()
    model = train(out, minutes=minutes, steps=steps, batch=batch, seed=seed, config=config, style=scenes_style,
                  start=start)  # fmt: skip
    for occlusion in (0.0, 0.5):
        table = click_summary(click_accuracy(model, occlusion=occlusion, style=scenes_style)).set_index("group")
        append_log(out, {"model": "sam", "occlusion": occlusion, "iou": table["iou"].round(4).to_dict()})
        print(f"Occlusion {occlusion}:\n{table.round(3).to_string()}")
    if export is not None:
        save_embedded_sam(model, config, export, scenes=scenes_style)


if __name__ == "__main__":
    typer.run(main)
