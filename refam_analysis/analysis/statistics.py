"""Intervals, tests and corrections over scenes, shared by every table of this room.

The unit is always the scene: one row of ``values`` is one recording (image, prompt and seed), one column
one quantity (a block, a token role, a kind). A scene may lack a quantity (its prompt has no such word):
NaN says so, and that scene then takes no part in that column. Where a unit holds a varying number of items (an image
and its expressions) it is a cluster, and a mean over items is a ratio of sums over clusters. Nothing here knows what
attention is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from refam_analysis.errors import RefamError

Floats = NDArray[np.float64]

CELLS = 4_000_000
"""At most this many float64 at once (32 MB), whatever the number of columns."""

EXACT_SCENES = 12
"""Up to here every flip is tried: 4,096 of them."""

_SCREEN = 2_000  # flips of the first pass, which settles every column that is far from significant


class NoRecordingsError(RefamError, ValueError):
    """A statistic over scenes was asked for without a scene."""

    def __init__(self) -> None:
        super().__init__("There is no recording to summarise: give at least one Recording, or a sequence of them.")


def scene_mean(values: Floats) -> Floats:
    """Mean over the scenes that have the quantity; NaN where no scene has it.

    Args:
        values: (scenes, columns); NaN where a scene lacks a quantity.

    Returns:
        (columns,), the unit of ``values``.

    >>> scene_mean(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
    [2.0, nan]
    """
    present = np.isfinite(values)
    count = present.sum(axis=0)
    total = np.where(present, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def bootstrap_interval(
    values: Floats, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Percentile bootstrap interval of the mean over scenes, column by column.

    Whole scenes are drawn with replacement, so what hangs together within a scene stays together. Columns that
    the same scenes have share their draws.

    Args:
        values: (scenes, columns); NaN where a scene lacks a quantity.
        confidence: share of the bootstrap means between the two ends.
        resamples: number of draws; 2000 fixes the ends of a 95 % interval to about 2 % of its width.
        seed: of the draws; equal arguments give equal intervals.

    Returns:
        Two arrays (columns,): the lower and the upper end; NaN where fewer than two scenes have the quantity.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.

    >>> low, high = bootstrap_interval(np.array([[1.0], [2.0], [3.0]]))
    >>> bool(1.0 <= low[0] < 2.0 < high[0] <= 3.0)
    True
    """
    low = np.full(values.shape[1], np.nan)
    high = np.full(values.shape[1], np.nan)
    tails = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    for scenes, columns in _same_scenes(values):
        if len(scenes) < 2:
            continue
        drawn = np.random.default_rng(seed).multinomial(len(scenes), np.full(len(scenes), 1 / len(scenes)), resamples)
        for part in _chunks(columns, resamples):
            # Divided last, so that means of zeros and ones are exact, and no end passes a share of 0 or 1.
            means = drawn.astype(np.float64) @ values[np.ix_(scenes, part)] / len(scenes)
            low[part], high[part] = np.quantile(means, tails, axis=0)
    return low, high


def sign_flip_p(values: Floats, *, flips: int = 100_000, seed: int = 0) -> Floats:
    """Probability of a mean over scenes at least this large, were each scene's value as likely negative as positive.

    The null hypothesis is that the values are symmetric about a number at most zero: a one-sided, one-sample
    permutation test whose unit is the scene. With at most 12 scenes all flips are tried, and the smallest
    possible p is 2^-scenes; with more, random ones, and it is 1 / (flips + 1). A first pass of 2,000 flips
    settles the columns that it puts at p of 0.01 and above.

    Args:
        values: (scenes, columns); NaN where a scene lacks a quantity.
        flips: random flips of the second pass. A correction over c columns needs about c / 0.05 of them.
        seed: of the flips.

    Returns:
        p of shape (columns,); NaN where no scene has the quantity.

    Source: Fisher, The Design of Experiments, 1935, section 21; the count with the observed one added: Phipson and
    Smyth, Permutation p-values should never be zero, 2010.

    >>> sign_flip_p(np.array([[1.0], [2.0], [1.5]])).tolist()
    [0.125]
    """
    scenes = values.shape[0]
    present = np.isfinite(values)
    filled = np.where(present, values, 0.0)
    observed = filled.sum(axis=0)
    if scenes <= EXACT_SCENES:
        signs = _signs((np.arange(2**scenes)[:, None] >> np.arange(scenes)) & 1)
        p = _count_at_least(signs, filled, observed) / len(signs)
    else:
        generator = np.random.default_rng(seed)
        p = _random_flips(filled, observed, _SCREEN, generator)
        near = np.flatnonzero(p < 0.01)
        if flips > _SCREEN and len(near):
            p[near] = _random_flips(filled[:, near], observed[near], flips, generator)
    return np.where(present.any(axis=0), p, np.nan)


def two_sided_sign_flip_p(values: Floats, *, flips: int = 100_000, seed: int = 0) -> Floats:
    """Probability of a mean over scenes as far from zero as this, in either direction.

    Args:
        values, flips, seed: as for :func:`sign_flip_p`.

    Returns:
        p of shape (columns,): twice the smaller of the two one-sided ones, at most 1; NaN where no scene has the
        quantity.

    >>> two_sided_sign_flip_p(np.array([[1.0], [2.0], [1.5]])).tolist()
    [0.25]
    """
    upper, lower = (sign_flip_p(sign * values, flips=flips, seed=seed) for sign in (1.0, -1.0))
    p: Floats = np.minimum(1.0, 2.0 * np.minimum(upper, lower))
    return p


def benjamini_hochberg(p: Floats) -> Floats:
    """The smallest false discovery rate at which each test would be called, over all tests that were made.

    Args:
        p: (tests,); NaN for a test that was not made, which then does not count.

    Returns:
        q of shape (tests,), NaN where p is.

    Source: Benjamini and Hochberg, Controlling the false discovery rate, 1995.

    >>> benjamini_hochberg(np.array([0.01, 0.04, np.nan])).tolist()
    [0.02, 0.04, nan]
    """
    q = np.full(p.shape, np.nan)
    made = np.isfinite(p)
    if made.any():
        q[made] = false_discovery_control(p[made], method="bh")
    return q


def cluster_sums(values: Floats, clusters: NDArray[Any]) -> Floats:
    """Sums over the items of each cluster, such as over the expressions of each image.

    Args:
        values: (items, columns); NaN counts as nothing.
        clusters: (items,), which cluster each item is of; any labels that can be sorted.

    Returns:
        (clusters, columns), clusters in the order of their labels.

    >>> cluster_sums(np.array([[1.0], [2.0], [4.0]]), np.array(["b", "a", "b"])).tolist()
    [[2.0], [5.0]]
    """
    labels, group = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(labels), values.shape[1]))
    np.add.at(sums, group.ravel(), np.where(np.isfinite(values), values, 0.0))
    return sums


def bootstrap_ratios(numerators: Floats, denominators: Floats, *, resamples: int = 2000, seed: int = 0) -> Floats:
    """Bootstrap draws of a ratio of sums, with whole clusters drawn with replacement.

    A mean over items whose number differs from cluster to cluster is such a ratio (sum of values over number of items),
    and so is a cumulative IoU. Equal seeds and numbers of clusters give equal draws of clusters: so the draws of two
    columns, or of two calls over the same clusters, are paired, and their differences are draws of the difference.

    Args:
        numerators: (clusters, columns), finite: sums over the cluster; 0 where it lacks the quantity.
        denominators: the same shape, not negative.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        (resamples, columns); NaN in a draw whose denominators sum to 0.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8 (hierarchical data).

    >>> bootstrap_ratios(np.array([[1.0], [3.0]]), np.array([[2.0], [6.0]]), resamples=3).tolist()
    [[0.5], [0.5], [0.5]]
    """
    clusters, generator = len(numerators), np.random.default_rng(seed)
    step = max(1, CELLS // max(1, clusters))
    parts = []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.multinomial(clusters, np.full(clusters, 1 / clusters), rows).astype(np.float64)
        parts.append(ratios_of(drawn @ numerators, drawn @ denominators))
    return np.concatenate(parts)


def bootstrap_ratio_interval(
    numerators: Floats, denominators: Floats, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Percentile bootstrap interval of a ratio of sums over clusters, column by column.

    Args:
        numerators, denominators, resamples, seed: as for :func:`bootstrap_ratios`.
        confidence: share of the draws between the two ends.

    Returns:
        Two arrays (columns,): the lower and the upper end; NaN where fewer than two clusters have the quantity.

    >>> low, high = bootstrap_ratio_interval(np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [2.0], [4.0]]))
    >>> bool(0.5 <= low[0] < 0.75 < high[0] <= 1.0)
    True
    """
    draws = bootstrap_ratios(numerators, denominators, resamples=resamples, seed=seed)
    low, high = percentile_interval(draws, confidence=confidence)
    enough = (denominators > 0).sum(axis=0) > 1
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def percentile_interval(draws: Floats, *, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """The middle share of bootstrap draws, column by column.

    Args:
        draws: (resamples, columns); NaN does not count.
        confidence: share between the two ends.

    Returns:
        Two arrays (columns,); NaN where there is no draw.

    >>> [end.round(6).tolist() for end in percentile_interval(np.arange(101.0)[:, None], confidence=0.9)]
    [[5.0], [95.0]]
    """
    low, high = np.full(draws.shape[1], np.nan), np.full(draws.shape[1], np.nan)
    tails = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    some = np.isfinite(draws).any(axis=0)
    if some.any():
        low[some], high[some] = np.nanquantile(draws[:, some], tails, axis=0)
    return low, high


def swap_p(
    before: tuple[Floats, Floats], after: tuple[Floats, Floats], *, flips: int = 20_000, seed: int = 0
) -> Floats:
    """Two-sided probability of so large a difference of two ratios of sums, were the two conditions interchangeable.

    In every cluster the two conditions change places or do not, as a coin falls. For ratios with equal denominators,
    such as means over the same items, this is the sign-flip test of :func:`two_sided_sign_flip_p`. With at most 12
    clusters all exchanges are tried; with more, random ones, and the smallest possible p is 1 / (flips + 1).

    Args:
        before: numerators and denominators, each (clusters, columns), as for :func:`bootstrap_ratios`.
        after: those of the other condition, over the same clusters.
        flips: random exchanges.
        seed: of the exchanges.

    Returns:
        p of shape (columns,); NaN where a ratio has no denominator.

    Source: Fisher, The Design of Experiments, 1935, section 21; Phipson and Smyth, 2010.

    >>> ones = np.ones((3, 1))
    >>> swap_p((np.zeros((3, 1)), ones), (np.array([[1.0], [2.0], [1.5]]), ones)).tolist()
    [0.25]
    """
    clusters, columns = before[0].shape
    exact = clusters <= EXACT_SCENES
    total = 2**clusters if exact else flips
    generator = np.random.default_rng(seed)
    sums = [(first.sum(axis=0), second.sum(axis=0)) for first, second in zip(before, after, strict=True)]
    moved = [second - first for first, second in zip(before, after, strict=True)]
    observed = np.abs(ratios_of(sums[0][1], sums[1][1]) - ratios_of(sums[0][0], sums[1][0]))
    count, step = np.zeros(columns), max(1, CELLS // max(1, clusters))
    for start in range(0, total, step):
        rows = np.arange(start, min(start + step, total))
        swapped = (
            (rows[:, None] >> np.arange(clusters)) & 1 if exact else generator.integers(0, 2, (len(rows), clusters))
        ).astype(np.float64)
        change = [swapped @ part for part in moved]
        first, second = (
            ratios_of(sums[0][side] + sign * change[0], sums[1][side] + sign * change[1])
            for side, sign in ((0, 1.0), (1, -1.0))
        )
        count += (np.abs(second - first) >= observed - 1e-12).sum(axis=0)
    p = count / total if exact else (count + 1.0) / (total + 1.0)
    return np.where(np.isfinite(observed), p, np.nan)


def ratios_of(numerators: Floats, denominators: Floats) -> Floats:
    """Element by element; NaN where the denominator is 0.

    >>> ratios_of(np.array([1.0, 2.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    return np.divide(numerators, denominators, out=np.full(np.shape(numerators), np.nan), where=denominators > 0)


def _random_flips(filled: Floats, observed: Floats, flips: int, generator: np.random.Generator) -> Floats:
    scenes, columns = filled.shape
    count = np.zeros(columns)
    step = max(1, CELLS // max(1, columns, scenes))
    for start in range(0, flips, step):
        rows = min(step, flips - start)
        flipped = generator.integers(0, 2, size=(rows, scenes), dtype=np.int8)
        count += _count_at_least(_signs(flipped), filled, observed)
    return (count + 1.0) / (flips + 1.0)


def _signs(flipped: NDArray[np.integer[Any]]) -> Floats:
    return 1.0 - 2.0 * flipped.astype(np.float64)


def _count_at_least(signs: Floats, filled: Floats, observed: Floats) -> Floats:
    """How many flips reach the observed sum, with room for the rounding of a sum in another order."""
    tolerance = 1e-12 * np.abs(filled).sum(axis=0)
    count = np.zeros(filled.shape[1])
    step = max(1, CELLS // max(1, filled.shape[1]))
    for start in range(0, len(signs), step):
        count += (signs[start : start + step] @ filled >= observed - tolerance).sum(axis=0)
    return count


def _same_scenes(values: Floats) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Groups of columns that the same scenes have: (scenes, columns)."""
    patterns, group = np.unique(np.isfinite(values), axis=1, return_inverse=True)
    for index in range(patterns.shape[1]):
        yield np.flatnonzero(patterns[:, index]), np.flatnonzero(group.ravel() == index)


def _chunks(columns: NDArray[np.intp], rows: int) -> Iterator[NDArray[np.intp]]:
    step = max(1, CELLS // max(1, rows))
    for start in range(0, len(columns), step):
        yield columns[start : start + step]
