"""Global attention sinks: which keys draw far more than their peers, from text and image queries at once.

One function makes one table. Its rule has four parts, each with a reason and each an argument: the key exceeds a
robust reference by a minimum effect, draws at least what uniform attention would give it, does both from every side
that the model has queries of, and draws evenly. Whether it does so consistently is tested over scenes. What a sink
does to the output (causal tests) is not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.analysis.positions import FIRST_TOKEN, SIDES, Side, positions, roles
from refam_analysis.analysis.received import received_by_key, uniformity_by_key
from refam_analysis.analysis.statistics import benjamini_hochberg, bootstrap_interval, scene_mean, sign_flip_p
from refam_analysis.analysis.units import block_numbers, each_recording, query_sides, same_blocks

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]
Reference = Literal["side", "all"]

_FLOOR = 1e-6  # a key that draws less than a millionth of uniform is taken to draw that: logarithms stay finite
_MEASURES = ("mass", "uniformity", "effect", "margin")


@dataclass(frozen=True)
class _Scene:
    """One recording, reduced: what stands at each key, and four numbers a (measure, side, block, key)."""

    table: pd.DataFrame
    blocks: list[int]
    values: Floats


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

    Args:
        recordings: one, or one a scene, read one after the other. From one there is no test: the table states effects,
            ``exploratory`` is true, and ``is_sink`` goes by the effects alone.
        reference: what "its peers" are. "side": text keys are compared with the text keys and image keys with the
            image keys of the same scene, since the two differ in general. "all": with all keys; right where most
            text keys are sinks themselves, as with FLUX's padding, and the median of the side is one of them.
        minimum_effect: times the reference. A mild preference for some keys is no sink: half of all keys are above a
            median. At 2, keys whose mass varies by 35 % (one standard deviation of its logarithm) pass in 1 of 40.
        minimum_mass: 1.0 is what uniform attention gives. Where a whole side is ignored, its largest key can be many
            times its peers and draw next to nothing.
        minimum_uniformity: mean evenness over a side's queries; 0.5 is what an equal draw from half of them has. A
            key that only the patches of its object attend to is content, not a sink. Without effect where the
            recordings hold neither uniformity nor full attention.
        false_discovery_rate: the largest q of a sink.
        confidence: of the interval of the effect.
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
        without queries); ``effect``, ``low``, ``high`` (of the weaker side); ``p``, ``q``, ``one_sided`` (the model
        has queries of one side only), ``exploratory``, ``is_sink``. ``attrs`` holds the arguments.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks.
        KeyError: a recording has neither received mass nor full attention.

    Source: RefAM, Fig. 1 (what a sink is); Berger, Multiparameter hypothesis testing, 1982 (intersection-union);
    Benjamini and Hochberg, 1995 (q).
    """
    scenes: list[_Scene] = []
    blocks: list[int] | None = None
    sides: list[Side] = []
    for recording in each_recording(recordings):
        sides = query_sides(recording)
        scene = _reduce(recording, sides, reference, minimum_effect, minimum_mass)
        blocks = same_blocks(blocks, scene.blocks)
        scenes.append(scene)
    if len(scenes) > 1:
        scenes = [_with_first_token(scene) for scene in scenes]
    labels = _labels(scenes)
    values = _align(scenes, labels)
    table = labels.merge(pd.DataFrame({"block": blocks}), how="cross").sort_values("block", kind="stable")
    table = table[["block", "role", "word", "kind", "side", "position"]].reset_index(drop=True)
    table["scenes"] = _flat(np.isfinite(values[:, 0, 0])).sum(axis=0)
    _describe(table, values, sides, confidence=confidence, resamples=resamples, seed=seed)
    table["p"] = _weakest(values, sides, flips, seed) if len(scenes) > 1 else np.nan
    table["q"] = benjamini_hochberg(table["p"].to_numpy(dtype=np.float64))
    table["one_sided"] = len(sides) == 1
    table["exploratory"] = len(scenes) == 1
    table["is_sink"] = _clears(table, sides, minimum_effect, minimum_mass, minimum_uniformity)
    if len(scenes) > 1:
        table["is_sink"] &= table["q"] <= false_discovery_rate
    table.attrs.update(
        reference="median over the keys of the same side" if reference == "side" else "median over all keys",
        minimum_effect=minimum_effect,
        minimum_mass=minimum_mass,
        minimum_uniformity=minimum_uniformity,
        false_discovery_rate=false_discovery_rate,
        confidence=confidence,
    )
    return table


def _reduce(
    recording: Recording, sides: list[Side], reference: Reference, minimum_effect: float, minimum_mass: float
) -> _Scene:
    """The four measures of every block and key of a recording, NaN for a side without queries."""
    values: Floats | None = None
    table = pd.DataFrame()
    blocks: list[int] = []
    for side in sides:
        received = received_by_key(recording, from_queries=side).isel(branch=0)
        even = uniformity_by_key(recording, from_queries=side)
        if values is None:
            blocks = block_numbers(received)
            table = positions(received, "key")
            table = table.assign(role=roles(table, recording.layout))
            values = np.full((len(_MEASURES), len(SIDES), len(blocks), len(table)), np.nan)
        mass = np.maximum(received.mean(["step", "head"]).transpose("block", "key").values, _FLOOR)
        peers = np.maximum(_reference(mass, table["side"].to_numpy(), reference), _FLOOR)
        at = SIDES.index(side)
        values[0, at] = mass
        if even is not None:
            values[1, at] = even.isel(branch=0).mean(["step", "head"]).transpose("block", "key").values
        values[2, at] = np.log(mass / peers)
        values[3, at] = np.log(mass / np.maximum(minimum_effect * peers, minimum_mass))
    assert values is not None
    return _Scene(table, blocks, values)


def _reference(mass: Floats, side: NDArray[np.str_], reference: Reference) -> Floats:
    """The median over a key's peers, for every block and key."""
    if reference == "all":
        return np.broadcast_to(np.median(mass, axis=1, keepdims=True), mass.shape)
    peers = np.empty_like(mass)
    for name in np.unique(side):
        peers[:, side == name] = np.median(mass[:, side == name], axis=1, keepdims=True)
    return peers


def _with_first_token(scene: _Scene) -> _Scene:
    """The scene with its first text token a second time, under the role that it has in every scene."""
    text = np.flatnonzero((scene.table["side"] == "text").to_numpy())[:1]
    extra = scene.table.iloc[text].assign(role=FIRST_TOKEN)
    return _Scene(
        pd.concat([scene.table, extra]), scene.blocks, np.concatenate([scene.values, scene.values[..., text]], axis=-1)
    )


def _labels(scenes: list[_Scene]) -> pd.DataFrame:
    """One row a role, in the order of the sequence."""
    every = pd.concat([scene.table for scene in scenes])
    grouped = every.groupby("role", sort=False)
    common = {name: grouped[name].agg(_common) for name in ("word", "kind", "side")}
    labels = pd.DataFrame({**common, "position": grouped["position"].median().astype(int)})
    return labels.sort_values("position", kind="stable").reset_index()


def _common(names: pd.Series) -> str:
    """What all have in common, or ""."""
    return str(names.iloc[0]) if names.nunique() == 1 else ""


def _align(scenes: list[_Scene], labels: pd.DataFrame) -> Floats:
    """All scenes on the same roles: (scene, measure, side, block, role), NaN where a scene lacks the role."""
    column = {role: index for index, role in enumerate(labels["role"])}
    first = scenes[0].values
    aligned = np.full((len(scenes), *first.shape[:3], len(column)), np.nan)
    for index, scene in enumerate(scenes):
        aligned[index][..., [column[role] for role in scene.table["role"]]] = scene.values
    return aligned


def _flat(values: Floats) -> Floats:
    """(scene, block, role) as (scene, row of the table)."""
    return values.reshape(len(values), -1)


def _describe(
    table: pd.DataFrame, values: Floats, sides: list[Side], *, confidence: float, resamples: int, seed: int
) -> None:
    """Add masses, evenness and effects, and the interval of the weaker side's effect."""
    ends: dict[Side, tuple[Floats, Floats]] = {}
    for measure, name in enumerate(_MEASURES[:3]):
        for at, side in enumerate(SIDES):
            mean = scene_mean(_flat(values[:, measure, at]))
            table[f"{name}_from_{side}"] = np.exp(mean) if name == "effect" else mean
    effects = table[[f"effect_from_{side}" for side in sides]].to_numpy()
    for side in sides:
        log_effect = _flat(values[:, 2, SIDES.index(side)])
        low, high = bootstrap_interval(log_effect, confidence=confidence, resamples=resamples, seed=seed)
        ends[side] = np.exp(low), np.exp(high)
    weaker = effects.argmin(axis=1)
    rows = np.arange(len(table))
    table["effect"] = effects[rows, weaker]
    table["low"] = np.stack([ends[side][0] for side in sides], axis=1)[rows, weaker]
    table["high"] = np.stack([ends[side][1] for side in sides], axis=1)[rows, weaker]


def _weakest(values: Floats, sides: list[Side], flips: int, seed: int) -> Floats:
    """The p of each row: the larger of its sides'."""
    each = [sign_flip_p(_flat(values[:, 3, SIDES.index(side)]), flips=flips, seed=seed) for side in sides]
    return np.max(each, axis=0)


def _clears(
    table: pd.DataFrame, sides: list[Side], minimum_effect: float, minimum_mass: float, minimum_uniformity: float
) -> pd.Series:
    """Whether the means of a row clear every threshold from every side."""
    clear = pd.Series(True, index=table.index)
    for side in sides:
        even = table[f"uniformity_from_{side}"]
        clear &= table[f"effect_from_{side}"] >= minimum_effect
        clear &= table[f"mass_from_{side}"] >= minimum_mass
        clear &= even.isna() | (even >= minimum_uniformity)
    return clear
