"""Profiles over blocks: for one scene, a few numbers a block, and what the claims about depth ask of them.

A profile is small whatever the model, so that 500 scenes of a large one can be kept, and every figure about depth can
be drawn from it. What a model does not have is NaN in its profile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.analysis.concentration import spatial_entropy_of
from refam_analysis.analysis.depth import rank_correlation
from refam_analysis.analysis.entropy import entropy_by_row
from refam_analysis.analysis.key_effects import KeyEffects
from refam_analysis.analysis.localisation import average_precision_of
from refam_analysis.analysis.magnets import mass_shares
from refam_analysis.analysis.phrases import find_phrases, within_phrase_excess
from refam_analysis.analysis.tables import over_scenes
from refam_analysis.analysis.units import number_of_keys
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.models.family import Family
from refam_analysis.recording import Recording
from refam_analysis.recording.quantities import QUANTITIES, absent_from

Floats = NDArray[np.float64]

KEPT = (
    "text_to_text", "text_to_image", "image_to_text", "entropy", "received_from_text", "received_from_image",
    "uniformity_from_text", "uniformity_from_image",
)  # fmt: skip
"""What a profile is made from."""

KINDS = ("content", "stop", "magnet", "punctuation", "special", "padding", "template", "image")
NEEDS: Mapping[str, tuple[str, ...]] = {
    "row_entropy": ("entropy",),
    "sink_strength": ("received_from_image",),
    "phrase_excess": ("text_to_text",),
    "spatial_entropy": ("text_to_image",),
    "precision_text_to_image": ("text_to_image",),
    "precision_image_to_text": ("image_to_text",),
    **{f"mass_on_{kind}": ("received_from_image",) for kind in KINDS},
}
"""Measure -> the quantities without which it is NaN."""


def kept_of(family: Family) -> tuple[str, ...]:
    """What of :data:`KEPT` a model of a family has."""
    missing = absent_from(family)
    return tuple(name for name in QUANTITIES if name in KEPT and name not in missing)


def profile_of(recording: Recording, item: GroundingItem, effects: KeyEffects) -> dict[str, Floats]:
    """One scene's numbers for every block.

    Args:
        recording: of the scene, with :data:`KEPT` as far as the model has it.
        item: the scene, with its sentence and the target's mask.
        effects: of the recording's keys.

    Returns:
        Measure -> (block,), NaN where the model lacks what it needs: ``row_entropy`` (mean over all queries, as a share
        of log N), ``sink_strength`` (log of the largest effect over keys, of the weaker side), ``phrase_excess``,
        ``spatial_entropy`` (of content words' text-to-image maps, as a share of log n), ``precision_text_to_image`` and
        ``precision_image_to_text`` (average precision of the content map), ``mass_on_<kind>`` (share of the attention
        of image queries).
    """
    mask = item.masks[item.target]
    makers: dict[str, Callable[[], Floats]] = {
        "row_entropy": partial(_row_entropy, recording),
        "sink_strength": lambda: effects.log_effect().max(axis=1),
        "phrase_excess": lambda: within_phrase_excess(recording, find_phrases(item.expression)).values,
        "spatial_entropy": lambda: spatial_entropy_of(recording, "text_to_image").values,
        "precision_text_to_image": lambda: average_precision_of(recording, mask, "text_to_image").values,
        "precision_image_to_text": lambda: average_precision_of(recording, mask, "image_to_text").values,
    }
    blocks = recording.dataset.sizes["block"]
    found = {
        name: make() if all(quantity in recording for quantity in NEEDS[name]) else np.full(blocks, np.nan)
        for name, make in makers.items()
    }
    if "received_from_image" not in recording:
        return found | {f"mass_on_{kind}": np.full(blocks, np.nan) for kind in KINDS}
    shares = mass_shares(recording, from_queries="image")
    return found | {f"mass_on_{kind}": shares.sel(kind=kind).values for kind in KINDS}


def profile_rows(source: str, blocks: Sequence[int], profile: Mapping[str, Floats]) -> list[dict[str, object]]:
    """A profile as rows of a table.

    Args:
        source: what it is of, such as "model" or "untrained".
        blocks: their indices.
        profile: from :func:`profile_of`.

    Returns:
        A row a (measure, block): ``source``, ``block``, ``measure``, ``value``.

    >>> profile_rows("model", [3], {"row_entropy": np.array([0.5])})
    [{'source': 'model', 'block': 3, 'measure': 'row_entropy', 'value': 0.5}]
    """
    return [
        {"source": source, "block": block, "measure": measure, "value": value}
        for measure, values in profile.items()
        for block, value in zip(blocks, values.tolist(), strict=True)
    ]


def about_depth(profile: Mapping[str, Floats]) -> dict[str, float]:
    """What the claims about depth (C1, C7 to C9, C11) ask of one scene's profile, turned as their rules say.

    Args:
        profile: from :func:`profile_of`.

    Returns:
        Criterion -> value.
    """
    third = _third(len(profile["row_entropy"]))
    early = {name: float(values[:third].mean()) for name, values in profile.items()}
    late = {name: float(values[-third:].mean()) for name, values in profile.items()}
    rise = {name: late[name] - early[name] for name in profile}
    entropy = profile["row_entropy"]
    return {
        "c1_rise": rise["sink_strength"],
        "c1_early_absent": float(np.log(2) - early["sink_strength"]),
        "c1_late_present": float(late["sink_strength"] - np.log(2)),
        "c7_late": late["phrase_excess"],
        "c7_rise": rise["phrase_excess"],
        "c8_concentrates": -rise["spatial_entropy"],
        "c8_finds": rise["precision_text_to_image"],
        "c9_early_even": early["row_entropy"] - 0.95,
        "c9_falls": early["row_entropy"] - float(entropy[third:].mean()),
        "c11_together": rank_correlation(profile["sink_strength"], profile["precision_image_to_text"]),
    }


def profile_means(profiles: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Profiles over scenes, with the depth of each block, at which models of other sizes can be laid beside.

    Args:
        profiles: of a ledger: ``item``, ``source``, ``block``, ``measure``, ``value``.
        confidence: of the intervals.
        seed: of the bootstrap over scenes.

    Returns:
        A row a (source, measure, block): ``source``, ``measure``, ``block``, ``value``, ``low``, ``high``, ``scenes``,
        ``depth`` (0 for the first block, 1 for the last).
    """
    wide = profiles.pivot(index="item", columns=["source", "measure", "block"], values="value")
    table = over_scenes(wide.to_numpy(), wide.columns, confidence=confidence, seed=seed)
    first, last = table["block"].min(), table["block"].max()
    return table.assign(depth=(table["block"] - first) / max(1, last - first))


def strongest_key(effects: KeyEffects) -> dict[str, float]:
    """What C2 asks of one scene: the strongest key of the last third of the blocks, by its column and by its row.

    Args:
        effects: of the scene's recording.

    Returns:
        ``c2_draws``, ``c2_draws_evenly`` (both of the weaker side) and ``c2_gives_evenly``, means over the blocks of
        the last third, turned as their rules say; NaN where the recording lacks what is asked.
    """
    third = _third(len(effects.blocks))
    log_effect = effects.log_effect()[-third:].mean(axis=0)
    key = int(log_effect.argmax())
    even = [float(effects.values[f"uniformity_from_{side}"][-third:, key].mean()) for side in effects.sides]
    return {
        "c2_draws": float(log_effect[key] - np.log(2)),
        "c2_draws_evenly": min(even) - 0.5,
        "c2_gives_evenly": float(effects.values["row_excess"][-third:, key].mean()),
    }


def _third(blocks: int) -> int:
    """How many blocks the first third has, and the last; at least one."""
    return max(1, round(blocks / 3))


def _row_entropy(recording: Recording) -> Floats:
    entropy = entropy_by_row(recording).isel(branch=0).mean(["step", "head", "query"])
    values: Floats = entropy.values / np.log(number_of_keys(recording))
    return values
