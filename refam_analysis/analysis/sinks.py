"""Global attention sinks: which keys draw far more than their peers, from text and image queries at once.

One function makes one table. Its rule has four parts, each with a reason and each an argument: the key exceeds a
robust reference by a minimum effect, draws at least what uniform attention would give it, does both from every side
that the model has queries of, and draws evenly. Whether it does so consistently is tested over scenes; how well the
rule keeps its level is measured in :mod:`refam_analysis.experiments.calibration`. What a sink does to the output
(causal tests) is not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from refam_analysis.analysis.key_effects import REFERENCES, Floats, KeyEffects, Reference, key_effects
from refam_analysis.analysis.positions import SIDES, Side
from refam_analysis.analysis.statistics import (
    NoRecordingsError,
    benjamini_hochberg,
    bootstrap_interval,
    scene_mean,
    sign_flip_p,
)
from refam_analysis.analysis.units import each_recording, same_blocks, same_sides

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording


def detect_sinks(
    recordings: Recording | Iterable[Recording],
    *,
    reference: Reference = "side",
    minimum_effect: float = 2.0,
    minimum_mass: float = 1.0,
    minimum_uniformity: float = 0.5,
    false_discovery_rate: float = 0.05,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Where the global attention sinks are: every block and token role, its effect, its evidence and the verdict.

    For key j of a scene and one side's queries, with received mass m_j (mean over heads and steps, conditional
    branch) and the reference r (a median over keys of the same block and scene),

        effect_j = m_j / r
        margin_j = log(m_j / max(minimum_effect * r, minimum_mass))

    Tokens of the same role are paired over scenes: the word itself, ``magnet .``, ``padding 3``, an end token,
    ``image 4,7``; the first text token also counts under ``first token``. The null hypothesis of a side is that the
    role's margin is symmetric about a number at most zero: it does not clear the bar. It is tested by sign flips of
    scenes; a role's p is the larger of its sides' (both have to be rejected: an intersection-union test, which needs
    no further correction), and q is corrected over all blocks and roles of the table. The unit is the recording.

    A sink is found by its column, what it draws. Whether it also allocates evenly, its row, is stated beside and has
    no part in the verdict.

    Args:
        recordings: one, or one a scene, read one after the other. From one there is no test: the table states effects,
            ``exploratory`` is true, and ``is_sink`` goes by the effects alone.
        reference: what "its peers" are. "side": text keys are compared with the text keys and image keys with the
            image keys of the same scene, since the two differ in general. "kind": with the keys of the same kind, where
            it has at least 5; padding then stands out from padding, and words from words. "all": with all keys; right
            where most text keys are sinks themselves, as with FLUX's padding, and the median of the side is one of
            them.
        minimum_effect: times the reference. A mild preference for some keys is no sink: half of all keys are above a
            median. At 2, keys whose mass varies by 35 % (one standard deviation of its logarithm) pass in 1 of 40.
        minimum_mass: 1.0 is what uniform attention gives. Where a whole side is ignored, its largest key can be many
            times its peers and draw next to nothing.
        minimum_uniformity: mean evenness over a side's queries; 0.5 is what an equal draw from half of them has. A
            key that only the patches of its object attend to is content, not a sink. Without effect where the
            recordings hold neither uniformity nor full attention.
        false_discovery_rate: the largest q of a sink.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random sign flips; 1 / (flips + 1) is the smallest p with more than 12 scenes, and q of a single sink
            is p times the number of rows. n scenes cannot give a p below 2^-n: with fewer than about 15, a role that
            is a sink alone among a thousand rows is not called.
        seed: of draws and flips.

    Returns:
        A row a (block, role), by block and position, with the columns ``block``, ``role``, ``word`` ("" where it has
        none or differs), ``kind``, ``side`` (of the key), ``position`` (in the joint sequence, the median over
        scenes), ``scenes``; ``mass_from_text``, ``mass_from_image``, ``uniformity_from_text``,
        ``uniformity_from_image`` (means), ``effect_from_text``, ``effect_from_image`` (geometric means; NaN for a side
        without queries); ``effect``, ``low``, ``high`` (of the weaker side); ``row_evenness`` (entropy of the row of
        the same token over log(number of keys), mean over scenes, 1 = it attends to all keys alike), ``row_excess``
        (that minus its mean over the tokens of the same side and scene), ``row_excess_low``, ``row_excess_high``; NaN
        where neither entropy nor full attention was kept, or the token has no row; ``p``, ``q``, ``one_sided`` (the
        model has queries of one side only), ``exploratory``, ``is_sink``. ``attrs`` holds the arguments.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks, or have queries of other sides.
        KeyError: a recording has neither received mass nor full attention.

    Source: RefAM, Fig. 1 (what a sink is); Berger, Multiparameter hypothesis testing, 1982 (intersection-union);
    Benjamini and Hochberg, 1995 (q).
    """
    scenes = [key_effects(recording, reference=reference) for recording in each_recording(recordings)]
    return call_sinks(
        scenes, minimum_effect=minimum_effect, minimum_mass=minimum_mass, minimum_uniformity=minimum_uniformity,
        false_discovery_rate=false_discovery_rate, confidence=confidence, resamples=resamples, flips=flips, seed=seed,
    )  # fmt: skip


def call_sinks(
    scenes: Sequence[KeyEffects],
    *,
    minimum_effect: float = 2.0,
    minimum_mass: float = 1.0,
    minimum_uniformity: float = 0.5,
    false_discovery_rate: float = 0.05,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    """The second half of :func:`detect_sinks`: from scenes that are reduced already to the table.

    Args:
        scenes: from :func:`~refam_analysis.analysis.key_effects.key_effects`, with the same reference.
        minimum_effect: this and the others as for :func:`detect_sinks`.
        minimum_mass: as :func:`detect_sinks` takes it, like all that follow.
        minimum_uniformity: least evenness over a side's queries.
        false_discovery_rate: over all blocks and roles.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: draws of signs for the test.
        seed: of the draws.

    Returns:
        The table of :func:`detect_sinks`, a row a (block, role).

    Raises:
        NoRecordingsError: there is no scene.
        RecordingsDifferError: the scenes are not of the same blocks, or have queries of other sides.
    """
    if not scenes:
        raise NoRecordingsError
    blocks, sides, reference = scenes[0].blocks, scenes[0].sides, scenes[0].reference
    for scene in scenes:
        same_blocks(blocks, scene.blocks)
        same_sides(sides, scene.sides)
    if len(scenes) > 1:
        scenes = [scene.with_first_token() for scene in scenes]
    labels = _labels(scenes)
    values = _align(scenes, labels, minimum_effect, minimum_mass)
    table = labels.merge(pd.DataFrame({"block": blocks}), how="cross").sort_values("block", kind="stable")
    table = table[["block", "role", "word", "kind", "side", "position"]].reset_index(drop=True)
    table["scenes"] = np.isfinite(values[f"mass_from_{sides[0]}"]).sum(axis=0)
    _describe(table, values, sides, confidence=confidence, resamples=resamples, seed=seed)
    table["p"] = _weakest(values, sides, flips, seed) if len(scenes) > 1 else np.nan
    table["q"] = benjamini_hochberg(table["p"].to_numpy(dtype=np.float64))
    table["one_sided"] = len(sides) == 1
    table["exploratory"] = len(scenes) == 1
    table["is_sink"] = _clears(table, sides, minimum_effect, minimum_mass, minimum_uniformity)
    if len(scenes) > 1:
        table["is_sink"] &= table["q"] <= false_discovery_rate
    table.attrs.update(
        reference=REFERENCES[reference],
        minimum_effect=minimum_effect,
        minimum_mass=minimum_mass,
        minimum_uniformity=minimum_uniformity,
        false_discovery_rate=false_discovery_rate,
        confidence=confidence,
    )
    return table


def sink_strength(
    recording: Recording,
    *,
    reference: Reference = "side",
    minimum_effect: float = 2.0,
    minimum_mass: float = 1.0,
) -> xr.Dataset:
    """How strong the strongest sink of each block of one scene is, and which key it is.

    A key counts by its effect on the weaker side, against a reference that is no lower than minimum_mass /
    minimum_effect, so that the largest key of an ignored side does not count for more than it draws:

        strength = max_j min_side log(m_j / max(r, minimum_mass / minimum_effect))

    It reaches log(minimum_effect) exactly where some key clears the bars of effect and mass of :func:`detect_sinks`
    from every side. Evenness has no part in the choice of the key; it stands beside. The largest of many keys lies
    above its peers by chance alone: compare with a control.

    Args:
        recording: of one scene, see :func:`detect_sinks`.
        reference: what its peers are.
        minimum_effect: times the reference.
        minimum_mass: 1 = as uniform; 0 takes the reference as it is.

    Returns:
        Axes (block): ``log_effect`` (the strength, a natural logarithm); of the key that has it ``uniformity`` (the
        smaller of the sides', in (0, 1]), ``mass_from_text``, ``mass_from_image``, and of its own row
        ``row_evenness`` and ``row_excess``, as in the table; NaN where the recording cannot say. Coordinates ``key``
        (position in the sequence), ``role``, ``word``, ``kind``, ``side``.

    Raises:
        KeyError: the recording has neither received mass nor full attention.
    """
    scene = key_effects(recording, reference=reference)
    strength = scene.strength(minimum_effect, minimum_mass)
    rows, best = np.arange(len(scene.blocks)), strength.argmax(axis=1)
    uniformity = np.min([scene.values[f"uniformity_from_{side}"] for side in scene.sides], axis=0)
    columns = {"log_effect": strength, "uniformity": uniformity}
    for name in ("mass_from_text", "mass_from_image", "row_evenness", "row_excess"):
        columns[name] = scene.values.get(name, np.full(strength.shape, np.nan))
    chosen = scene.table.iloc[best]
    labels = {name: ("block", chosen[name].to_numpy().astype(str)) for name in ("role", "word", "kind", "side")}
    return xr.Dataset(
        {name: ("block", values[rows, best]) for name, values in columns.items()},
        coords={"block": scene.blocks, "key": ("block", chosen["position"].to_numpy()), **labels},
    )


def _labels(scenes: Sequence[KeyEffects]) -> pd.DataFrame:
    """One row a role, in the order of the sequence."""
    grouped = pd.concat([scene.table for scene in scenes]).groupby("role", sort=False)
    named = grouped[["word", "kind", "side"]]
    labels = named.first().where(named.nunique() == 1, "")  # what differs over scenes is left out
    labels["position"] = grouped["position"].median().astype(int)
    return labels.sort_values("position", kind="stable").reset_index()


def _align(
    scenes: Sequence[KeyEffects], labels: pd.DataFrame, minimum_effect: float, minimum_mass: float
) -> dict[str, Floats]:
    """All scenes on the rows of the table: by name (scene, row), NaN where a scene lacks the role."""
    column = {role: index for index, role in enumerate(labels["role"])}
    aligned: dict[str, Floats] = {}
    for index, scene in enumerate(scenes):
        places = [column[role] for role in scene.table["role"]]
        margins = scene.margins(minimum_effect, minimum_mass)
        for name, values in {**scene.values, **{f"margin_from_{side}": each for side, each in margins.items()}}.items():
            if name not in aligned:
                aligned[name] = np.full((len(scenes), len(values), len(column)), np.nan)
            aligned[name][index][:, places] = values
    return {name: values.reshape(len(scenes), -1) for name, values in aligned.items()}


def _describe(
    table: pd.DataFrame,
    values: Mapping[str, Floats],
    sides: Sequence[Side],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> None:
    """Add masses, evenness and effects, and the intervals of the weaker side's effect and of the row's excess."""
    nothing = np.full((1, len(table)), np.nan)
    for what in ("mass", "uniformity"):
        for side in SIDES:
            table[f"{what}_from_{side}"] = scene_mean(values.get(f"{what}_from_{side}", nothing))
    for side in SIDES:
        table[f"effect_from_{side}"] = np.exp(scene_mean(values.get(f"log_effect_from_{side}", nothing)))
    effects = table[[f"effect_from_{side}" for side in sides]].to_numpy()
    rows, weaker = np.arange(len(table)), effects.argmin(axis=1)
    ends = [
        bootstrap_interval(values[f"log_effect_from_{side}"], confidence=confidence, resamples=resamples, seed=seed)
        for side in sides
    ]
    table["effect"] = effects[rows, weaker]
    for name, end in (("low", 0), ("high", 1)):
        table[name] = np.exp(np.stack([each[end] for each in ends], axis=1)[rows, weaker])
    for name in ("row_evenness", "row_excess"):
        table[name] = scene_mean(values[name])
    table["row_excess_low"], table["row_excess_high"] = bootstrap_interval(
        values["row_excess"], confidence=confidence, resamples=resamples, seed=seed
    )


def _weakest(values: Mapping[str, Floats], sides: Sequence[Side], flips: int, seed: int) -> Floats:
    """The p of each row: the larger of its sides'."""
    each = [sign_flip_p(values[f"margin_from_{side}"], flips=flips, seed=seed) for side in sides]
    return np.max(each, axis=0)


def _clears(
    table: pd.DataFrame, sides: Sequence[Side], minimum_effect: float, minimum_mass: float, minimum_uniformity: float
) -> pd.Series:
    """Whether the means of a row clear every threshold from every side."""
    clear = pd.Series(True, index=table.index)
    for side in sides:
        even = table[f"uniformity_from_{side}"]
        clear &= table[f"effect_from_{side}"] >= minimum_effect
        clear &= table[f"mass_from_{side}"] >= minimum_mass
        clear &= even.isna() | (even >= minimum_uniformity)
    return clear
