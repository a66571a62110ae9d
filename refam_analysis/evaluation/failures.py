"""Why a mask is wrong: causes that can be measured, one for every failure, and what would have mended it.

Where the point lies is compared with what the scene holds there, and the segmenter is asked again from the point of
someone who knows the answer. Nothing is judged by eye. Runs that fail are measured in `experiments`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from refam_analysis.analysis.statistics import bootstrap_interval
from refam_analysis.evaluation.items import GroundingItem, ItemsError
from refam_analysis.evaluation.masks import inner_points
from refam_analysis.evaluation.metrics import mask_ious
from refam_analysis.segmentation.point import pixel_of
from refam_analysis.segmentation.segmenters import Segmenter

FAILED_BELOW = 0.5
"""A mask whose IoU is lower is a failure: the usual bar of "found"."""

NEAR = 8.0
"""In pixels: a point beside the target is within this distance of it, one patch of the embedded model."""

CAUSES = (
    "another object, of the same colour or shape",
    "another object, alike in neither",
    "just beside the target",
    "on the ground",
    "segmenter, from a good point",
    "segmenter, from any point",
)
"""In the order in which they are asked: the first four are of the point, the last two of the segmenter."""


def failure_causes(
    items: Sequence[GroundingItem],
    points: ArrayLike,
    ious: ArrayLike,
    segmenter: Segmenter,
    *,
    failed_below: float = FAILED_BELOW,
    near: float = NEAR,
) -> pd.DataFrame:
    """For every scene whether its mask is right, and if not, the first cause that fits.

    Args:
        items: the scenes; colours and shapes of the objects tell which are alike.
        points: (item, 2), x and y in pixels: what the segmenter was given.
        ious: (item,), of the masks that came of them with the truth.
        segmenter: asked once more a failure, from the point deepest inside the target.
        failed_below: a mask with a lower IoU is a failure.
        near: in pixels; from here on a point off all objects is on the ground rather than beside the target.

    Returns:
        A row an item: ``item``, ``scene``, ``kind``, ``expression``, ``x``, ``y``, ``iou``, ``failed``, ``cause`` (one
        of :data:`CAUSES`, or "" where nothing failed), ``on`` ("target", "distractor" or "ground"), ``rescued`` (the
        mask is right although the point is off the target), ``distance`` (of the point from the target, in pixels),
        ``area`` (share of the picture that the target takes), ``known_point_iou`` (from the deepest point; NaN where
        nothing failed).

    Raises:
        ItemsError: not as many points or IoUs as items.
    """
    places, scores = np.asarray(points, dtype=np.float64).reshape(-1, 2), np.asarray(ious, dtype=np.float64)
    if not len(items) == len(places) == len(scores):
        raise ItemsError(f"There are {len(items)} items, {len(places)} points and {len(scores)} IoUs: give one each.")
    known = _from_known_points(items, scores < failed_below, segmenter)
    rows = [
        _row(i, item, place, float(iou), float(best), failed_below, near)
        for i, (item, place, iou, best) in enumerate(zip(items, places, scores, known, strict=True))
    ]
    table = pd.DataFrame(rows)
    table.attrs["failed_below"] = failed_below
    return table


def cause_shares(causes: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """How often each cause is to blame, over scenes.

    Args:
        causes: from :func:`failure_causes`, all scenes, those without a failure too.
        confidence: of the intervals.
        seed: of the bootstrap over scenes.

    Returns:
        A row a cause, in the order of :data:`CAUSES`: ``cause``, ``share`` (of all scenes) with ``share_low`` and
        ``share_high``, ``of_failures``, ``mended`` (share of its failures whose mask is right, by the bar of
        ``causes``, from the point deepest inside the target; NaN where the cause never occurs), ``failures`` and
        ``scenes``.
    """
    hits = np.stack([causes["cause"] == cause for cause in CAUSES], axis=1).astype(float)
    by_scene = pd.DataFrame(hits).groupby(causes["scene"].to_numpy()).mean()
    low, high = bootstrap_interval(by_scene.to_numpy(), confidence=confidence, seed=seed)
    counts = hits.sum(axis=0)
    bar = causes.attrs.get("failed_below", FAILED_BELOW)
    right = (causes["known_point_iou"] >= bar).to_numpy(dtype=float)
    table = pd.DataFrame({"cause": CAUSES, "share": by_scene.mean().to_numpy(), "share_low": low, "share_high": high})
    table["of_failures"] = counts / max(counts.sum(), 1.0)
    table["mended"] = np.where(counts > 0, (hits * right[:, None]).sum(axis=0) / np.maximum(counts, 1.0), np.nan)
    table["failures"], table["scenes"] = counts.astype(int), len(by_scene)
    table.attrs["confidence"] = confidence
    return table


def object_ranks(items: Sequence[GroundingItem], heatmaps: Sequence[ArrayLike]) -> NDArray[np.intp]:
    """Which place the target takes when the objects of a scene are ordered by the most heat on each.

    Args:
        items: the scenes.
        heatmaps: one an item, (y, x) over the picture, in any resolution.

    Returns:
        (item,): 1 where the target is hottest, 2 where one other object is hotter, and so on. A target too small for a
        pixel of the heatmap is judged by the nearest one.

    >>> mask = np.zeros((2, 4, 4), dtype=bool)
    >>> mask[0, 0, 0] = mask[1, 3, 3] = True
    >>> scene = GroundingItem(np.zeros((4, 4, 3), np.uint8), mask, "the ring", "attribute", 0, (1,), 0)
    >>> object_ranks([scene], [np.arange(16.0).reshape(4, 4)]).tolist()
    [2]
    """
    ranks = []
    for item, heatmap in zip(items, heatmaps, strict=True):
        heat = np.asarray(heatmap, dtype=np.float64)
        height, width = item.masks.shape[1:]
        rows = np.arange(height) * heat.shape[0] // height
        large = heat[rows[:, None], np.arange(width) * heat.shape[1] // width]
        hottest = np.array([large[mask].max() if mask.any() else -np.inf for mask in item.masks])
        ranks.append(1 + int((hottest > hottest[item.target]).sum()))
    return np.array(ranks, dtype=np.intp)


def worst_and_median(causes: pd.DataFrame) -> pd.DataFrame:
    """The scenes that stand for a kind of sentence, by rule: its worst mask, and the one in the middle of its order.

    Args:
        causes: from :func:`failure_causes`.

    Returns:
        Two rows a kind, kinds in the order of the scenes: those of ``causes`` and ``rank`` ("worst", "median"). Masks
        of equal IoU stand in the order of the scenes; of an even number the lower of the two in the middle is taken.

    >>> table = pd.DataFrame({"item": [0, 1, 2], "kind": "location", "iou": [0.9, 0.1, 0.4]})
    >>> worst_and_median(table)[["item", "rank"]].values.tolist()
    [[1, 'worst'], [2, 'median']]
    """
    chosen = []
    for _, rows in causes.groupby("kind", sort=False):
        ordered = rows.sort_values(["iou", "item"])
        for rank, place in (("worst", 0), ("median", (len(ordered) - 1) // 2)):
            chosen.append(ordered.iloc[[place]].assign(rank=rank))
    return pd.concat(chosen, ignore_index=True)


def _from_known_points(
    items: Sequence[GroundingItem], failed: NDArray[np.bool_], segmenter: Segmenter
) -> NDArray[np.float64]:
    """(item,): IoU of the segmenter's best guess from the point deepest inside the target, where something failed."""
    found = np.full(len(items), np.nan)
    for place, (item, wanted) in enumerate(zip(items, failed, strict=True)):
        if wanted:
            segmenter.set_image(item.image)
            (masks,), (scores,) = segmenter.predict(inner_points([item]))
            found[place] = mask_ious([masks[scores.argmax()]], [item.masks[item.target]])[0]
    return found


def _row(
    number: int, item: GroundingItem, point: NDArray[np.float64], iou: float, known: float, bar: float, near: float
) -> dict[str, Any]:
    truth = item.masks[item.target]
    y, x = pixel_of(point, (truth.shape[0], truth.shape[1]))
    distance = float(ndimage.distance_transform_edt(~truth)[y, x]) if truth.any() else float("inf")
    under = next((other for other in item.distractors if item.masks[other][y, x]), None)
    on = "target" if truth[y, x] else "ground" if under is None else "distractor"
    failed = iou < bar
    return {
        "item": number, "scene": item.scene, "kind": item.kind, "expression": item.expression, "x": point[0],
        "y": point[1], "iou": iou, "failed": failed,
        "cause": _cause(item, under, on, distance, known, bar, near) if failed else "",
        "on": on, "rescued": not failed and on != "target", "distance": distance, "area": float(truth.mean()),
        "known_point_iou": known,
    }  # fmt: skip


def _cause(
    item: GroundingItem, under: int | None, on: str, distance: float, known: float, bar: float, near: float
) -> str:
    if on == "target":
        return CAUSES[4] if known >= bar else CAUSES[5]
    if under is not None:
        alike = any(
            values[under] == values[item.target] for values in (item.colours, item.shapes) if len(values) > under
        )
        return CAUSES[0] if alike else CAUSES[1]
    return CAUSES[2] if distance <= near else CAUSES[3]
