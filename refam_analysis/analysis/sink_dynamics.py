"""Where sinks go: over denoising steps or noise levels, and from one run of the same scenes to another.

What a sink is, in one scene or over scenes, is in `sinks`; here the same numbers are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from refam_analysis.analysis.depth import rank_correlation
from refam_analysis.analysis.key_effects import Floats, KeyEffects, Reference, key_effects
from refam_analysis.analysis.key_importance import add_most_common
from refam_analysis.analysis.sinks import sink_strength
from refam_analysis.analysis.statistics import bootstrap_interval, scene_mean
from refam_analysis.analysis.tables import over_scenes
from refam_analysis.analysis.units import RecordingsDifferError, each_recording, same_blocks, same_noise_levels

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

AGREEMENT = ("jaccard", "rank_correlation", "same_strongest")
"""What :func:`sink_agreement` measures."""


# Over steps


def strength_over_steps_of(recording: Recording, *, reference: Reference = "side") -> xr.Dataset:
    """The strongest sink of each block at every step of one recording.

    Args:
        recording: with one or more steps.
        reference: see :func:`~refam_analysis.analysis.sinks.sink_strength`.

    Returns:
        The variables and coordinates of :func:`~refam_analysis.analysis.sinks.sink_strength`, axes (step, block), with
        ``noise_level`` on ``step``.
    """
    each = [sink_strength(step, reference=reference) for step in _steps(recording)]
    labels = [name for name in each[0].coords if name != "block"]
    together = xr.concat(each, dim="step", coords=labels, join="exact")
    return together.assign_coords(noise_level=("step", list(recording.noise_levels)))


def sinks_over_steps(
    recordings: Recording | Iterable[Recording],
    *,
    reference: Reference = "side",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How strong the strongest sink of each block is at every step, over scenes, and how often it moves.

    Args:
        recordings: one, or one a scene, with the same steps: of denoising, or noise levels.
        reference: see :func:`~refam_analysis.analysis.sinks.sink_strength`.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (step, block): ``step``, ``noise_level``, ``block``; ``value``, ``low``, ``high`` (geometric mean over
        scenes of the strongest key's effect on the weaker side, times the reference); ``kind`` and ``role`` that it
        has most often, with ``kind_share`` and ``role_share``; ``moved``, the share of scenes in which it is another
        key than a step before (NaN at the first); ``scenes``.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks and noise levels.
        KeyError: a recording has neither received mass nor full attention.
    """
    scenes: list[xr.Dataset] = []
    blocks: list[int] | None = None
    levels: tuple[float, ...] | None = None
    for recording in each_recording(recordings):
        scene = strength_over_steps_of(recording, reference=reference)
        blocks = same_blocks(blocks, [int(number) for number in scene["block"].values])
        levels = same_noise_levels(levels, recording.noise_levels)
        scenes.append(scene)
    table = _by_step(levels or (), pd.Index(blocks or [], name="block"))
    logs = np.stack([scene["log_effect"].values.ravel() for scene in scenes])
    _geometric(table, logs, confidence=confidence, resamples=resamples, seed=seed)
    add_most_common(table, scenes)
    keys = np.stack([scene["key"].values for scene in scenes])
    moved = np.full(keys.shape[1:], np.nan)
    moved[1:] = (keys[:, 1:] != keys[:, :-1]).mean(axis=0)
    table["moved"] = moved.ravel()
    table["scenes"] = len(scenes)
    return table


def roles_over_steps(
    recordings: Recording | Iterable[Recording],
    roles: Sequence[str],
    *,
    reference: Reference = "side",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """What chosen roles draw at every step, over the scenes that have them.

    Args:
        recordings: one, or one a scene, with the same steps.
        roles: such as "</s>" or "first token", see :func:`~refam_analysis.analysis.positions.roles`.
        reference: what the peers are.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (step, block, role): ``step``, ``noise_level``, ``block``, ``role``, ``kind``; ``value``, ``low``,
        ``high`` (geometric mean of the effect on the weaker side of each scene), ``mass_from_text``,
        ``mass_from_image`` (means, 1 = as uniform), ``scenes``.

    The errors are those of :func:`sinks_over_steps`.

    >>> import refam_analysis as ra
    >>> model, sample = ra.load_model("embedded"), ra.Scenes("test")[0]
    >>> sentence = sample.expressions[0].text
    >>> recording = ra.record(model, sample.image, sentence, noise_level=[0.9, 0.3])
    >>> roles_over_steps(recording, ["</s>"])["noise_level"].unique().tolist()
    [0.9, 0.3]
    """
    names = ("log_effect", "mass_from_text", "mass_from_image")
    scenes: dict[str, list[Floats]] = {name: [] for name in names}
    kinds: dict[str, str] = {}
    blocks: list[int] | None = None
    levels: tuple[float, ...] | None = None
    for recording in each_recording(recordings):
        levels = same_noise_levels(levels, recording.noise_levels)
        steps = [key_effects(step, reference=reference).with_first_token() for step in _steps(recording)]
        blocks = same_blocks(blocks, steps[0].blocks)
        kinds |= dict(zip(steps[0].table["role"], steps[0].table["kind"], strict=True))
        for name in names:
            chosen = [_at_roles(step, step.log_effect() if name == names[0] else step.values.get(name), roles)
                      for step in steps]  # fmt: skip
            scenes[name].append(np.stack(chosen).ravel())
    columns = pd.MultiIndex.from_product([blocks or [], list(roles)], names=["block", "role"])
    table = _by_step(levels or (), columns)
    table["kind"] = [kinds.get(role, "") for role in table["role"]]
    _geometric(table, np.stack(scenes["log_effect"]), confidence=confidence, resamples=resamples, seed=seed)
    for name in names[1:]:
        table[name] = scene_mean(np.stack(scenes[name]))
    table["scenes"] = np.isfinite(np.stack(scenes["log_effect"])).sum(axis=0)
    return table


# From one run to another


def sink_agreement_of(
    one: Recording,
    other: Recording,
    *,
    reference: Reference = "side",
    minimum_effect: float = 2.0,
    minimum_mass: float = 1.0,
    minimum_uniformity: float = 0.5,
) -> xr.DataArray:
    """How far two recordings of one scene have the same sinks.

    Args:
        one: a recording.
        other: of the same scene and blocks: another seed, noise level or sentence. Keys are paired by their roles, and
            those that only one has take no part in the correlation.
        reference: this and the bars are those of :func:`~refam_analysis.analysis.sinks.detect_sinks`, which a key has
            to clear in this scene alone, without a test.
        minimum_effect: a bar.
        minimum_mass: a bar.
        minimum_uniformity: a bar.

    Returns:
        Axes (measure, block). ``jaccard``: with A and B the roles that clear every bar in one and in the other,
        ``|A and B| / |A or B|``; NaN where there are none. ``rank_correlation``: Spearman's, over the roles that both
        have, of the logarithm of the effect on the weaker side. ``same_strongest``: 1 where the key of
        :func:`~refam_analysis.analysis.sinks.sink_strength` has the same role, else 0.

    Raises:
        RecordingsDifferError: they are not of the same blocks.
        KeyError: one has neither received mass nor full attention.

    Source: Jaccard, The distribution of the flora in the alpine zone, 1912; Spearman, 1904.

    >>> import refam_analysis as ra
    >>> model, sample = ra.load_model("embedded"), ra.Scenes("test")[0]
    >>> sentence = sample.expressions[0].text
    >>> one, other = (ra.record(model, sample.image, sentence, seed=seed) for seed in (0, 1))
    >>> sink_agreement_of(one, other)["measure"].values.tolist()
    ['jaccard', 'rank_correlation', 'same_strongest']
    """
    pair = [key_effects(each, reference=reference) for each in (one, other)]
    return _agreement(pair[0], pair[1], minimum_effect, minimum_mass, minimum_uniformity)


def sink_agreement(
    runs: Mapping[str, Recording | Iterable[Recording]],
    *,
    reference: Reference = "side",
    minimum_effect: float = 2.0,
    minimum_mass: float = 1.0,
    minimum_uniformity: float = 0.5,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How stable sinks are: the agreement of every two runs of the same scenes, means over scenes.

    Args:
        runs: label -> the recordings of the scenes, the same scenes in the same order in each: other seeds, noise
            levels, prompts. They are read one after the other, all runs at once.
        reference: this and the bars as for :func:`sink_agreement_of`.
        minimum_effect: a bar.
        minimum_mass: a bar.
        minimum_uniformity: a bar.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (pair, measure, block): ``one``, ``other`` (labels), ``measure`` (see :func:`sink_agreement_of`),
        ``block``, ``value``, ``low``, ``high``, ``scenes`` (those in which the measure exists).

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: fewer than two runs, or the runs differ in blocks or in their number of recordings.
    """
    if len(runs) < 2:
        raise RecordingsDifferError(f"Agreement is between runs, and there is {len(runs)}: give at least two.")
    pairs = list(combinations(runs, 2))
    scenes: list[Floats] = []
    blocks: list[int] = []
    for recordings in _beside(runs):
        effects = {label: key_effects(each, reference=reference) for label, each in recordings.items()}
        found = [
            _agreement(effects[one], effects[other], minimum_effect, minimum_mass, minimum_uniformity)
            for one, other in pairs
        ]
        blocks = same_blocks(blocks or None, [int(number) for number in found[0]["block"].values])
        scenes.append(np.stack([each.values for each in found]))
    rows = pd.MultiIndex.from_tuples(
        [(*pair, measure, block) for pair in pairs for measure in AGREEMENT for block in blocks],
        names=["one", "other", "measure", "block"],
    )
    return over_scenes(scenes, rows, confidence=confidence, resamples=resamples, seed=seed)


def _steps(recording: Recording) -> Iterator[Recording]:
    """The recording of each step by itself."""
    for step in range(recording.dataset.sizes["step"]):
        yield type(recording)(recording.dataset.isel(step=[step]))


def _by_step(levels: Sequence[float], rows: pd.Index) -> pd.DataFrame:
    """The labels of a table: every row of ``rows`` at every step."""
    steps = pd.DataFrame({"step": range(len(levels)), "noise_level": list(levels)})
    return steps.merge(rows.to_frame(index=False), how="cross")


def _geometric(table: pd.DataFrame, logs: Floats, *, confidence: float, resamples: int, seed: int) -> None:
    """Add the geometric mean over scenes and its interval."""
    low, high = bootstrap_interval(logs, confidence=confidence, resamples=resamples, seed=seed)
    table["value"], table["low"], table["high"] = np.exp(scene_mean(logs)), np.exp(low), np.exp(high)
    table.attrs["confidence"] = confidence


def _at_roles(step: KeyEffects, values: Floats | None, roles: Sequence[str]) -> Floats:
    """(block, role), NaN where the scene lacks the role, or the model the side."""
    chosen = np.full((len(step.blocks), len(roles)), np.nan)
    places = {role: place for place, role in enumerate(step.table["role"])}
    for column, role in enumerate(roles):
        if values is not None and role in places:
            chosen[:, column] = values[:, places[role]]
    return chosen


def _agreement(
    one: KeyEffects, other: KeyEffects, minimum_effect: float, minimum_mass: float, minimum_uniformity: float
) -> xr.DataArray:
    """See :func:`sink_agreement_of`."""
    blocks = same_blocks(one.blocks, other.blocks)
    names = [each.table["role"].to_numpy() for each in (one, other)]
    _, *shared = np.intersect1d(*names, return_indices=True)
    effects = [each.log_effect() for each in (one, other)]
    strength = [each.strength(minimum_effect, minimum_mass) for each in (one, other)]
    clear = [each.clears(minimum_effect, minimum_mass, minimum_uniformity) for each in (one, other)]
    values = np.full((len(AGREEMENT), len(blocks)), np.nan)
    for block in range(len(blocks)):
        first, second = (set(name[called[block]]) for name, called in zip(names, clear, strict=True))
        if first or second:
            values[0, block] = len(first & second) / len(first | second)
        values[1, block] = rank_correlation(effects[0][block, shared[0]], effects[1][block, shared[1]])
        strongest = [name[each[block].argmax()] for name, each in zip(names, strength, strict=True)]
        values[2, block] = strongest[0] == strongest[1]
    return xr.DataArray(values, dims=("measure", "block"), coords={"measure": list(AGREEMENT), "block": blocks})


def _beside(runs: Mapping[str, Recording | Iterable[Recording]]) -> Iterator[dict[str, Recording]]:
    """Scene by scene the recordings of all runs."""
    walks = {label: each_recording(recordings) for label, recordings in runs.items()}
    while True:
        found = {label: next(walk, None) for label, walk in walks.items()}
        present = {label: recording for label, recording in found.items() if recording is not None}
        if not present:
            return
        if len(present) < len(found):
            raise RecordingsDifferError(
                f"The runs {', '.join(label for label in found if label not in present)} have fewer recordings than "
                "the others: give the same scenes in the same order."
            )
        yield present
