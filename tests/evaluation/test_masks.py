"""Masks of points, and the points that know the answer."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from refam_analysis.evaluation import (
    GroundingItem,
    ItemsError,
    NoItemsError,
    inner_points,
    mask_accuracy,
    random_points,
)


class Flood:
    """A segmenter that knows one thing: pixels of exactly one colour belong together. Its first candidate is all."""

    def set_image(self, image: NDArray[np.uint8]) -> None:
        self.image = image

    def predict(self, points: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        columns, rows = np.asarray(points, dtype=int).T
        same = (self.image[None] == self.image[rows, columns][:, None, None]).all(-1)
        masks = np.stack([np.ones_like(same), same], axis=1)
        return masks, np.tile(np.array([0.2, 0.9], np.float32), (len(masks), 1))


def item(number: int, column: int) -> GroundingItem:
    """A 5 x 5 square on the left or the right of a 10 x 20 picture; the other one is the distractor."""
    masks = np.zeros((2, 10, 20), dtype=bool)
    masks[0, 2:7, column : column + 5] = True
    masks[1, 2:7, 18 - column - 5 : 18 - column] = True
    image = np.zeros((10, 20, 3), np.uint8)
    image[masks[0]], image[masks[1]] = 100, 200
    return GroundingItem(image, masks, f"square {number}", "attribute", 0, (1,), number)


ITEMS = [item(0, 2), item(1, 11), item(2, 2)]


def test_inner_point_is_the_middle_of_a_square() -> None:
    assert inner_points(ITEMS).tolist() == [[4.0, 4.0], [13.0, 4.0], [4.0, 4.0]]


def test_a_target_at_the_border_has_its_point_inside() -> None:
    masks = np.zeros((1, 6, 6), dtype=bool)
    masks[0, :, :3] = True
    edge = GroundingItem(np.zeros((6, 6, 3), np.uint8), masks, "half", "attribute", 0, (), 0)
    assert inner_points([edge])[0, 0] == 1.0


def test_random_points_lie_in_the_picture_and_repeat() -> None:
    points = random_points(ITEMS * 50, seed=1)
    assert (points >= 0).all() and (points < [20, 10]).all() and points[:, 0].max() > 10
    np.testing.assert_array_equal(points, random_points(ITEMS * 50, seed=1))


def test_the_candidate_with_the_highest_score_is_compared_with_the_truth() -> None:
    report = mask_accuracy(Flood(), ITEMS, {"inside": inner_points(ITEMS)})
    assert report.outcomes["iou"].tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_array_equal(report.masks["inside"][1], ITEMS[1].masks[0])


def test_sources_are_told_apart() -> None:
    """The second source is right once, on the distractor once and on the background once."""
    model = [(4.0, 4.0), (4.0, 4.0), (0.0, 0.0)]
    report = mask_accuracy(Flood(), ITEMS, {"inside": inner_points(ITEMS), "model": model})
    summary = report.summary().set_index("source")
    assert summary.loc["inside", "mean_iou"] == 1.0
    assert summary.loc["model", "mean_iou"] == pytest.approx(1 / 3)
    assert summary.loc["model", "on_target"] == pytest.approx(1 / 3)
    assert summary.loc["model", "mean_iou_on_target"] == 1.0
    assert summary.loc["model", "overall_iou"] == pytest.approx(25 / (25 + 50 + 175))
    assert summary.loc["model", "scenes"] == 3


def test_a_source_with_fewer_points_than_items_is_named() -> None:
    points = {"inside": inner_points(ITEMS), "model": [(4.0, 4.0)]}
    with pytest.raises(ItemsError, match=r"3 items.*'model': 1.*one an item"):
        mask_accuracy(Flood(), ITEMS, points)


def test_no_item_is_refused() -> None:
    with pytest.raises(NoItemsError):
        mask_accuracy(Flood(), [], {"inside": np.zeros((0, 2))})
