"""Emergence over depth: tables of blocks over scenes, and whether sinks and semantics appear in the same blocks.

What one scene says is computed in `phrases` (block-diagonality), `concentration` (sharpness of maps), `localisation`
(maps against masks) and `sinks`; here scenes are put together. The unit is the recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from refam_analysis.analysis.concentration import (
    CLUSTER_THRESHOLD,
    concentration_of,
    spatial_entropy_of,
)
from refam_analysis.analysis.depth import rank_correlation
from refam_analysis.analysis.entropy import table_over_scenes
from refam_analysis.analysis.localisation import Direction, Normalisation, average_precision_of
from refam_analysis.analysis.phrases import MEASURES, Phrases, phrase_structure
from refam_analysis.analysis.sinks import sink_strength
from refam_analysis.analysis.statistics import benjamini_hochberg, bootstrap_interval, scene_mean, sign_flip_p
from refam_analysis.analysis.tables import over_scenes
from refam_analysis.analysis.units import RecordingsDifferError, block_numbers, each_recording, same_blocks

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]
Beside = TypeVar("Beside")


def phrases_by_block(
    recordings: Recording | Iterable[Recording],
    phrases: Iterable[Phrases] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """How block-diagonal each block's text-to-text attention is with respect to the phrases, over scenes.

    Args:
        recordings: one, or one a scene, with ``text_to_text`` or ``full`` kept, read one after the other.
        phrases: of each scene's sentence, in the same order; None for
            :func:`~refam_analysis.analysis.phrases.find_phrases`.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random sign flips over scenes.
        seed: of groupings, draws and flips.

    Returns:
        A row a block: ``block``; ``observed``, ``null``, ``excess`` (means over scenes of what
        :func:`~refam_analysis.analysis.phrases.phrase_structure` says, mean over heads), each with ``_low`` and
        ``_high``; ``as_block_diagonal``; ``p`` (one-sided, sign flips of the scenes' excess), ``q`` (over all rows),
        ``scenes``, and ``left_out``, the scenes whose sentence can be grouped in one way only.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks.
        PhrasesError: phrases that are not those of the sentence.
        ValueError: not as many sentences as recordings.
    """
    return _phrase_table(recordings, phrases, False, confidence, resamples, flips, seed)


def phrases_by_head(
    recordings: Recording | Iterable[Recording],
    phrases: Iterable[Phrases] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """The same for every head by itself: the mean over heads hides one that works among some that do not.

    The arguments and errors are those of :func:`phrases_by_block`.

    Args:
        recordings: one, or one a scene, read one after the other.
        phrases: of each sentence; found by :func:`find_phrases` by default.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: draws of signs for the test.
        seed: of the draws.

    Returns:
        A row a (block, head), with ``head`` and the columns of :func:`phrases_by_block`.
    """
    return _phrase_table(recordings, phrases, True, confidence, resamples, flips, seed)


def concentration_by_block(
    recordings: Recording | Iterable[Recording],
    *,
    direction: Direction = "text_to_image",
    normalisation: Normalisation = "none",
    kinds: Sequence[str] = ("content",),
    threshold: float = CLUSTER_THRESHOLD,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How concentrated the words' maps are, by block and noise level, over scenes.

    Args:
        recordings: one, or one a scene, read one after the other.
        direction: see :func:`~refam_analysis.analysis.concentration.concentration_of`, as for the three after it.
        normalisation: of the maps.
        kinds: of the tokens that take part.
        threshold: of clusters, times the map's mean.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (step, block, measure): ``step``, ``noise_level``, ``block``, ``measure`` (see
        :data:`~refam_analysis.analysis.concentration.CONCENTRATION`), ``value``, ``low``, ``high``, ``scenes``.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks and noise levels.
        MaskError: a prompt has no token of these kinds.
    """
    of = partial(concentration_of, direction=direction, normalisation=normalisation, kinds=kinds, threshold=threshold)
    by = ("step", "block", "measure")
    return table_over_scenes(recordings, of, by, confidence=confidence, resamples=resamples, seed=seed)


def sinks_and_semantics_of(
    recording: Recording,
    mask: ArrayLike | None = None,
    *,
    direction: Direction = "image_to_text",
    normalisation: Normalisation = "none",
) -> xr.DataArray:
    """One scene's sinks and semantics, block by block.

    The strength of a block's sinks is that of its strongest key:

        max over keys j of min over query sides s of m_js / (median of m_s over the keys on j's side)

    with m the received mass, mean over heads and steps. Its semantic sharpness is how well its content map finds the
    object or, where no mask is known, how far its words' maps are from even.

    Args:
        recording: with received mass (or ``full``) and ``direction`` kept.
        mask: the target's, bool; None where it is not known.
        direction: of the maps.
        normalisation: of the maps.

    Returns:
        Axes (measure, block): ``sink_strength`` (times the median) and ``sharpness`` (average precision in (0, 1], or
        1 - normalised spatial entropy in [0, 1]).

    Raises:
        MaskError: see :func:`~refam_analysis.analysis.localisation.average_precision_of`.
        QuantityMissingError: received mass or the direction was not kept.

    Source: RefAM, Fig. 1 (sinks as a sign of semantic structure); the two measures are this library's.
    """
    if mask is None:
        sharp = 1.0 - spatial_entropy_of(recording, direction, normalisation=normalisation)
    else:
        sharp = average_precision_of(recording, mask, direction, normalisation)
    strength = np.exp(sink_strength(recording, minimum_mass=0.0)["log_effect"].values)
    values = np.stack([strength, sharp.values])
    coordinates = {"measure": ["sink_strength", "sharpness"], "block": sharp["block"].values}
    return xr.DataArray(values, dims=("measure", "block"), coords=coordinates)


def sinks_and_semantics_by_block(
    recordings: Recording | Iterable[Recording],
    masks: Iterable[ArrayLike] | None = None,
    *,
    direction: Direction = "image_to_text",
    normalisation: Normalisation = "none",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Sinks and semantics of each block, means over scenes.

    Args:
        recordings: one, or one a scene, read one after the other.
        masks: the target's mask of each, in the same order; None where they are not known.
        direction: see :func:`sinks_and_semantics_of`.
        normalisation: see :func:`sinks_and_semantics_of`.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (measure, block): ``measure`` (see :func:`sinks_and_semantics_of`), ``block``, ``value``, ``low``,
        ``high``, ``scenes``. ``attrs["sharpness"]`` says in words what that is.

    The errors are those of :func:`sinks_and_semantics_of` and :func:`sinks_with_semantics`.
    """
    values, blocks = _both(recordings, masks, direction, normalisation)
    rows = pd.MultiIndex.from_product([["sink_strength", "sharpness"], blocks], names=["measure", "block"])
    table = over_scenes(values, rows, confidence=confidence, resamples=resamples, seed=seed)
    table.attrs["sharpness"] = "1 - spatial entropy / log(tokens)" if masks is None else "average precision"
    return table


def sinks_with_semantics(
    recordings: Recording | Iterable[Recording],
    masks: Iterable[ArrayLike] | None = None,
    *,
    lags: Sequence[int] = (0,),
    direction: Direction = "image_to_text",
    normalisation: Normalisation = "none",
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Whether sinks and semantics appear in the same blocks: their rank correlation over the blocks of a scene.

    Two curves that both rise with depth correlate whatever they are. So read the result beside that of an untrained
    transformer, and beside the curves.

    Args:
        recordings: one, or one a scene, read one after the other.
        masks: the target's mask of each, in the same order; None where they are not known.
        lags: how many blocks the semantics may come behind the sinks; negative: before them. Each is a row. Blocks
            without a partner take no part, so a long lag rests on few.
        direction: see :func:`sinks_and_semantics_of`.
        normalisation: see :func:`sinks_and_semantics_of`.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random sign flips over scenes.
        seed: of draws and flips.

    Returns:
        A row a lag: ``lag``, ``rho`` (mean over scenes of Spearman's rank correlation over blocks), ``low``, ``high``,
        ``p`` (one-sided, sign flips of the scenes' rho), ``blocks`` (that it is taken over), ``scenes`` (those in which
        neither curve is constant).

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks.
        MaskError: see :func:`sinks_and_semantics_of`.
        ValueError: not as many masks as recordings.

    Source: Spearman, The proof and measurement of association between two things, 1904.
    """
    values, blocks = _both(recordings, masks, direction, normalisation)
    pairs = [_lagged(len(blocks), lag) for lag in lags]
    rho = np.array([[rank_correlation(scene[0, early], scene[1, late]) for early, late in pairs] for scene in values])
    rows = pd.Index(list(lags), name="lag")
    table = over_scenes(rho, rows, confidence=confidence, resamples=resamples, seed=seed)
    table = table.rename(columns={"value": "rho"})
    table.insert(4, "p", sign_flip_p(rho, flips=flips, seed=seed) if len(rho) > 1 else np.nan)
    table.insert(5, "blocks", [len(early) for early, _ in pairs])
    return table


def _phrase_table(
    recordings: Recording | Iterable[Recording],
    phrases: Iterable[Phrases] | None,
    by_head: bool,
    confidence: float,
    resamples: int,
    flips: int,
    seed: int,
) -> pd.DataFrame:
    found: list[xr.DataArray] = []
    blocks: list[int] | None = None
    for recording, cut in _beside(recordings, phrases):
        one = phrase_structure(recording, cut, seed=seed)
        blocks = same_blocks(blocks, block_numbers(one))
        found.append(one if by_head else one.mean("head"))
    if any(one.shape != found[0].shape for one in found):
        raise RecordingsDifferError("The recordings differ in their heads: record all with the same model and heads=.")
    table = pd.DataFrame(index=found[0].isel(measure=0).to_series().index)
    values = {name: np.stack([one.sel(measure=name).values.ravel() for one in found]) for name in MEASURES}
    for name in ("observed", "null", "excess"):
        table[name] = scene_mean(values[name])
        ends = bootstrap_interval(values[name], confidence=confidence, resamples=resamples, seed=seed)
        table[f"{name}_low"], table[f"{name}_high"] = ends
    table["as_block_diagonal"] = scene_mean(values["as_block_diagonal"])
    table["p"] = sign_flip_p(values["excess"], flips=flips, seed=seed) if len(found) > 1 else np.nan
    table["q"] = benjamini_hochberg(table["p"].to_numpy(dtype=np.float64))
    table["scenes"] = np.isfinite(values["excess"]).sum(axis=0)
    table["left_out"] = len(found) - table["scenes"]
    table.attrs["confidence"] = confidence
    return table.reset_index()


def _both(
    recordings: Recording | Iterable[Recording],
    masks: Iterable[ArrayLike] | None,
    direction: Direction,
    normalisation: Normalisation,
) -> tuple[Floats, list[int]]:
    """(scene, measure, block), and the blocks."""
    scenes: list[Floats] = []
    blocks: list[int] | None = None
    for recording, mask in _beside(recordings, masks):
        found = sinks_and_semantics_of(recording, mask, direction=direction, normalisation=normalisation)
        blocks = same_blocks(blocks, block_numbers(found))
        scenes.append(found.values)
    return np.stack(scenes), blocks or []


def _lagged(blocks: int, lag: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which blocks of the sinks, and which of the semantics, belong together."""
    early = np.arange(max(0, -lag), min(blocks, blocks - lag))
    return early, early + lag


def _beside(
    recordings: Recording | Iterable[Recording], others: Iterable[Beside] | None
) -> Iterator[tuple[Recording, Beside | None]]:
    """Every recording with what is given beside it, or None."""
    if others is None:
        yield from ((recording, None) for recording in each_recording(recordings))
    else:
        yield from zip(each_recording(recordings), others, strict=True)
