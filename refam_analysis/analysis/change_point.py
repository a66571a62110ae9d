"""From which block on a curve over depth is low: a change point, and a threshold that is not crossed again.

A profile is what one scene says, axes (block), such as its normalised row entropy, which `entropy_directions` gives.
Both answers are about this model and its scenes: how far they would be the same for other scenes is in their
intervals, and nothing here says that training, and not the architecture alone, made the curve. For that, ask the same
of the untrained transformer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.analysis.statistics import CELLS, EXACT_SCENES, NoRecordingsError, bootstrap_interval
from refam_analysis.analysis.units import block_numbers, same_blocks
from refam_analysis.errors import RefamError

Floats = NDArray[np.float64]

NEARLY_UNIFORM = 0.95
"""Of log(number of keys). A row this even attends, in effect, to N^0.95 of its N keys: to 0.77 of 176 keys, to 0.66 of
4,608. It is also the bar of claim C9 in the ledger."""

SIGNIFICANT = 0.05
LEAST_EXPLAINED = 0.5
"""Where two levels explain less of a curve's variance over blocks, more of its course is something else: a dip, say.
White noise over 6 blocks has 0.27 on average, over 57 blocks 0.05; a straight fall 0.77 and 0.75."""

_FEWEST_BLOCKS = 3


class ChangePointError(RefamError, ValueError):
    """The blocks that were given cannot have this change point."""


@dataclass(frozen=True)
class ChangePoint:
    """Where a curve over blocks falls from one level to another, see :func:`change_point`.

    Attributes:
        block: number of the first block of the second level.
        low, high: interval of ``block`` over scenes; None for one scene.
        before, after: mean of the curve over the blocks before ``block``, and from it on.
        drop: mean over scenes of a scene's own ``before - after`` at the block that the other scenes choose, so that
            the scenes that place the change are not those that measure it; ``before - after`` for one scene.
        drop_low, drop_high: interval of ``drop``; NaN for one scene.
        p: of a fall this large at any block, were every scene's curve as likely upside down; NaN for one scene.
        explained: share of the curve's variance over blocks that the two levels explain; NaN for a constant curve.
        explained_by_line: the same for a straight line over the numbers of the blocks.
        better_than_line: share of the resamples of scenes in which the two levels explain more; NaN for one scene.
        scenes: that took part.
        blocks: numbers of all blocks.
        confidence: of the intervals.
    """

    block: int
    low: int | None
    high: int | None
    before: float
    after: float
    drop: float
    drop_low: float
    drop_high: float
    p: float
    explained: float
    explained_by_line: float
    better_than_line: float
    scenes: int
    blocks: tuple[int, ...]
    confidence: float

    @property
    def is_fall(self) -> bool:
        """Whether the curve is a fall that scenes agree on.

        That is: p <= 0.05, the interval of ``drop`` above 0, and at least half of the variance over blocks explained.
        """
        return self.p <= SIGNIFICANT and self.drop_low > 0 and self.explained >= LEAST_EXPLAINED

    @property
    def informative(self) -> tuple[int, ...]:
        """The blocks from ``block`` on; all blocks where there is no fall, since then none stands behind another."""
        return self.blocks[self.blocks.index(self.block) :] if self.is_fall else self.blocks


@dataclass(frozen=True)
class Onset:
    """From which block on a curve stays below a threshold, see :func:`informative_from`.

    Attributes:
        block: number of the first block from which on the mean over scenes stays below; None when it never does.
        low, high: interval of ``block`` over scenes; None for one scene, and where that end of it is "never".
        never: share of the resamples of scenes in which there is no such block; NaN for one scene.
        threshold: that was asked for.
        scenes: that took part.
        blocks: numbers of all blocks.
        confidence: of the interval.
    """

    block: int | None
    low: int | None
    high: int | None
    never: float
    threshold: float
    scenes: int
    blocks: tuple[int, ...]
    confidence: float

    @property
    def informative(self) -> tuple[int, ...]:
        """The blocks from ``block`` on; none when the curve never stays below."""
        return () if self.block is None else self.blocks[self.blocks.index(self.block) :]


def change_point(
    profiles: Iterable[xr.DataArray],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> ChangePoint:
    """The block at which a curve falls from one level to another, with its interval over scenes.

    The mean curve m over scenes is fitted by two levels: of all K - 1 ways to cut K blocks in two, the one with the
    least sum of squared residuals among those that fall, that is the largest

        gain(k) = sqrt(k (K - k) / K) (mean of m before k - mean of m from k on)

    whose square is what the cut takes off the sum of squares. A rise is found in ``-profile``.

    - *Interval of the block*: scenes are drawn anew, the curve is fitted anew; percentiles of the blocks found. Scenes
      that agree give one block, however gradual the curve is: see ``better_than_line``.
    - *Test*: scenes' curves are turned upside down about their means, each or not. p is the share of such turns in
      which the largest gain of the mean curve reaches the one observed. So the choice of the block is part of the test,
      and a smooth curve stays smooth, which it would not if blocks were permuted. The null hypothesis is that scenes
      have no course over depth in common; small p says that they have one which falls, not that the fall is sudden,
      nor that it was learnt.
    - *Size*: ``drop``, cross-fitted; a fall chosen and measured on the same scenes looks larger than it is. Of 95 %
      intervals from 20 scenes of random walks over depth 0.92 held a true drop of 0.15, and 0.88 held 0 where there was
      none, so read them beside p.
    - *Shape*: ``explained`` says whether two levels describe the curve at all. A gradual fall is explained better by
      the line: where ``better_than_line`` is near 0, ``block`` is only its middle.

    Args:
        profiles: one a scene, axes (block), of at least three blocks. A scene whose profile is not finite is left out.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random turns; with at most 12 scenes all are tried.
        seed: of draws and turns.

    Returns:
        The change point. One scene's part in it is :func:`drop_at`; its own change point that of the profile alone.

    Raises:
        NoRecordingsError: no scene has a profile.
        ChangePointError: fewer than three blocks.
        RecordingsDifferError: the profiles are not of the same blocks.

    Source: least squares for one change of a mean: Hinkley, Inference about the change-point in a sequence of random
    variables, 1970; Killick, Fearnhead and Eckley, Optimal detection of changepoints with a linear computational cost,
    2012. A change that many series have in common: Bai, Common breaks in means and variances for panel data, 2010. The
    largest statistic under permutation: Westfall and Young, Resampling-based multiple testing, 1993. The comparison
    with a line and the cross-fitted drop are this library's.

    >>> profiles = [xr.DataArray([1.0, 0.9, 0.4, 0.5 + bump], dims="block", coords={"block": range(4)})
    ...     for bump in (0.0, 0.02, 0.04, 0.06, 0.08)]
    >>> found = change_point(profiles)
    >>> found.block, found.low, found.high, round(found.drop, 2), found.informative
    (2, 2, 2, 0.48, (2, 3))
    """
    curves, numbers = _gathered(profiles)
    if len(numbers) < _FEWEST_BLOCKS:
        raise ChangePointError(
            f"A change point needs at least {_FEWEST_BLOCKS} blocks, and the profiles have {len(numbers)}: {numbers}. "
            "Record more blocks."
        )
    scenes, mean = len(curves), curves.mean(axis=0)
    cut = int(_cuts(mean))
    drops, drop_low, drop_high = _drops(curves), np.nan, np.nan
    low = high = None
    p = better = np.nan
    if scenes > 1:
        resampled = _resampled(curves, resamples, seed)
        low, high = (numbers[place] for place in _ends(_cuts(resampled), confidence))
        ends = bootstrap_interval(drops[:, None], confidence=confidence, resamples=resamples, seed=seed)
        drop_low, drop_high = (float(end[0]) for end in ends)
        p = _largest_gain_p(_gains(curves), flips, seed)
        better = float((_explained(resampled) > _explained_by_line(resampled, numbers)).mean())
    return ChangePoint(
        block=numbers[cut], low=low, high=high, before=float(mean[:cut].mean()), after=float(mean[cut:].mean()),
        drop=float(drops.mean()), drop_low=drop_low, drop_high=drop_high, p=p, explained=float(_explained(mean)),
        explained_by_line=float(_explained_by_line(mean, numbers)), better_than_line=better, scenes=scenes,
        blocks=tuple(numbers), confidence=confidence,
    )  # fmt: skip


def informative_from(
    profiles: Iterable[xr.DataArray],
    *,
    threshold: float = NEARLY_UNIFORM,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Onset:
    """The first block from which on the mean of a curve over scenes stays below a threshold.

    Of normalised entropy: the first block after which no block is nearly uniform. Unlike :func:`change_point` it asks
    for no fall: a curve that is low from the start has its first block.

    Args:
        profiles: one a scene, axes (block). A scene whose profile is not finite is left out.
        threshold: in the unit of the profiles; :data:`NEARLY_UNIFORM` for normalised entropy.
        confidence: of the interval.
        resamples: bootstrap draws over scenes: each gives a mean curve, and that a block.
        seed: of the draws.

    Returns:
        The block, None when the last block is not below, and its percentile interval.

    Raises:
        NoRecordingsError: no scene has a profile.
        RecordingsDifferError: the profiles are not of the same blocks.

    Source: the paper's reading of its Fig. 4 (RefAM: the first blocks contain no specific information), as a rule.

    >>> profile = xr.DataArray([0.99, 0.9, 0.97, 0.8, 0.7], dims="block", coords={"block": range(5)})
    >>> informative_from([profile]).block, informative_from([profile], threshold=0.5).block
    (3, None)
    """
    curves, numbers = _gathered(profiles)
    ends: list[int] = []
    never = np.nan
    if len(curves) > 1:
        found = _first_below(_resampled(curves, resamples, seed), threshold)
        ends, never = _ends(found, confidence), float((found == len(numbers)).mean())
    named = dict(enumerate(numbers))  # "never" has the place after the last, and no name
    low, high = (named.get(place) for place in ends) if ends else (None, None)
    return Onset(
        block=named.get(int(_first_below(curves.mean(axis=0), threshold))), low=low, high=high, never=never,
        threshold=threshold, scenes=len(curves), blocks=tuple(numbers), confidence=confidence,
    )  # fmt: skip


def drop_at(profile: xr.DataArray, block: int) -> float:
    """How far one scene's curve lies lower from a block on than before it.

    Args:
        profile: axes (block), of one scene.
        block: number of the first block of the second level, as a change point of other scenes names it.

    Returns:
        Mean before minus mean from the block on, in the unit of the profile.

    Raises:
        ChangePointError: the profile has no such block, or nothing before it.

    >>> drop_at(xr.DataArray([1.0, 0.8, 0.5, 0.3], dims="block", coords={"block": range(4)}), 2)
    0.5
    """
    numbers = block_numbers(profile)
    if block not in numbers[1:]:
        raise ChangePointError(f"The curve cannot fall at block {block}: choose one of the blocks {numbers[1:]}.")
    place = numbers.index(block)
    return float(profile.values[:place].mean() - profile.values[place:].mean())


def _gathered(profiles: Iterable[xr.DataArray]) -> tuple[Floats, list[int]]:
    """(scenes, blocks) of the scenes that have a curve, and the numbers of the blocks."""
    curves: list[Floats] = []
    blocks: list[int] | None = None
    for profile in profiles:
        blocks = same_blocks(blocks, block_numbers(profile))
        values = profile.transpose("block").values.astype(np.float64)
        if np.isfinite(values).all():
            curves.append(values)
    if not curves:
        raise NoRecordingsError
    return np.stack(curves), blocks or []


def _gains(curves: Floats) -> Floats:
    """(..., blocks) -> (..., blocks - 1): what each cut has, positive where the curve falls."""
    blocks = curves.shape[-1]
    before = np.arange(1, blocks)
    sums = np.cumsum(curves - curves.mean(axis=-1, keepdims=True), axis=-1)[..., :-1]
    # About its mean the curve sums to 0, so what lies behind the cut sums to minus what lies before it.
    gains: Floats = sums * np.sqrt(blocks / (before * (blocks - before)))
    return gains


def _cuts(curves: Floats) -> NDArray[np.intp]:
    """Place of the first block behind the best cut."""
    return np.asarray(_gains(curves).argmax(axis=-1) + 1)


def _drops(curves: Floats) -> Floats:
    """Each scene's fall at the cut that the others choose; at its own for a single scene."""
    scenes, blocks = curves.shape
    others = (curves.sum(axis=0) - curves) / (scenes - 1) if scenes > 1 else curves
    before = np.arange(blocks) < _cuts(others)[:, None]
    levels = [(curves * part).sum(axis=1) / part.sum(axis=1) for part in (before, ~before)]
    return np.asarray(levels[0] - levels[1])


def _explained(curves: Floats) -> Floats:
    """Share of the variance over blocks that the best cut explains."""
    return _share(_gains(curves).max(axis=-1) ** 2, curves)


def _explained_by_line(curves: Floats, numbers: list[int]) -> Floats:
    depth = np.array(numbers, dtype=np.float64)
    depth = (depth - depth.mean()) / np.linalg.norm(depth - depth.mean())
    return _share((curves @ depth) ** 2, curves)


def _share(part: Floats, curves: Floats) -> Floats:
    total = ((curves - curves.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    flat = total <= 1e-24 * (curves**2).sum(axis=-1)  # nothing but rounding
    return np.asarray(np.where(flat, np.nan, part / np.where(flat, 1.0, total)))


def _first_below(curves: Floats, threshold: float) -> NDArray[np.intp]:
    """Place of the first block from which on every one is below; the number of blocks where there is none."""
    at_end = np.logical_and.accumulate(np.flip(curves < threshold, axis=-1), axis=-1)
    return np.asarray(curves.shape[-1] - at_end.sum(axis=-1))


def _resampled(curves: Floats, resamples: int, seed: int) -> Floats:
    """Mean curves of scenes drawn with replacement, (resamples, blocks)."""
    scenes = len(curves)
    drawn = np.random.default_rng(seed).multinomial(scenes, np.full(scenes, 1 / scenes), resamples)
    means: Floats = (drawn / scenes) @ curves
    return means


def _ends(places: NDArray[np.intp], confidence: float) -> list[int]:
    """The percentile interval of places, whose ends are places that occur."""
    tails = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    return [int(place) for place in np.quantile(places, tails, method="inverted_cdf")]


def _largest_gain_p(gains: Floats, flips: int, seed: int) -> float:
    """Share of the sign flips of scenes in which the largest mean gain reaches the observed one."""
    scenes = len(gains)
    observed = gains.sum(axis=0).max() - 1e-12 * np.abs(gains).sum(axis=0).max()  # room for sums in another order
    if scenes <= EXACT_SCENES:
        every = 1 - 2 * ((np.arange(2**scenes)[:, None] >> np.arange(scenes)) & 1)
        return float(_largest(every, gains, observed) / len(every))
    generator = np.random.default_rng(seed)
    step = max(1, CELLS // max(gains.shape))
    sizes = [min(step, flips - start) for start in range(0, flips, step)]
    drawn = (1 - 2 * generator.integers(0, 2, size=(rows, scenes), dtype=np.int8) for rows in sizes)
    return float((sum(_largest(signs, gains, observed) for signs in drawn) + 1.0) / (flips + 1.0))


def _largest(signs: NDArray[np.signedinteger[Any]], gains: Floats, observed: float) -> int:
    return int(((signs.astype(np.float64) @ gains).max(axis=1) >= observed).sum())
