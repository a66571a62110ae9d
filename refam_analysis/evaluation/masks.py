"""How good the masks are that points give: the model's points beside points that know the answer or know nothing.

A mask can fail because the point fell on the wrong thing, or because the segmenter drew the right thing badly. With
points from several sources, given to the same segmenter on the same pictures, the two can be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from refam_analysis.analysis.statistics import bootstrap_interval
from refam_analysis.evaluation.grounding import NoItemsError
from refam_analysis.evaluation.items import GroundingItem, ItemsError
from refam_analysis.evaluation.metrics import mask_ious, overall_iou, points_on
from refam_analysis.segmentation.segmenters import Segmenter

Masks = tuple[NDArray[np.bool_], ...]


@dataclass(frozen=True)
class MaskReport:
    """What came of the points.

    Attributes:
        outcomes: a row an item and source: ``source``, ``item``, ``scene``, ``kind``, ``expression``, ``x``, ``y``,
            ``on_target``, ``score`` (the segmenter's own guess of the IoU), ``iou``.
        masks: of each source, one an item: bool (height, width).
        truth: the target of each item.
    """

    outcomes: pd.DataFrame
    masks: Mapping[str, Masks]
    truth: Masks

    def summary(self, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
        """The masks of each source in a row.

        Args:
            confidence: of the interval.
            seed: of the bootstrap over scenes.

        Returns:
            ``source``, ``mean_iou`` with ``mean_iou_low`` and ``mean_iou_high``, ``overall_iou``, ``on_target`` (share
            of points), ``mean_iou_on_target`` (NaN where no point is), ``scenes``.
        """
        rows = []
        for source, group in self.outcomes.groupby("source", sort=False):
            by_scene = group.groupby("scene")["iou"].mean().to_numpy()[:, None]
            low, high = bootstrap_interval(by_scene, confidence=confidence, seed=seed)
            rows.append(
                {
                    "source": source,
                    "mean_iou": by_scene.mean(),
                    "mean_iou_low": low[0],
                    "mean_iou_high": high[0],
                    "overall_iou": overall_iou(self.masks[str(source)], self.truth),
                    "on_target": group["on_target"].mean(),
                    "mean_iou_on_target": group.loc[group["on_target"], "iou"].mean(),
                    "scenes": len(by_scene),
                }
            )
        table = pd.DataFrame(rows)
        table.attrs["confidence"] = confidence
        return table


def mask_accuracy(segmenter: Segmenter, items: Sequence[GroundingItem], points: Mapping[str, ArrayLike]) -> MaskReport:
    """Give points to a segmenter and compare its masks with the truth.

    Args:
        segmenter: from ``load_segmenter``. Of its candidates the one with the highest score counts.
        items: with their masks.
        points: by source, each (item, 2): x and y in pixels of each item's image.

    Returns:
        IoU an item and a source of points, with means and intervals.

    Raises:
        NoItemsError: there is no item.
        ItemsError: a source has not as many points as there are items.
        SegmenterInputError: a point lies outside its image.
    """
    if not items:
        raise NoItemsError
    given = {source: np.asarray(each, dtype=np.float64) for source, each in points.items()}
    if other := {source: len(each) for source, each in given.items() if len(each) != len(items)}:
        raise ItemsError(f"There are {len(items)} items, and points by source {other}: give one an item.")
    asked = np.stack(list(given.values()), axis=1)
    truth = tuple(item.masks[item.target] for item in items)
    best: list[NDArray[np.bool_]] = []
    scores: list[NDArray[np.float64]] = []
    for item, places in zip(items, asked, strict=True):
        segmenter.set_image(item.image)
        candidates, guesses = segmenter.predict(places)
        best.append(candidates[np.arange(len(places)), guesses.argmax(axis=1)])
        scores.append(guesses.max(axis=1).astype(np.float64))
    masks = {source: tuple(each[i] for each in best) for i, source in enumerate(points)}
    tables = [
        _outcomes(source, items, truth, asked[:, i], masks[source], np.array(scores)[:, i])
        for i, source in enumerate(points)
    ]
    return MaskReport(pd.concat(tables, ignore_index=True), masks, truth)


def inner_points(items: Sequence[GroundingItem]) -> NDArray[np.float64]:
    """For each item the pixel deepest inside its target: the point of someone who knows the answer.

    Args:
        items: whose targets are pointed at.

    Returns:
        (item, 2): x and y; of equally deep pixels the first in reading order.
    """
    points = []
    for item in items:
        depth = ndimage.distance_transform_edt(np.pad(item.masks[item.target], 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        points.append((float(column), float(row)))
    return np.array(points).reshape(-1, 2)


def random_points(items: Sequence[GroundingItem], *, seed: int = 0) -> NDArray[np.float64]:
    """For each item a pixel of its picture drawn at random: (item, 2), x and y.

    Args:
        items: whose pictures are pointed into.
        seed: of the draws.

    Returns:
        (item, 2), as x and y in pixels.
    """
    generator = np.random.default_rng(seed)
    pixels = [generator.integers(0, item.image.shape[:2])[::-1] for item in items]
    return np.array(pixels, dtype=np.float64).reshape(-1, 2)


def _outcomes(
    source: str,
    items: Sequence[GroundingItem],
    truth: Masks,
    points: NDArray[np.float64],
    masks: Masks,
    scores: NDArray[np.float64],
) -> pd.DataFrame:
    table = pd.DataFrame({"source": source, "item": range(len(items)), "scene": [item.scene for item in items]})
    table["kind"] = [item.kind for item in items]
    table["expression"] = [item.expression for item in items]
    table["x"], table["y"] = points.T
    table["on_target"] = points_on(points, truth)
    table["score"] = scores
    table["iou"] = mask_ious(masks, truth)
    return table
