"""Masks and points against slow references that are written from the definitions, pixel by pixel."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refam_analysis.evaluation.datasets.rle import BadMaskError, encode_mask
from refam_analysis.evaluation.metrics import (
    PRECISION_THRESHOLDS,
    EmptyRule,
    MaskError,
    MaskShapeError,
    contour_accuracies,
    contour_accuracy,
    ious_of,
    mask_ious,
    mask_overlaps,
    mean_iou,
    overall_iou,
    point_accuracy,
    points_on,
    precision_at,
    region_and_contour,
    region_similarity,
)

SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = SIDES.flatmap(lambda size: hnp.arrays(bool, size))
PAIRS = SIDES.flatmap(lambda size: st.tuples(hnp.arrays(bool, size), hnp.arrays(bool, size)))


def slow_iou(predicted: np.ndarray, true: np.ndarray) -> float | None:
    """Counted pixel by pixel; None where both are empty."""
    both = either = 0
    for position in np.ndindex(true.shape):
        both += bool(predicted[position]) and bool(true[position])
        either += bool(predicted[position]) or bool(true[position])
    return both / either if either else None


def slow_outline(mask: np.ndarray) -> set[tuple[int, int]]:
    """The loop of DAVIS' seg2bmap: a pixel unlike its right, lower or lower right neighbour, as far as these exist."""
    height, width = mask.shape
    found = set()
    for row, column in np.ndindex(mask.shape):
        right, below = column + 1 < width, row + 1 < height
        others = [(row, column + 1)] * right + [(row + 1, column)] * below + [(row + 1, column + 1)] * (right and below)
        if any(mask[other] != mask[row, column] for other in others):
            found.add((row, column))
    return found


def slow_contour(predicted: np.ndarray, true: np.ndarray, tolerance: float = 0.008) -> float:
    """The rules of db_eval_boundary, with a disk of whole offsets for the dilation."""
    radius = math.ceil(tolerance * math.sqrt(true.shape[0] ** 2 + true.shape[1] ** 2)) if tolerance < 1 else tolerance
    reach = range(-math.ceil(radius), math.ceil(radius) + 1)
    disk = [(dy, dx) for dy, dx in product(reach, reach) if dy * dy + dx * dx <= radius * radius]
    ours, truth = slow_outline(predicted), slow_outline(true)
    if not ours and truth:
        precision, recall = 1.0, 0.0
    elif ours and not truth:
        precision, recall = 0.0, 1.0
    elif not ours and not truth:
        precision, recall = 1.0, 1.0
    else:
        precision = np.mean([any((y + dy, x + dx) in truth for dy, dx in disk) for y, x in ours])
        recall = np.mean([any((y + dy, x + dx) in ours for dy, dx in disk) for y, x in truth])
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(st.lists(PAIRS, min_size=1, max_size=5))
def test_ious_equal_counted_pixels_for_masks_of_any_sizes(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    predicted, true = zip(*pairs, strict=True)
    slow = [slow_iou(p, t) for p, t in pairs]
    assert mask_ious(predicted, true, empty="right").tolist() == pytest.approx([1.0 if v is None else v for v in slow])
    assert mask_ious(predicted, true, empty="wrong").tolist() == pytest.approx([v or 0.0 for v in slow])
    kept = [v for v in slow if v is not None]
    skipped = mean_iou(predicted, true, empty="skip")
    assert skipped == pytest.approx(sum(kept) / len(kept)) if kept else math.isnan(skipped)


@given(st.lists(PAIRS, min_size=1, max_size=5))
def test_overall_iou_is_the_iou_of_all_pixels_laid_side_by_side(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    side_by_side = [np.concatenate([mask.ravel() for mask in masks])[None] for masks in zip(*pairs, strict=True)]
    expected = slow_iou(*side_by_side)
    overall = overall_iou(*zip(*pairs, strict=True))
    assert math.isnan(overall) if expected is None else overall == pytest.approx(expected)


@given(PAIRS, st.sampled_from([0.008, 0.2, 1, 2, 2.5]))
def test_contour_accuracy_follows_the_definition_of_davis(
    pair: tuple[np.ndarray, np.ndarray], tolerance: float
) -> None:
    assert contour_accuracy(*pair, tolerance=tolerance) == pytest.approx(slow_contour(*pair, tolerance), abs=1e-9)


def test_contour_accuracy_follows_the_definition_on_blobs_with_a_wide_disk() -> None:
    rows, columns = np.mgrid[:60, :80]
    true = (rows - 30) ** 2 + (columns - 40) ** 2 < 15**2
    predicted = (rows - 32) ** 2 / 1.4 + (columns - 37) ** 2 < 17**2
    value = contour_accuracy(predicted, true, tolerance=0.03)
    assert 0.2 < value < 0.98
    assert value == pytest.approx(slow_contour(predicted, true, 0.03), abs=1e-9)


@given(PAIRS)
def test_iou_and_contour_accuracy_are_symmetric_and_between_0_and_1(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for measure in (region_similarity, contour_accuracy):
        there, back = measure(*pair), measure(pair[1], pair[0])
        assert there == pytest.approx(back, abs=1e-12)
        assert 0.0 <= there <= 1.0


@given(MASKS)
def test_a_mask_agrees_fully_with_itself_and_not_at_all_with_its_complement(mask: np.ndarray) -> None:
    assert region_similarity(mask, mask) == contour_accuracy(mask, mask) == 1.0
    assert region_similarity(mask, ~mask) == 0.0


@given(PAIRS, st.integers(0, 4), st.integers(0, 4))
def test_moving_both_masks_together_changes_nothing(pair: tuple[np.ndarray, np.ndarray], down: int, right: int) -> None:
    """Inside a frame of one size, with a margin so that no outline meets the frame."""

    def moved(mask: np.ndarray, dy: int, dx: int) -> np.ndarray:
        height, width = mask.shape
        return np.pad(mask, ((2 + dy, 7 - dy), (2 + dx, 7 - dx)))

    here, there = [moved(m, 0, 0) for m in pair], [moved(m, down, right) for m in pair]
    assert region_similarity(*here) == region_similarity(*there)
    assert contour_accuracy(*here) == pytest.approx(contour_accuracy(*there), abs=1e-12)


@pytest.mark.parametrize(("rule", "value"), [("right", 0.75), ("wrong", 0.25), ("skip", 0.5)])
def test_the_rule_for_empty_frames_is_the_callers(rule: EmptyRule, value: float) -> None:
    """Frames: half right, and one in which nothing is to be seen or seen."""
    predicted, true = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    predicted[0, 0], true[0, :2] = True, True
    assert region_similarity(predicted, true, empty=rule) == pytest.approx(value)


@pytest.mark.parametrize(("rule", "value"), [("right", 1.0), ("wrong", 0.5), ("skip", 1.0)])
def test_the_rule_for_empty_frames_holds_for_contours(rule: EmptyRule, value: float) -> None:
    masks = np.zeros((2, 6, 6), bool)
    masks[0, 2:4, 2:4] = True
    assert contour_accuracy(masks, masks, empty=rule) == value


def test_one_empty_mask_of_two_is_worth_nothing_under_every_rule() -> None:
    some, none = np.eye(4, dtype=bool), np.zeros((4, 4), bool)
    for rule in ("right", "wrong", "skip"):
        assert region_similarity(some, none, empty=rule) == region_similarity(none, some, empty=rule) == 0.0
        assert contour_accuracy(some, none, empty=rule) == contour_accuracy(none, some, empty=rule) == 0.0


def test_points_are_looked_up_as_x_then_y() -> None:
    mask = np.zeros((3, 5), bool)
    mask[1, 4] = True
    assert points_on([(4, 1), (1, 4), (3.6, 0.7), (4.5, 1.5)], [mask] * 4).tolist() == [True, False, True, False]


def test_point_accuracy_is_the_share_of_hits_over_masks_of_any_sizes() -> None:
    masks = [np.ones((2, 2), bool), np.zeros((5, 3), bool), np.ones((1, 9), bool), np.ones((4, 4), bool)]
    assert point_accuracy([(0, 0), (1, 1), (8, 0), (3, 3)], masks) == 0.75


def test_no_items_have_no_mean() -> None:
    assert math.isnan(mean_iou([], [])) and math.isnan(overall_iou([], [])) and math.isnan(point_accuracy([], []))


@pytest.mark.parametrize(
    ("predicted", "true", "says"),
    [
        ([np.ones((2, 2))], [np.ones((2, 3))], r"\(2, 2\) predicted, \(2, 3\) true"),
        ([np.ones((2, 2))], [], "1 predicted, 0 true"),
    ],
    ids=["sizes", "numbers"],
)
def test_masks_that_cannot_be_paired_are_refused(
    predicted: list[np.ndarray], true: list[np.ndarray], says: str
) -> None:
    with pytest.raises(MaskShapeError, match=says):
        mean_iou(predicted, true)


@pytest.mark.parametrize("mask", [np.full((2, 2), 255), np.full((2, 2), 0.5), np.full((2, 2), np.nan)], ids=str)
def test_a_mask_of_anything_but_truth_values_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(MaskError, match="truth values"):
        mean_iou([mask], [np.ones((2, 2), bool)])


def test_a_mask_of_three_axes_is_refused() -> None:
    with pytest.raises(MaskError, match=r"\(3, 2, 2\)"):
        mean_iou([np.ones((3, 2, 2), bool)], [np.ones((3, 2, 2), bool)])


# Run lengths


@given(st.lists(PAIRS, min_size=1, max_size=5))
def test_run_lengths_are_worth_what_their_arrays_are(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    predicted, true = zip(*pairs, strict=True)
    ours, truth = [encode_mask(mask) for mask in predicted], [encode_mask(mask) for mask in true]
    expected = mask_overlaps(predicted, true)
    for one, other in ((ours, truth), (predicted, truth), (ours, true)):
        np.testing.assert_array_equal(mask_overlaps(one, other), expected)


def test_points_are_looked_up_on_run_lengths_too() -> None:
    mask = np.zeros((3, 5), bool)
    mask[1, 4] = True
    assert points_on([(4, 1), (1, 1)], [encode_mask(mask)] * 2).tolist() == [True, False]


def test_run_lengths_of_other_sizes_are_refused() -> None:
    with pytest.raises(MaskShapeError, match=r"\(2, 2\) predicted, \(2, 3\) true"):
        mask_overlaps([encode_mask(np.ones((2, 2)))], [encode_mask(np.ones((2, 3)))])


def test_run_lengths_that_make_up_no_mask_are_refused() -> None:
    with pytest.raises(BadMaskError):
        mask_overlaps([{"size": [2, 2], "counts": b"2"}], [encode_mask(np.ones((2, 2)))])


def test_masks_of_many_sizes_keep_their_order() -> None:
    sizes = [(2, 2), (3, 1), (2, 2), (480, 854), (3, 1)]
    predicted = [np.ones(size, bool) for size in sizes]
    true = [np.arange(size[0] * size[1]).reshape(size) < number for number, size in enumerate(sizes)]
    assert mask_overlaps(predicted, true)[0].tolist() == [0, 1, 2, 3, 3]


# Precision


@given(st.lists(PAIRS, min_size=1, max_size=6))
def test_precision_is_the_share_that_reaches_each_threshold(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    slow = [1.0 if (iou := slow_iou(p, t)) is None else iou for p, t in pairs]
    expected = [sum(iou >= threshold for iou in slow) / len(slow) for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)]
    predicted, true = zip(*pairs, strict=True)
    assert precision_at(predicted, true).tolist() == pytest.approx(expected, abs=1e-9)


def test_an_iou_equal_to_the_threshold_reaches_it() -> None:
    true = np.ones((1, 10), bool)
    for tenths, threshold in zip(range(5, 10), PRECISION_THRESHOLDS, strict=True):
        assert precision_at([np.arange(10)[None] < tenths], [true], [threshold]).tolist() == [1.0]


def test_precision_follows_the_rule_for_empty_masks() -> None:
    nothing = np.zeros((2, 2), bool)
    half = np.array([[True, True], [False, False]])
    masks, truth = [nothing, half], [nothing, np.ones((2, 2), bool)]
    values = {rule: precision_at(masks, truth, [0.6], empty=rule)[0] for rule in ("right", "wrong", "skip")}
    assert values == {"right": 0.5, "wrong": 0.0, "skip": 0.0}
    assert np.isnan(precision_at([nothing], [nothing], [0.6], empty="skip")).all()


def test_counted_pixels_give_the_ious_of_their_masks() -> None:
    assert ious_of([1, 0, 0], [4, 2, 0], empty="right").tolist() == [0.25, 0.0, 1.0]


# Frames


@given(st.integers(1, 4), SIDES, st.randoms(use_true_random=False))
def test_frames_are_scored_as_each_by_itself(frames: int, size: tuple[int, int], random: object) -> None:
    rng = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    predicted, true = rng.random((2, frames, *size)) < rng.choice([0.0, 0.3, 0.9], (2, frames, 1, 1))
    alone = [slow_contour(p, t, 0.2) for p, t in zip(predicted, true, strict=True)]
    assert contour_accuracies(predicted, true, tolerance=0.2).tolist() == pytest.approx(alone, abs=1e-9)
    assert contour_accuracy(predicted, true, tolerance=0.2) == pytest.approx(np.mean(alone), abs=1e-9)
    regions = [1.0 if (iou := slow_iou(p, t)) is None else iou for p, t in zip(predicted, true, strict=True)]
    assert region_similarity(predicted, true) == pytest.approx(np.mean(regions), abs=1e-9)
    both = (np.mean(alone) + np.mean(regions)) / 2
    assert region_and_contour(predicted, true, tolerance=0.2) == pytest.approx(both, abs=1e-9)


def test_a_frame_of_davis_follows_the_definition() -> None:
    """480 x 854: the radius is 8 pixels, and frames are cropped to where outlines are."""
    rows, columns = np.mgrid[:480, :854]
    true = ((rows - 100) / 20) ** 2 + ((columns - 800) / 25) ** 2 < 1
    predicted = ((rows - 104) / 18) ** 2 + ((columns - 790) / 30) ** 2 < 1
    value = contour_accuracy(predicted, true)
    assert 0.3 < value < 0.99
    assert value == pytest.approx(slow_contour(predicted, true), abs=1e-9)


@given(PAIRS, st.integers(0, 4), st.integers(0, 4))
def test_moving_both_masks_together_changes_no_measure_of_regions(
    pair: tuple[np.ndarray, np.ndarray], down: int, right: int
) -> None:
    moved = [np.pad(mask, ((down, 4 - down), (right, 4 - right))) for mask in pair]
    still = [np.pad(mask, ((0, 4), (0, 4))) for mask in pair]
    for measure in (overall_iou, mean_iou, precision_at):
        np.testing.assert_equal(measure([moved[0]], [moved[1]]), measure([still[0]], [still[1]]))


def test_no_frame_has_no_accuracy() -> None:
    assert contour_accuracies(np.zeros((0, 4, 4)), np.zeros((0, 4, 4))).shape == (0,)
    assert math.isnan(contour_accuracy(np.zeros((0, 4, 4)), np.zeros((0, 4, 4))))
