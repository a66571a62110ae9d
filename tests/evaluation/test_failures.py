"""Causes of failures: each where the point and the segmenter say so, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from refam_analysis.evaluation import failures
from refam_analysis.evaluation.failures import CAUSES, cause_shares, failure_causes, object_ranks, worst_and_median
from refam_analysis.evaluation.items import GroundingItem, ItemsError

CENTRES = {"target": (5, 5), "alike": (25, 5), "different": (5, 25), "beside": (9, 5), "ground": (25, 25)}
"""(x, y) of the points that the tests ask about, in a picture of 32 x 32 pixels with squares of 5 x 5."""


class Same:
    """A segmenter that gives the pixels of one colour, or nothing from any point where ``blind``."""

    def __init__(self, *, blind: bool = False) -> None:
        self.blind = blind

    def set_image(self, image: NDArray[np.uint8]) -> None:
        self.image = image

    def predict(self, points: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        columns, rows = np.asarray(points, dtype=int).T
        same = (self.image[None] == self.image[rows, columns][:, None, None]).all(-1) & (not self.blind)
        return same[:, None], np.ones((len(same), 1), np.float32)


def square(x: int, y: int) -> NDArray[np.bool_]:
    mask = np.zeros((32, 32), dtype=bool)
    mask[y - 2 : y + 3, x - 2 : x + 3] = True
    return mask


def scene(number: int, kind: str = "attribute") -> GroundingItem:
    masks = np.stack([square(*CENTRES[name]) for name in ("target", "alike", "different")])
    image = np.zeros((32, 32, 3), np.uint8)
    for shade, mask in enumerate(masks, start=1):
        image[mask] = 50 * shade
    return GroundingItem(
        image, masks, "the red ring", kind, 0, (1, 2), number, ("red", "red", "blue"), ("ring", "star", "cross")
    )


def causes_of(names: Sequence[str], ious: Sequence[float], *, blind: bool = False) -> pd.DataFrame:
    items = [scene(number) for number in range(len(names))]
    return failure_causes(items, [CENTRES[name] for name in names], ious, Same(blind=blind), near=3.0)


@pytest.mark.parametrize(
    ("place", "blind", "cause", "on"),
    [
        ("alike", False, CAUSES[0], "distractor"),
        ("different", False, CAUSES[1], "distractor"),
        ("beside", False, CAUSES[2], "ground"),
        ("ground", False, CAUSES[3], "ground"),
        ("target", False, CAUSES[4], "target"),
        ("target", True, CAUSES[5], "target"),
    ],
    ids=lambda value: str(value).replace(" ", "-"),
)
def test_a_failure_has_the_cause_that_its_point_and_the_segmenter_say(
    place: str, blind: bool, cause: str, on: str
) -> None:
    (row,) = causes_of([place], [0.1], blind=blind).itertuples()
    assert (row.failed, row.cause, row.on, row.rescued) == (True, cause, on, False)
    assert row.known_point_iou == (0.0 if blind else 1.0)


def test_a_right_mask_has_no_cause_and_is_rescued_where_its_point_is_off_the_target() -> None:
    table = causes_of(["target", "beside", "alike"], [0.9, 0.5, 0.7])
    assert table["cause"].tolist() == ["", "", ""]
    assert table["rescued"].tolist() == [False, True, True]
    assert table["known_point_iou"].isna().all()


def test_distance_and_area_are_those_of_the_target() -> None:
    table = causes_of(["target", "beside", "alike"], [0.0, 0.0, 0.0])
    np.testing.assert_allclose(table["distance"], [0.0, 2.0, 18.0])  # the square reaches from 3 to 7
    np.testing.assert_allclose(table["area"], 25 / 32**2)


def test_without_known_attributes_no_object_is_alike() -> None:
    known = scene(0)
    bare = GroundingItem(known.image, known.masks, known.expression, known.kind, 0, (1, 2), 0)
    assert failure_causes([bare], [CENTRES["alike"]], [0.0], Same())["cause"].tolist() == [CAUSES[1]]


def test_as_many_points_as_items_are_asked_for() -> None:
    with pytest.raises(ItemsError, match="1 items, 2 points and 1 IoUs"):
        failure_causes([scene(0)], [(1, 1), (2, 2)], [0.0], Same())


def test_shares_are_of_all_scenes_and_those_of_failures_sum_to_one() -> None:
    table = causes_of(["alike", "alike", "ground", "target"], [0.0, 0.0, 0.0, 1.0])
    shares = cause_shares(table).set_index("cause")
    assert shares["share"].tolist() == [0.5, 0.0, 0.0, 0.25, 0.0, 0.0]
    assert shares["of_failures"].sum() == pytest.approx(1.0)
    assert shares.loc[CAUSES[0], ["failures", "mended", "scenes"]].tolist() == [2, 1.0, 4]
    assert np.isnan(shares.loc[CAUSES[1], "mended"])
    assert (shares["share_low"] <= shares["share"]).all() and (shares["share"] <= shares["share_high"]).all()


def test_what_is_mended_is_told_by_the_bar_that_failures_were_told_by() -> None:
    table = failure_causes([scene(0)], [CENTRES["ground"]], [0.1], Same(), failed_below=0.25)
    table["known_point_iou"] = 0.4
    assert cause_shares(table).set_index("cause")["mended"].max() == 1.0


def test_what_never_fails_has_shares_of_zero() -> None:
    shares = cause_shares(causes_of(["target", "target"], [1.0, 0.8]))
    assert shares[["share", "of_failures", "failures"]].to_numpy().sum() == 0


@given(st.permutations([0.2, 0.5, 0.9]))
def test_rank_of_the_target_counts_hotter_objects(heats: list[float]) -> None:
    item = scene(0)
    heatmap = np.zeros((32, 32))
    for mask, heat in zip(item.masks, heats, strict=True):
        heatmap[tuple(np.argwhere(mask)[0])] = heat
    assert object_ranks([item], [heatmap]).tolist() == [1 + sum(heat > heats[0] for heat in heats)]


def test_a_coarse_heatmap_is_laid_over_the_picture() -> None:
    heatmap = np.zeros((4, 4))
    heatmap[0, 0], heatmap[3, 0] = 1.0, 2.0  # the target's patch, and that of the different object
    assert object_ranks([scene(0)], [heatmap]).tolist() == [2]


def test_worst_and_median_are_chosen_in_each_kind_and_by_the_order_of_scenes() -> None:
    table = pd.DataFrame(
        {"item": range(7), "kind": ["location"] * 4 + ["attribute"] * 3, "iou": [0.4, 0.0, 0.0, 0.8, 0.9, 0.7, 0.8]}
    )
    chosen = worst_and_median(table)
    assert chosen[["kind", "rank", "item"]].values.tolist() == [
        ["location", "worst", 1],
        ["location", "median", 2],
        ["attribute", "worst", 5],
        ["attribute", "median", 6],
    ]


def test_the_bar_of_a_failure_is_that_of_the_remedies() -> None:
    assert failures.FAILED_BELOW == 0.5
    assert causes_of(["alike", "alike"], [0.5, 0.4999])["failed"].tolist() == [False, True]
