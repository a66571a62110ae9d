"""Row entropy: how spread out each query's attention is, by block, head and step and by the side of the query.

What of a row lies over the text and what over the picture is in `entropy_directions`, the entropy of each kind of token
in `rows`, that of maps over the picture in `concentration`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import entr

from refam_analysis.analysis.positions import SIDES, sides_along
from refam_analysis.analysis.tables import over_scenes
from refam_analysis.analysis.units import (
    RecordingsDifferError,
    each_recording,
    number_of_keys,
    same_noise_levels,
)
from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

ENTROPY_MEASURES: Sequence[str] = ("entropy", "normalised")
"""In nats, and divided by log(number of keys), so that 1 is uniform."""

HEAD_STATISTICS: Sequence[str] = (
    "mean", "deviation", "minimum", "lower_quartile", "median", "upper_quartile", "maximum", "range",
)  # fmt: skip
"""What :func:`head_spread` says of the heads of a block; ``deviation`` is the standard deviation over all of them."""

AXES: Sequence[str] = ("step", "block", "head")
"""What remains of a recording's axes when its queries are averaged."""


class HeadsAveragedError(RefamError, ValueError):
    """Single heads were asked about, and the recording has kept their mean."""

    def __init__(self) -> None:
        super().__init__(
            'This recording holds means over heads, so it says nothing of single ones. Record again with heads="each".'
        )


def row_entropy(attention: xr.DataArray) -> xr.DataArray:
    """Entropy of each query's row, in nats.

        H_i = -sum_j attention[i, j] log attention[i, j]

    0 when all attention goes to one key, log(number of keys) when it is uniform.

    Args:
        attention: probabilities, axes (..., query, key); rows sum to 1.

    Returns:
        Axes (..., query), float64, nats.

    Source: Shannon, A Mathematical Theory of Communication, 1948; RefAM, Fig. 4.

    >>> uniform = xr.DataArray(np.full((1, 4), 0.25), dims=("query", "key"))
    >>> row_entropy(uniform).values.round(4).tolist()
    [1.3863]
    """
    return xr.apply_ufunc(entr, attention.astype(np.float64)).sum("key")


def entropy_by_row(recording: Recording) -> xr.DataArray:
    """Row entropy of a recording: as it was kept, or from its full attention.

    Args:
        recording: with ``entropy`` or ``full`` kept; full attention that is a mean over heads does not do, since the
            entropy of a mean is not the mean of the entropies.

    Returns:
        Axes (step, branch, block, head, query), float64, nats.

    Raises:
        KeyError: neither was kept.
    """
    if "entropy" not in recording and "full" in recording and keeps_each_head(recording):
        return row_entropy(recording["full"])
    return recording["entropy"].astype(np.float64)


def keeps_each_head(recording: Recording) -> bool:
    """Whether a recording has every head for itself, and not their mean.

    Args:
        recording: any.
    """
    return bool(recording.attrs.get("heads", "each") == "each")


def side_entropy_of(recording: Recording) -> xr.DataArray:
    """One scene's row entropy, mean over the queries of each side, in every step, block and head.

    Args:
        recording: with ``entropy`` or ``full`` kept; the conditional branch counts.

    Returns:
        Axes (from_queries, measure, step, block, head), float64. ``from_queries`` has the sides that there are queries
        of, ``measure`` is :data:`ENTROPY_MEASURES`. Keys that a mask hides count as keys.

    Raises:
        KeyError: neither was kept.
    """
    entropy = entropy_by_row(recording).isel(branch=0)
    on = sides_along(entropy, "query")
    sides = [side for side in SIDES if (on == side).any()]
    means = [entropy.isel(query=np.flatnonzero(on == side)).mean("query").transpose(*AXES).values for side in sides]
    nats = np.stack(means)
    values = np.stack([nats, nats / np.log(number_of_keys(recording))], axis=1)
    return with_axes(values, {"from_queries": sides, "measure": ENTROPY_MEASURES}, entropy)


def entropy_by_block(
    recordings: Recording | Iterable[Recording],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean row entropy of each block, of text queries and of image queries, over scenes.

    A scene's value is the mean over its queries of that side, heads and steps (the conditional branch); the interval
    is over scenes.

    Args:
        recordings: one, or one a scene, read one after the other.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (block, query side, measure): ``block``, ``from_queries`` ("text", "image"; a side that the model has
        no queries of is left out), ``measure`` ("entropy", in nats, or "normalised", divided by log(number of keys),
        so 1 is uniform), ``value``, ``low``, ``high``, ``scenes``. ``low`` and ``high`` are NaN for one scene. One
        scene's values are in :func:`side_entropy_of`.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks and sides.
        KeyError: a recording has neither entropy nor full attention.
    """
    by = ("block", "from_queries", "measure")
    return table_over_scenes(recordings, side_entropy_of, by, confidence=confidence, resamples=resamples, seed=seed)


def entropy_by_step(
    recordings: Recording | Iterable[Recording],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean row entropy of each block at each step, so at each noise level, over scenes.

    The arguments are those of :func:`entropy_by_block`.

    Args:
        recordings: one, or one a scene, read one after the other.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (step, block, query side, measure): ``step``, ``noise_level``, and the columns of
        :func:`entropy_by_block`.

    Raises:
        RecordingsDifferError: the recordings are not of the same steps, noise levels, blocks and sides.
        NoRecordingsError, KeyError: as :func:`entropy_by_block`.
    """
    by = ("step", "block", "from_queries", "measure")
    return table_over_scenes(recordings, side_entropy_of, by, confidence=confidence, resamples=resamples, seed=seed)


def entropy_by_head(
    recordings: Recording | Iterable[Recording],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean row entropy of each head of each block at each step, over scenes: nothing but queries is averaged.

    The arguments are those of :func:`entropy_by_block`.

    Args:
        recordings: one, or one a scene, read one after the other.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (step, block, head, query side, measure): ``step``, ``noise_level``, ``block``, ``head``, and the
        columns of :func:`entropy_by_block`.

    Raises:
        HeadsAveragedError: the recordings hold means over heads.
        RecordingsDifferError: the recordings are not of the same steps, noise levels, blocks, heads and sides.
        NoRecordingsError, KeyError: as :func:`entropy_by_block`.

    >>> import refam_analysis as ra
    >>> model, sample = ra.load_model("embedded"), ra.Scenes("test")[0]
    >>> sentence = sample.expressions[0].text
    >>> recording = ra.record(model, sample.image, sentence, keep=["entropy"])
    >>> entropy_by_head(recording)["head"].nunique() == recording["entropy"].sizes["head"]
    True
    """
    by = ("step", "block", "head", "from_queries", "measure")
    return table_over_scenes(recordings, _each_head, by, confidence=confidence, resamples=resamples, seed=seed)


def head_spread_of(recording: Recording) -> xr.DataArray:
    """How far one scene's heads are apart in each block: statistics over heads of their normalised row entropy.

    A head's value is the mean over its queries of the side and over steps. Quartiles are interpolated linearly.

    Args:
        recording: with ``entropy`` or ``full`` kept for each head.

    Returns:
        Axes (from_queries, statistic, block), float64, shares of log(number of keys); ``statistic`` is
        :data:`HEAD_STATISTICS`.

    Raises:
        HeadsAveragedError: the recording holds means over heads.
        KeyError: neither was kept.
    """
    heads = _each_head(recording).sel(measure="normalised").mean("step").transpose("from_queries", "block", "head")
    minimum, lower, median, upper, maximum = np.quantile(heads.values, [0.0, 0.25, 0.5, 0.75, 1.0], axis=-1)
    mean, deviation = heads.values.mean(axis=-1), heads.values.std(axis=-1)
    values = np.stack([mean, deviation, minimum, lower, median, upper, maximum, maximum - minimum], axis=1)
    labels = {"from_queries": heads["from_queries"], "statistic": list(HEAD_STATISTICS), "block": heads["block"]}
    return xr.DataArray(values, labels, ("from_queries", "statistic", "block"))


def head_spread(
    recordings: Recording | Iterable[Recording],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How far the heads of a block are apart in their normalised row entropy, over scenes.

    The arguments are those of :func:`entropy_by_block`.

    Args:
        recordings: one, or one a scene, read one after the other.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (block, query side, statistic): ``block``, ``from_queries``, ``statistic``
        (:data:`HEAD_STATISTICS`), ``value`` (mean over scenes of each scene's own statistic, see
        :func:`head_spread_of`), ``low``, ``high``, ``scenes``.

    The errors are those of :func:`entropy_by_head`.
    """
    by = ("block", "from_queries", "statistic")
    return table_over_scenes(recordings, head_spread_of, by, confidence=confidence, resamples=resamples, seed=seed)


def with_axes(values: ArrayLike, first: Mapping[str, Sequence[str]], like: xr.DataArray) -> xr.DataArray:
    """Name the axes of what is left of a recording: some of the caller's, then :data:`AXES`.

    Args:
        values: shape (lengths of ``first``..., step, block, head).
        first: labels of the axes that come first.
        like: of the recording, whose labels of :data:`AXES` are taken over.

    Returns:
        The array; ``head`` has no labels where the recording holds means over heads.
    """
    labels = {name: like.coords[name] for name in (*AXES, "noise_level") if name in like.coords}
    kept = {name: (label.dims, label.values) for name, label in labels.items()}
    return xr.DataArray(values, {**{axis: list(names) for axis, names in first.items()}, **kept}, (*first, *AXES))


def table_over_scenes(
    recordings: Recording | Iterable[Recording],
    of: Callable[[Recording], xr.DataArray],
    by: Sequence[str],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Means over scenes and their intervals of what a function says of each scene.

    Args:
        recordings: one, or one a scene, read one after the other.
        of: gives one scene's values, with the axes ``by`` among others, over which their mean is taken.
        by: a row each combination of labels along these axes, in this order.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        The columns ``by``, with ``noise_level`` after ``step``, then ``value``, ``low``, ``high``, ``scenes``.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the scenes have different labels along an axis of ``by``.
    """
    scenes: list[np.ndarray] = []
    labels: dict[str, list[object]] = {}
    levels: tuple[float, ...] | None = None
    for recording in each_recording(recordings):
        found = of(recording)
        found = found.mean([axis for axis in found.dims if axis not in by], skipna=False).transpose(*by)
        labels = {axis: _same_labels(axis, labels.get(axis), found[axis].values.tolist()) for axis in by}
        levels = same_noise_levels(levels, recording.noise_levels) if "step" in by else None
        scenes.append(found.values)
    rows = pd.MultiIndex.from_product(labels.values(), names=list(by))
    table = over_scenes(scenes, rows, confidence=confidence, resamples=resamples, seed=seed)
    if levels is not None:
        at = dict(zip(labels["step"], levels, strict=True))
        table.insert(1 + list(by).index("step"), "noise_level", table["step"].map(at))
    return table


def _each_head(recording: Recording) -> xr.DataArray:
    if not keeps_each_head(recording):
        raise HeadsAveragedError
    return side_entropy_of(recording)


def _same_labels(axis: str, before: list[object] | None, labels: list[object]) -> list[object]:
    if before is not None and before != labels:
        raise RecordingsDifferError(
            f"One recording has {before} along {axis}, another {labels}. Record all with the same model and arguments, "
            "or narrow them with recording.select(blocks=...)."
        )
    return labels
