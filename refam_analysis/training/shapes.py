"""Training of the judge of shapes: a small convolutional classifier on true scenes of one object.

Half of the scenes are plain, half rich. The judge must not know shapes by their colour, since whether a model draws the
right shape in a colour that it never saw together is one of the questions: channels are shuffled and scaled at random.
Pictures are blurred a little at random too, as a decoder's are.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from safetensors.torch import save_file
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from refam_analysis.evaluation.shape_judge import SIDE, ShapeNetwork, shape_accuracy
from refam_analysis.scenes import SceneOptions, Scenes, render
from refam_analysis.scenes.rich_vocabulary import RICH_SHAPES
from refam_analysis.scenes.sampling import Style
from refam_analysis.training.checkpoints import (
    append_command,
    append_log,
    load_checkpoint,
    restore_training,
    save_checkpoint,
    steps_until,
    training_tensors,
)

STYLES: tuple[Style, ...] = ("plain", "rich")
_PEAK = 2e-3
_CARD = """
---
license: apache-2.0
---

# The judge of shapes

A small convolutional classifier (0.14 million weights, stored in half precision) that names the shape of the one object
of a picture. `refam_analysis.evaluation.shape_judge` loads it; `refam experiment generation` has it judge what the
embedded transformer draws. It is no part of the method and sees no caption.

## Data

True scenes of one object, half of them plain and half rich, from the train split of `refam_analysis.scenes`, which
holds some pairs of colour and shape back.

## Training

Cross entropy with a little label smoothing; channels of the pictures are
shuffled and scaled at random, so that colour tells nothing, and some pictures are blurred.

```
{command}
```

## Accuracy

On held-out scenes of one object, pairs that training never showed included, with 95 % Wilson intervals:

| scenes | shapes | pictures | right |
| --- | --- | --- | --- |
{rows}

## Limits

It always answers, also where there is no object or a blob, and it has seen true scenes only: on a drawn picture its
answer says which of the true shapes the object is most like.
"""


def batch_of_scenes(step: int, batch: int) -> tuple[Tensor, Tensor]:
    """The pictures of one step, float32 (picture, 3, side, side) in [0, 1], and the index of each one's shape."""
    scenes = []
    for style in STYLES:
        half = batch // len(STYLES)
        split = Scenes("train", length=10**9, options=SceneOptions(objects=(1, 1), style=style), kinds=())
        scenes += [split.draw(step * half + i)[0] for i in range(half)]
    shapes = torch.tensor([RICH_SHAPES.index(scene.objects[0].shape) for scene in scenes])
    return render(scenes, size=SIDE).images, shapes


def recoloured(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures with channels shuffled and scaled, and some of them blurred, each in a way of its own."""
    number = len(pictures)
    order = torch.rand(number, 3, generator=generator).argsort(1)
    shuffled = pictures.gather(1, order[:, :, None, None].expand_as(pictures))
    scaled = shuffled * (0.6 + 0.6 * torch.rand(number, 3, 1, 1, generator=generator))
    blurred = functional.avg_pool2d(functional.pad(scaled, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = (torch.rand(number, 1, 1, 1, generator=generator) * 1.5 - 0.5).clamp(min=0)
    return torch.lerp(scaled, blurred, share)


def train(out: Path, *, steps: int, batch: int, seed: int) -> ShapeNetwork:
    """Train, or go on training, and return the network."""
    torch.manual_seed(seed)
    network = ShapeNetwork().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=_PEAK, weight_decay=0.05)
    step = 0
    if (found := load_checkpoint(out, "shapes")) is not None:
        restore_training(found[0], network, None, optimizer)
        step = int(found[1]["step"])
    progress = tqdm(total=steps, initial=step, desc="judge of shapes", unit="step", mininterval=5)
    with steps_until(math.inf) as watch, progress:
        while step < steps and not watch.over:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            pictures, shapes = batch_of_scenes(step, batch)
            for group in optimizer.param_groups:
                group["lr"] = _PEAK * min(1.0, (step + 1) / 100) * (0.505 + 0.495 * math.cos(math.pi * step / steps))
            loss = functional.cross_entropy(network(recoloured(pictures, generator)), shapes, label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            progress.update()
            if step % 100 == 0:
                append_log(out, {"model": "shapes", "step": step, "loss": round(loss.item(), 4)})
                progress.set_postfix(loss=f"{loss.item():.4f}")
            if watch.is_due() or watch.stopped or step == steps:
                save_checkpoint(out, "shapes", training_tensors(network, None, optimizer), {"step": step, "seed": seed})
    if watch.stopped:
        raise KeyboardInterrupt
    return network.eval()


def shape_card(accuracy: pd.DataFrame, command: str) -> str:
    """The model card.

    Args:
        accuracy: from :func:`~refam_analysis.evaluation.shape_judge.shape_accuracy`.
        command: that made the weights.
    """
    rows = []
    for style, table in accuracy.groupby("style", sort=False):
        right, number = int(table["right"].sum()), len(table)
        low, high = proportion_confint(right, number, method="wilson")
        rows.append(
            f"| {style} | {table['shape'].nunique()} | {number} | {right / number:.3f} ({low:.3f} to {high:.3f}) |"
        )
    return _CARD.format(rows="\n".join(rows), command=command).lstrip()


def export_judge(network: ShapeNetwork, folder: Path) -> None:
    """Write ``config.json`` and the weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    width = network.features[0].out_channels
    (folder / "config.json").write_text(json.dumps({"width": width}) + "\n", encoding="utf-8")
    save_file({name: value.half() for name, value in network.state_dict().items()}, folder / "model.safetensors")


def main(
    out: Annotated[Path, typer.Option(help="Working folder.")] = Path("runs/shapes"),
    steps: Annotated[int, typer.Option(help="Of training.")] = 4000,
    batch: Annotated[int, typer.Option(help="Pictures a step, half of each style.")] = 64,
    seed: Annotated[int, typer.Option(help="Of weights and colours.")] = 0,
    export: Annotated[Path | None, typer.Option(help="Where to write the half-precision folder.")] = None,
) -> None:
    """Train the judge of shapes, or go on training it, and measure it on held-out scenes."""
    append_command(out, "shapes", steps=steps, batch=batch, seed=seed)
    network = train(out, steps=steps, batch=batch, seed=seed)
    judged = shape_accuracy(network)
    accuracy = judged.groupby("style")["right"].mean()
    append_log(out, {"model": "shapes", "accuracy": accuracy.round(4).to_dict()})
    print(f"Right on 1,000 held-out scenes of one object each:\n{accuracy.round(3).to_string()}")
    if export is not None:
        command = f"python -m refam_analysis.training.shapes --steps {steps} --batch {batch} --seed {seed}"
        export_judge(network, export)
        (export / "README.md").write_text(shape_card(judged, command), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
