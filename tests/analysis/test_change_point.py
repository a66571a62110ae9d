"""Change points over depth: against brute force, on planted falls, and their level on smooth curves without one."""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refam_analysis.analysis import (
    ChangePointError,
    NoRecordingsError,
    RecordingsDifferError,
    change_point,
    drop_at,
    informative_from,
)

CURVES = hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=1, min_side=3, max_side=9),
                    elements=st.floats(0, 1, width=16))  # fmt: skip


def profiles(curves: Iterable[Sequence[float]], blocks: Sequence[int] | None = None) -> list[xr.DataArray]:
    return [
        xr.DataArray(list(curve), dims="block", coords={"block": list(blocks or range(len(curve)))}) for curve in curves
    ]


def squares(values: np.ndarray) -> float:
    return math.fsum((value - values.mean()) ** 2 for value in values)


def best_fall(curve: np.ndarray) -> tuple[float, list[int]]:
    """The least sum of squared residuals of two levels of which the second is lower, and every cut that has it."""
    cuts = [cut for cut in range(1, len(curve)) if curve[:cut].mean() > curve[cut:].mean()]
    residuals = {cut: squares(curve[:cut]) + squares(curve[cut:]) for cut in cuts}
    least = min(residuals.values(), default=math.inf)
    return least, [cut for cut, left in residuals.items() if left <= least + 1e-9]


def step(scenes: int, blocks: int, at: int, *, drop: float = 0.3, noise: float = 0.05, seed: int = 0) -> np.ndarray:
    """One level, then a lower one, with noise that is smooth over depth and differs from scene to scene."""
    return np.where(np.arange(blocks) < at, 0.9, 0.9 - drop) + smooth(scenes, blocks, noise, seed)


def smooth(scenes: int, blocks: int, spread: float, seed: int) -> np.ndarray:
    """Random walks: no course in common, and every curve with one of its own."""
    return np.random.default_rng(seed).normal(0.0, spread, (scenes, blocks)).cumsum(axis=1)


# --- the fit ---


@given(CURVES)
def test_the_block_has_the_least_residuals_of_all_falls(curve: np.ndarray) -> None:
    found = change_point(profiles([curve]))
    least, cuts = best_fall(curve)
    if cuts:
        assert found.block in cuts
        assert found.drop == pytest.approx(curve[: found.block].mean() - curve[found.block :].mean(), abs=1e-12)
        assert found.explained == pytest.approx(1 - least / squares(curve), abs=1e-6)


@given(CURVES, st.floats(-2, 2), st.floats(0.1, 10))
def test_the_block_does_not_depend_on_level_and_scale(curve: np.ndarray, level: float, scale: float) -> None:
    cuts = best_fall(curve)[1]
    if len(cuts) == 1:
        assert change_point(profiles([level + scale * curve])).block == cuts[0]


@pytest.mark.parametrize(("blocks", "at"), [(3, 1), (6, 2), (6, 5), (57, 19), (57, 40)])
def test_a_planted_fall_is_found(blocks: int, at: int) -> None:
    found = change_point(profiles(step(30, blocks, at, noise=0.01)))
    assert found.block == at
    assert found.low <= at <= found.high
    assert found.before > found.after and found.is_fall
    assert found.drop == pytest.approx(found.before - found.after, abs=0.02)
    assert found.drop_low < found.drop < found.drop_high
    assert found.informative == tuple(range(at, blocks))


def test_blocks_keep_their_numbers() -> None:
    found = change_point(profiles(step(9, 4, 2, noise=0.01), blocks=[0, 8, 16, 24]))
    assert (found.block, found.low, found.high) == (16, 16, 16)
    assert found.informative == (16, 24) and found.blocks == (0, 8, 16, 24)


def test_levels_are_those_of_the_mean_curve() -> None:
    curves = step(7, 6, 3, seed=4)
    found = change_point(profiles(curves))
    mean = curves.mean(axis=0)
    assert found.before == pytest.approx(mean[: found.block].mean())
    assert found.after == pytest.approx(mean[found.block :].mean())


def test_the_drop_of_each_scene_is_taken_where_the_others_fall() -> None:
    curves = step(8, 7, 3, drop=0.1, noise=0.1, seed=11)
    drops = []
    for scene in range(8):
        others = np.delete(curves, scene, axis=0).mean(axis=0)
        (cut,) = best_fall(others)[1]
        drops.append(curves[scene, :cut].mean() - curves[scene, cut:].mean())
    assert change_point(profiles(curves)).drop == pytest.approx(np.mean(drops))


# --- what it is worth ---


def test_p_counts_the_flips_that_reach_the_largest_gain() -> None:
    curves = step(6, 5, 2, drop=0.1, noise=0.08, seed=3)
    centred = curves - curves.mean(axis=1, keepdims=True)

    def largest(mean: np.ndarray) -> float:
        cuts = range(1, len(mean))
        return max(math.sqrt(k * (5 - k) / 5) * (mean[:k].mean() - mean[k:].mean()) for k in cuts)

    observed = largest(centred.mean(axis=0))
    turns = [np.mean([sign * scene for sign, scene in zip(signs, centred, strict=True)], axis=0)
             for signs in itertools.product([1, -1], repeat=6)]  # fmt: skip
    reached = [largest(turn) >= observed - 1e-12 for turn in turns]
    assert change_point(profiles(curves)).p == pytest.approx(np.mean(reached))


def test_smooth_curves_without_a_common_course_are_called_at_the_nominal_rate() -> None:
    """Random walks over depth: the choice of the best block and the smoothness of the curves must not show."""
    called = [
        change_point(profiles(smooth(16, 12, 0.1, seed)), flips=400, resamples=10).p <= 0.05 for seed in range(300)
    ]
    assert 4 <= sum(called) <= 28  # 0.05 of 300, within 3.5 standard deviations


def test_a_fall_that_is_not_there_has_no_size_on_average() -> None:
    """Chosen and measured on the same scenes it would have one."""
    found = [change_point(profiles(smooth(10, 8, 0.1, seed)), flips=10, resamples=10) for seed in range(300)]
    drops = np.array([one.drop for one in found])
    naive = np.array([one.before - one.after for one in found])
    assert abs(drops.mean()) < 4 * drops.std() / math.sqrt(300)
    assert naive.mean() > 5 * naive.std() / math.sqrt(300)


def test_the_interval_of_the_block_holds_the_true_one() -> None:
    holding, wide = 0, 0
    for seed in range(100):
        noise = np.random.default_rng(seed).normal(0.0, 0.35, (25, 12))
        curves = np.where(np.arange(12) < 5, 0.9, 0.75) + noise
        found = change_point(profiles(curves), flips=10, resamples=300)
        holding += found.low <= 5 <= found.high
        wide += found.low < found.high
    assert holding >= 90 and wide >= 50


def test_a_gradual_fall_is_explained_better_by_a_line() -> None:
    curves = np.linspace(0.9, 0.5, 57) + smooth(20, 57, 0.002, seed=0)
    found = change_point(profiles(curves))
    assert found.is_fall
    assert found.explained == pytest.approx(0.75, abs=0.03) and found.explained_by_line > 0.95
    assert found.better_than_line == 0.0


def test_a_sudden_fall_is_explained_better_by_two_levels() -> None:
    assert change_point(profiles(step(20, 12, 4, noise=0.01))).better_than_line == 1.0


def test_the_line_runs_over_the_numbers_of_the_blocks() -> None:
    found = change_point(profiles([[1.0, 0.9, 0.0]], blocks=[0, 1, 10]))
    assert found.explained_by_line == pytest.approx(1.0)


def test_a_rise_is_no_fall() -> None:
    found = change_point(profiles(1.0 - step(20, 6, 3, noise=0.01)))
    assert found.drop < 0 and found.p == 1.0 and not found.is_fall
    assert found.informative == (0, 1, 2, 3, 4, 5)


def test_a_dip_is_no_fall_from_one_level_to_another() -> None:
    curves = np.array([0.8, 0.7, 0.2, 0.6, 0.7, 0.75]) + smooth(20, 6, 0.005, seed=0)
    found = change_point(profiles(curves))
    assert found.p < 0.001 and found.drop_low > 0  # scenes agree, and the first block is above the mean of the rest
    assert found.explained < 0.5 and not found.is_fall
    assert found.informative == (0, 1, 2, 3, 4, 5)


def test_a_flat_curve_has_no_fall() -> None:
    found = change_point(profiles([[0.3] * 5] * 4))
    assert found.drop == pytest.approx(0.0) and found.p == 1.0 and not found.is_fall
    assert math.isnan(found.explained) and math.isnan(found.explained_by_line)


def test_equal_arguments_give_equal_results() -> None:
    curves = profiles(step(20, 9, 4, noise=0.1))
    assert change_point(curves, seed=3) == change_point(iter(curves), seed=3)


def test_one_scene_has_a_block_and_no_interval() -> None:
    found = change_point(profiles([[0.9, 0.9, 0.4, 0.4]]))
    assert (found.block, found.low, found.high, found.scenes) == (2, None, None, 1)
    assert found.drop == pytest.approx(0.5)
    assert all(map(math.isnan, (found.p, found.drop_low, found.drop_high, found.better_than_line)))
    assert found.informative == found.blocks


def test_a_scene_without_a_profile_is_left_out() -> None:
    curves = step(5, 6, 3)
    holed = np.concatenate([curves, np.full((2, 6), np.nan)])
    assert change_point(profiles(holed)) == change_point(profiles(curves))


# --- what is refused ---


@pytest.mark.parametrize("blocks", [1, 2], ids=lambda n: f"{n}-blocks")
def test_too_few_blocks_are_refused(blocks: int) -> None:
    with pytest.raises(ChangePointError, match="at least 3 blocks"):
        change_point(profiles(np.ones((4, blocks))))


@pytest.mark.parametrize("find", [change_point, informative_from])
def test_no_scene_is_refused(find: object) -> None:
    with pytest.raises(NoRecordingsError):
        find(profiles([[np.nan] * 4]))


@pytest.mark.parametrize("find", [change_point, informative_from])
def test_profiles_of_other_blocks_are_refused(find: object) -> None:
    pair = profiles([[1.0, 0.5, 0.2]]) + profiles([[1.0, 0.5, 0.2]], blocks=[0, 1, 3])
    with pytest.raises(RecordingsDifferError):
        find(pair)


# --- a threshold that is not crossed again ---


@given(CURVES, st.floats(0, 1))
def test_the_onset_is_the_first_block_after_which_none_is_above(curve: np.ndarray, threshold: float) -> None:
    expected = None
    for block in range(len(curve)):
        if all(value < threshold for value in curve[block:]):
            expected = block
            break
    found = informative_from(profiles([curve]), threshold=threshold)
    assert found.block == expected
    assert found.informative == (() if expected is None else tuple(range(expected, len(curve))))


def test_a_curve_that_is_low_from_the_start_begins_with_its_first_block() -> None:
    found = informative_from(profiles(np.full((5, 3), 0.4), blocks=[2, 5, 9]))
    assert (found.block, found.low, found.high, found.never) == (2, 2, 2, 0.0)


def test_the_onset_has_an_interval_of_blocks() -> None:
    curves = np.linspace(1.0, 0.8, 21) + np.random.default_rng(0).normal(0, 0.03, (12, 1))
    found = informative_from(profiles(curves))
    assert found.low < found.block < found.high
    assert found.block == next(b for b in range(21) if (curves.mean(axis=0)[b:] < 0.95).all())


def test_an_end_of_the_interval_may_be_never() -> None:
    curves = np.linspace(1.0, 0.94, 7) + np.random.default_rng(1).normal(0, 0.03, (12, 1))
    found = informative_from(profiles(curves))
    assert found.low is not None and found.high is None
    assert 0.025 < found.never < 1


def test_a_curve_that_is_never_low_has_no_onset() -> None:
    found = informative_from(profiles(np.full((4, 5), 0.99)))
    assert (found.block, found.low, found.high, found.never, found.informative) == (None, None, None, 1.0, ())


def test_the_onset_of_one_scene_has_no_interval() -> None:
    found = informative_from(profiles([[0.99, 0.5]]))
    assert (found.block, found.low, found.high, found.scenes) == (1, None, None, 1)
    assert math.isnan(found.never)


# --- one scene's part ---


def test_the_drop_of_a_scene_is_a_difference_of_means() -> None:
    (profile,) = profiles([[0.9, 0.8, 0.3, 0.1, 0.2]], blocks=[1, 2, 3, 5, 8])
    assert drop_at(profile, 3) == pytest.approx(0.85 - 0.2)


@pytest.mark.parametrize("block", [1, 4], ids=["the-first", "one-that-is-not-there"])
def test_a_drop_needs_blocks_on_both_sides(block: int) -> None:
    (profile,) = profiles([[0.9, 0.8, 0.3]], blocks=[1, 2, 3])
    with pytest.raises(ChangePointError, match=rf"block {block}: choose one of the blocks \[2, 3\]"):
        drop_at(profile, block)
