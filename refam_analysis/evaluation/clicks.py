"""How well a segmenter answers to a click: one point in each object of a scene, and the mask that comes back.

Clicks are drawn here, answered in batches, and counted. The same clicks train the embedded segmenter
(:mod:`refam_analysis.training.sam`) on other scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import pearsonr
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from refam_analysis.analysis.statistics import bootstrap_interval
from refam_analysis.scenes import Scene, SceneOptions, Scenes, render
from refam_analysis.scenes.sampling import Style

LEAST_PIXELS = 20
"""Objects with fewer pixels in sight are not clicked."""

IN_FULL_SIGHT = 0.98
"""Visible share of an object from which on it does not count as occluded; the rest is edge pixels."""

CLICKED_OBJECTS: dict[Style, tuple[int, int]] = {"plain": (1, 4), "rich": (2, 6)}
"""Least and most objects of a scene that is clicked, by its style."""

_BATCH = 25


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


def draw_clicks(scenes: Sequence[Scene], rng: np.random.Generator, size: int) -> Clicks:
    """Render the scenes and click once into every object with at least 20 visible pixels, uniformly inside it."""
    rendering = render(list(scenes), size=size)
    kept = rendering.masks.sum((2, 3)) >= LEAST_PIXELS
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
    """IoU over the last two axes of boolean masks, which must not both be empty.

    >>> intersection_over_union(torch.tensor([[True, True]]), torch.tensor([[True, False]]))
    tensor(0.5000)
    """
    return (masks & true).sum((-2, -1)) / (masks | true).sum((-2, -1))


@torch.inference_mode()
def click_accuracy(
    sam: Sam,
    *,
    scenes: int = 500,
    first: int = 0,
    occlusion: float = 0.0,
    seed: int = 0,
    style: Style = "plain",
    progress: bool = False,
) -> pd.DataFrame:
    """One click into every object of held-out test scenes.

    Args:
        sam: any square ``Sam``; pictures are drawn at its own size.
        scenes: how many.
        first: number of the first scene.
        occlusion: probability that an object may stand partly behind another.
        seed: of the points; scene i has the same ones, whichever other scenes are asked for.
        style: of the scenes, which have as many objects as :data:`CLICKED_OBJECTS` says.
        progress: show a bar.

    Returns:
        A row a click: ``scene``, ``size`` (word), ``shape``, ``visible`` (share of the object in sight), ``x`` and
        ``y`` in pixels, ``iou`` of the candidate with the highest predicted IoU, ``best`` IoU of the three, and the
        ``predicted`` IoU of the chosen one.
    """
    size = sam.image_encoder.img_size
    options = SceneOptions(objects=CLICKED_OBJECTS[style], occlusion=occlusion, style=style)
    split = Scenes("test", length=first + scenes, size=size, options=options, kinds=())
    parts = []
    starts = range(first, first + scenes, _BATCH)
    for start in tqdm(starts, desc=f"clicks, occlusion {occlusion:g}", disable=not progress):
        numbers = range(start, min(start + _BATCH, first + scenes))
        drawn = [split.draw(i)[0] for i in numbers]
        clicks = _join([draw_clicks([scene], np.random.default_rng([seed, i]), size)
                        for i, scene in zip(numbers, drawn, strict=True)])  # fmt: skip
        logits, predicted = predict(sam, clicks)
        actual = intersection_over_union(logits[:, 1:] > 0, clicks.masks[:, None] > 0.5)
        chosen = predicted[:, 1:].argmax(1, keepdim=True)
        parts.append(
            _clicked(drawn, start, size).assign(
                x=clicks.points[:, 0].numpy(),
                y=clicks.points[:, 1].numpy(),
                iou=actual.gather(1, chosen)[:, 0].numpy(),
                best=actual.max(1).values.numpy(),
                predicted=predicted[:, 1:].gather(1, chosen)[:, 0].numpy(),
            )
        )
    return pd.concat(parts, ignore_index=True)


def click_summary(table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Mean IoU with bootstrap intervals over scenes: of all clicks, by size, by occlusion.

    Args:
        table: from :func:`click_accuracy`.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        A row a group (``all``, ``small``, ``large``, ``in full sight``, ``occluded``, those that there are):
        ``clicks``, ``iou`` with ``iou_low`` and ``iou_high``, ``best`` (of the three candidates), and
        ``correlation`` (Pearson) of predicted and true IoU.
    """
    in_sight = table["visible"] >= IN_FULL_SIGHT
    groups = {
        "all": table,
        "small": table[table["size"] == "small"],
        "large": table[table["size"] == "large"],
        "in full sight": table[in_sight],
        "occluded": table[~in_sight],
    }
    rows = [{"group": name, **_numbers(rows, confidence, seed)} for name, rows in groups.items() if len(rows)]
    return pd.DataFrame(rows)


def _numbers(rows: pd.DataFrame, confidence: float, seed: int) -> dict[str, Any]:
    # Scenes weigh by their clicks: sums and counts are drawn together.
    by_scene = rows.groupby("scene")["iou"].agg(["sum", "count"]).to_numpy(dtype=np.float64)
    mean = by_scene[:, 0].sum() / by_scene[:, 1].sum()
    deviations = (by_scene[:, :1] - mean * by_scene[:, 1:]) / by_scene[:, 1].mean()
    low, high = bootstrap_interval(deviations, confidence=confidence, seed=seed)
    varied = len(rows) > 1 and rows["iou"].std() > 0 and rows["predicted"].std() > 0
    return {
        "clicks": len(rows),
        "iou": mean,
        "iou_low": mean + low[0],
        "iou_high": mean + high[0],
        "best": rows["best"].mean(),
        "correlation": pearsonr(rows["predicted"], rows["iou"]).statistic if varied else np.nan,
    }


def _join(parts: Sequence[Clicks]) -> Clicks:
    """Clicks of several pictures as one batch."""
    picture = torch.cat([part.picture + i for i, part in enumerate(parts)])
    images, _, points, masks = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Clicks(images, picture, points, masks)


def _clicked(scenes: Sequence[Scene], first: int, size: int) -> pd.DataFrame:
    """Scene, size word, shape and visible share of every clicked object, in the order of the clicks."""
    visible = render(list(scenes), size=size).masks.sum((2, 3))
    rows = []
    for index, scene in enumerate(scenes):
        for item, thing in enumerate(scene.objects):
            if visible[index, item] >= LEAST_PIXELS:
                alone = render([Scene((thing,), scene.background)], size=size).masks[0, 0].sum()
                rows.append((first + index, thing.size, thing.shape, float(visible[index, item] / alone)))
    return pd.DataFrame(rows, columns=["scene", "size", "shape", "visible"])
