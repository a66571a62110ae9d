"""The intervals and tests over scenes: against scipy, against enumeration, and by their error rates."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from refam_analysis.analysis.statistics import (
    benjamini_hochberg,
    bootstrap_interval,
    bootstrap_ratio_interval,
    bootstrap_ratios,
    cluster_sums,
    percentile_interval,
    ratios_of,
    scene_mean,
    sign_flip_p,
    swap_p,
    two_sided_sign_flip_p,
)


def test_the_mean_skips_scenes_that_lack_the_quantity() -> None:
    values = np.array([[1.0, 4.0, np.nan], [3.0, np.nan, np.nan]])
    np.testing.assert_equal(scene_mean(values), [2.0, 4.0, np.nan])


def test_the_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=(60, 1))
    low, high = bootstrap_interval(values, resamples=20_000)
    expected = stats.bootstrap(
        (values[:, 0],), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    width = expected.high - expected.low
    assert abs(low[0] - expected.low) < 0.03 * width
    assert abs(high[0] - expected.high) < 0.03 * width


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    values = np.random.default_rng(3).normal(size=(40, 1500))
    low, high = bootstrap_interval(values, resamples=500)
    assert 0.91 < np.mean((low <= 0) & (high >= 0)) < 0.97


def test_a_column_is_resampled_over_its_own_scenes_only() -> None:
    values = np.random.default_rng(4).normal(size=(10, 2))
    values[7:, 1] = np.nan
    low, high = bootstrap_interval(values)
    alone_low, alone_high = bootstrap_interval(values[:7, 1:])
    assert (low[1], high[1]) == (alone_low[0], alone_high[0])


def test_one_scene_has_no_interval() -> None:
    low, high = bootstrap_interval(np.array([[1.0], [np.nan]]))
    assert np.isnan(low[0]) and np.isnan(high[0])


def test_the_interval_depends_on_nothing_but_its_seed() -> None:
    values = np.random.default_rng(5).normal(size=(9, 3))
    np.testing.assert_array_equal(bootstrap_interval(values, seed=7), bootstrap_interval(values, seed=7))
    assert not np.array_equal(bootstrap_interval(values, seed=7), bootstrap_interval(values, seed=8))


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=7))
def test_p_of_few_scenes_is_the_enumerated_one(values: list[int]) -> None:
    sums = [sum(s * v for s, v in zip(signs, values, strict=True)) for signs in product([1, -1], repeat=len(values))]
    expected = np.mean([total >= sum(values) for total in sums])
    assert sign_flip_p(np.array(values, dtype=float)[:, None])[0] == pytest.approx(expected)


def test_random_flips_agree_with_scipys_permutation_test() -> None:
    values = np.random.default_rng(6).normal(0.3, size=30)
    expected = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        n_resamples=50_000,
        rng=np.random.default_rng(7),
    ).pvalue
    assert sign_flip_p(values[:, None])[0] == pytest.approx(expected, rel=0.15)


def test_p_is_uniform_where_nothing_is_there() -> None:
    p = sign_flip_p(np.random.default_rng(8).normal(size=(20, 2000)), flips=4000)
    assert abs(np.mean(p <= 0.05) - 0.05) < 0.015
    assert abs(np.mean(p <= 0.005) - 0.005) < 0.005


def test_p_reaches_as_low_as_the_flips_allow() -> None:
    assert sign_flip_p(np.ones((40, 1)), flips=50_000)[0] == pytest.approx(1 / 50_001)


def test_p_ignores_scenes_that_lack_the_quantity() -> None:
    values = np.array([[1.0, 1.0], [2.0, 2.0], [1.5, np.nan]])
    np.testing.assert_allclose(sign_flip_p(values), [0.125, 0.25])


def test_p_of_a_column_without_scenes_is_missing() -> None:
    assert np.isnan(sign_flip_p(np.full((3, 1), np.nan))[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_q_agrees_with_statsmodels(p: list[float]) -> None:
    expected = multipletests(p, method="fdr_bh")[1]
    np.testing.assert_allclose(benjamini_hochberg(np.array(p)), expected)


def test_a_test_that_was_not_made_costs_nothing() -> None:
    with_gap = benjamini_hochberg(np.array([0.01, np.nan, 0.04]))
    np.testing.assert_allclose(with_gap, [0.02, np.nan, 0.04])


# Clusters


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 5) | st.none()), min_size=1))
def test_sums_of_clusters_are_those_of_their_items(items: list[tuple[str, int | None]]) -> None:
    labels, values = zip(*items, strict=True)
    column = np.array([np.nan if value is None else value for value in values], dtype=float)[:, None]
    expected = [sum(v or 0 for label, v in items if label == name) for name in sorted(set(labels))]
    assert cluster_sums(column, np.array(labels))[:, 0].tolist() == expected


def test_a_ratio_of_clusters_of_one_is_resampled_as_the_mean() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=(60, 2))
    np.testing.assert_allclose(bootstrap_ratio_interval(values, np.ones((60, 2))), bootstrap_interval(values))


def test_the_interval_of_a_ratio_agrees_with_scipy() -> None:
    rng = np.random.default_rng(2)
    unions = rng.integers(50, 500, size=80).astype(float)
    shared = unions * rng.random(80)
    low, high = bootstrap_ratio_interval(shared[:, None], unions[:, None], resamples=20_000)
    expected = stats.bootstrap(
        (shared, unions), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, method="percentile",
        n_resamples=20_000, rng=np.random.default_rng(3), vectorized=True,
    ).confidence_interval  # fmt: skip
    width = expected.high - expected.low
    assert abs(low[0] - expected.low) < 0.03 * width and abs(high[0] - expected.high) < 0.03 * width


def test_an_interval_over_clusters_is_wider_where_items_of_a_cluster_are_alike() -> None:
    rng = np.random.default_rng(4)
    alike = np.repeat(rng.normal(size=50), 8)[:, None]
    one = np.ones_like(alike)
    whole = bootstrap_ratio_interval(alike, one)
    images = np.repeat(np.arange(50), 8)
    clustered = bootstrap_ratio_interval(cluster_sums(alike, images), cluster_sums(one, images))
    assert 2.3 < (clustered[1] - clustered[0])[0] / (whole[1] - whole[0])[0] < 3.4  # about the root of 8


def test_the_interval_over_clusters_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 6, size=(60, 1)).astype(float)
    covered = []
    for _ in range(400):
        sums = rng.normal(size=(60, 1)) * sizes
        low, high = bootstrap_ratio_interval(sums, sizes, resamples=300)
        covered.append(low[0] <= 0 <= high[0])
    assert 0.90 < np.mean(covered) < 0.98


def test_draws_over_the_same_clusters_are_paired() -> None:
    rng = np.random.default_rng(6)
    first = rng.random((30, 1))
    ones = np.ones((30, 1))
    change = bootstrap_ratios(first + 0.25, ones) - bootstrap_ratios(first, ones)
    np.testing.assert_allclose(change, 0.25)


def test_many_clusters_are_drawn_in_parts_and_all_of_them() -> None:
    ones = np.ones((90_000, 1))
    draws = bootstrap_ratios(ones, ones, resamples=120)
    assert draws.shape == (120, 1) and (draws == 1.0).all()


def test_draws_without_a_denominator_do_not_count() -> None:
    draws = bootstrap_ratios(np.array([[1.0], [0.0]]), np.array([[2.0], [0.0]]), resamples=50)
    assert np.isnan(draws).any()
    assert [end[0] for end in percentile_interval(draws)] == [0.5, 0.5]
    low, high = bootstrap_ratio_interval(np.array([[1.0], [0.0]]), np.array([[2.0], [0.0]]))
    assert np.isnan(low[0]) and np.isnan(high[0])


@pytest.mark.parametrize("clusters", [1, 6, 12])
def test_exchanging_conditions_of_equal_denominators_is_flipping_signs(clusters: int) -> None:
    change = np.random.default_rng(7).normal(0.3, size=(clusters, 3))
    ones = np.ones_like(change)
    swapped = swap_p((np.zeros_like(change), ones), (change, ones))
    np.testing.assert_allclose(swapped, two_sided_sign_flip_p(change))


def test_p_of_exchanged_ratios_is_the_enumerated_one() -> None:
    rng = np.random.default_rng(8)
    pairs = rng.integers(1, 9, size=(5, 2, 2)).astype(float)  # cluster, condition, (numerator, denominator)
    statistics = []
    for swaps in product([0, 1], repeat=5):
        first = sum(pair[swap] for pair, swap in zip(pairs, swaps, strict=True))
        second = sum(pair[1 - swap] for pair, swap in zip(pairs, swaps, strict=True))
        statistics.append(abs(second[0] / second[1] - first[0] / first[1]))
    expected = np.mean([value >= statistics[0] - 1e-12 for value in statistics])
    before, after = ((pairs[:, side, :1], pairs[:, side, 1:]) for side in (0, 1))
    assert swap_p(before, after)[0] == pytest.approx(expected)


def test_p_of_interchangeable_conditions_is_uniform() -> None:
    rng = np.random.default_rng(9)
    numerators, denominators = rng.random((2, 25, 300)), rng.integers(1, 4, (2, 25, 300)).astype(float)
    p = swap_p((numerators[0], denominators[0]), (numerators[1], denominators[1]), flips=2000)
    assert 0.02 < np.mean(p <= 0.05) < 0.09


def test_a_ratio_without_a_denominator_has_no_p() -> None:
    none = np.zeros((4, 1))
    assert np.isnan(swap_p((none, none), (none, none))[0])
    assert np.isnan(ratios_of(np.ones(1), np.zeros(1))[0])


def test_the_interval_of_one_value_in_every_scene_is_that_value() -> None:
    """On every processor: a share of 1 has no interval from 0.9999999999999999 on."""
    for scenes in range(2, 80):
        low, high = bootstrap_interval(np.ones((scenes, 1)), resamples=50)
        assert low[0] == high[0] == 1.0
