"""The tables that the chapters on the phenomena draw, of any model that can be recorded.

The book computes them of the embedded model while it is built. Of a model that needs a GPU, ``refam bundle`` computes
them once and packs them; they are small whatever the model. What each table is, its function in `analysis` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from refam_analysis.analysis.emergence import concentration_by_block, phrases_by_block, sinks_and_semantics_by_block
from refam_analysis.analysis.entropy import entropy_by_block
from refam_analysis.analysis.entropy_directions import entropy_by_direction
from refam_analysis.analysis.key_importance import key_importance
from refam_analysis.analysis.localisation import Direction, localisation_by_step
from refam_analysis.analysis.magnets import mass_by_kind, mass_moved
from refam_analysis.analysis.rows import entropy_by_kind
from refam_analysis.analysis.sinks import detect_sinks
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS, make_prompt
from refam_analysis.recording import Recording, record_batch
from refam_analysis.recording.quantities import QUANTITIES, absent_from

ROLES_A_KIND = 8
"""How many roles of a kind the table of sinks keeps: a large model has thousands of padding and image tokens."""

_ROWS = ("entropy", "entropy_over_text", "entropy_over_image", "mass_on_text")
_RECEIVED = ("received_from_text", "received_from_image")
_EVENNESS = ("uniformity_from_text", "uniformity_from_image")
_DIRECTIONS: tuple[Direction, ...] = ("text_to_image", "image_to_text")


@dataclass(frozen=True)
class Asked:
    """The recordings that tables are made from, one a scene, in the order of the items."""

    items: Sequence[GroundingItem]
    plain: Sequence[Recording]
    with_magnets: Sequence[Recording]


@dataclass(frozen=True)
class Table:
    """One table: what a recording must hold for it, and how it is made."""

    needs: tuple[str, ...]
    make: Callable[[Asked], pd.DataFrame]


def phenomena(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    *,
    magnets: Sequence[str] = DEFAULT_MAGNETS,
    noise_level: float = 0.6,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, pd.DataFrame]:
    """Every table of the phenomena that a model has what is needed for.

    Two forward passes a scene, without and with magnets, each recorded as the mean over heads; the maps of the words
    alone are kept. For FLUX.1 that takes about 100 MB of memory a scene.

    Args:
        model: from ``load_model``.
        items: scenes, one sentence each.
        magnets: appended in the second pass.
        noise_level: of both passes.
        seed: item i has the noise of seed + i.
        progress: show a bar over scenes.

    Returns:
        By name, with the functions of `analysis` that say what their columns are: ``entropy`` (`entropy_by_block`),
        ``entropy_by_kind``, ``entropy_by_direction``, ``phrases`` (`phrases_by_block`), ``sharpness``
        (`concentration_by_block`, with a column ``direction``), ``finds`` (`localisation_by_step`, the same),
        ``sinks_and_semantics`` (`sinks_and_semantics_by_block`), ``sinks`` (`detect_sinks`: of each kind the
        :data:`ROLES_A_KIND` strongest roles that at least half of the scenes have, all that are called, and the first
        token), ``importance`` (`key_importance`), ``mass`` and ``mass_with_magnets`` (`mass_by_kind`) and ``moved``
        (`mass_moved`). What the model lacks the attention for is not there.
    """
    missing = absent_from(model.family)
    kept = [name for name in QUANTITIES if name in _wanted() and name not in missing]
    plain: list[Recording] = []
    appended: list[Recording] = []
    for number, item in enumerate(tqdm(items, desc="phenomena", disable=not progress)):
        for words, recordings in (((), plain), (magnets, appended)):
            (recording,) = record_batch(
                model, [item.shown], [make_prompt(item.expression, words)],
                noise_level=noise_level, seeds=[seed + number], keep=kept, heads="mean",
            )  # fmt: skip
            recordings.append(_of_its_words(recording))
    asked = Asked(items, plain, appended)
    return {name: table.make(asked) for name, table in TABLES.items() if set(table.needs) <= set(kept)}


def _of_its_words(recording: Recording) -> Recording:
    """The same with the maps of the prompt's words alone; a copy, so that those of the padding can be forgotten."""
    words = dict.fromkeys(token.word for token in recording.tokens if token.word)
    return Recording(recording.select(words=list(words)).dataset.copy(deep=True))


def _strongest_sinks(asked: Asked) -> pd.DataFrame:
    sinks = detect_sinks(asked.plain)
    common = sinks[sinks["scenes"] * 2 >= len(asked.items)]
    best = common.groupby(["kind", "role"])["effect"].max().sort_values(ascending=False)
    kept = {role for _, role in best.groupby("kind").head(ROLES_A_KIND).index}
    kept |= set(sinks.loc[sinks["is_sink"], "role"]) | {"first token"}
    chosen = sinks[sinks["role"].isin(kept)].reset_index(drop=True)
    chosen.attrs = dict(sinks.attrs)
    return chosen


def _sharpness(asked: Asked) -> pd.DataFrame:
    return _by_direction({way: concentration_by_block(asked.plain, direction=way) for way in _DIRECTIONS})


def _finds(asked: Asked) -> pd.DataFrame:
    masks = _masks(asked)
    return _by_direction({way: localisation_by_step(asked.plain, masks, direction=way) for way in _DIRECTIONS})


def _by_direction(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    joined = pd.concat([table.assign(direction=way) for way, table in tables.items()], ignore_index=True)
    joined.attrs = dict(next(iter(tables.values())).attrs)
    return joined


def _masks(asked: Asked) -> list[NDArray[np.bool_]]:
    return [item.masks[item.target] for item in asked.items]


TABLES: Mapping[str, Table] = {
    "entropy": Table(("entropy",), lambda asked: entropy_by_block(asked.plain)),
    "entropy_by_kind": Table(("entropy",), lambda asked: entropy_by_kind(asked.plain)),
    "entropy_by_direction": Table(_ROWS, lambda asked: entropy_by_direction(asked.plain)),
    "phrases": Table(("text_to_text",), lambda asked: phrases_by_block(asked.plain)),
    "sharpness": Table(_DIRECTIONS, _sharpness),
    "finds": Table(_DIRECTIONS, _finds),
    "sinks_and_semantics": Table(
        ("image_to_text", "received_from_image"),
        lambda asked: sinks_and_semantics_by_block(asked.plain, _masks(asked)),
    ),
    "sinks": Table(("received_from_image",), _strongest_sinks),
    "importance": Table(("received_from_image",), lambda asked: key_importance(asked.plain)),
    "mass": Table(_RECEIVED, lambda asked: mass_by_kind(asked.plain)),
    "mass_with_magnets": Table(_RECEIVED, lambda asked: mass_by_kind(asked.with_magnets)),
    "moved": Table(_RECEIVED, lambda asked: mass_moved(asked.plain, asked.with_magnets)),
}
"""In the order of the chapters."""


def _wanted() -> set[str]:
    return {*_EVENNESS, *(name for table in TABLES.values() for name in table.needs)}
