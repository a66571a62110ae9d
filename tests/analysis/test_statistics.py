"""The intervals and tests over scenes: against scipy, against enumeration, and by their error rates."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from refam_analysis.analysis.statistics import benjamini_hochberg, bootstrap_interval, scene_mean, sign_flip_p


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
