"""Which tokens the causal tests act on: a scene's strongest sinks, and as many random tokens of the same kinds.

Here recordings become positions in the sequence. What acting on them does is in
:mod:`refam_analysis.experiments.sink_changes`; which tokens are *called* sinks, with tests and thresholds, is in
:mod:`refam_analysis.analysis.sinks`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from refam_analysis.analysis.key_effects import key_effects
from refam_analysis.errors import RefamError
from refam_analysis.recording import Recording

_EFFECT, _MASS = 2.0, 1.0  # the bars of `detect_sinks`, at which a strength is log(2)


class TooFewTokensError(RefamError, ValueError):
    """There are not as many other tokens as were asked for."""

    def __init__(self, number: int, side: str) -> None:
        super().__init__(
            f"{number} random tokens were asked for, and the {side} has no other left that is neither a sink nor drawn "
            "already. Ask for fewer."
        )


def rank_keys(recordings: Sequence[Recording], *, blocks: Collection[int] | None = None) -> pd.DataFrame:
    """All tokens of a scene, the strongest sink first.

    A token's strength in a block is that of :func:`refam_analysis.analysis.sinks.sink_strength`: the logarithm of its
    received mass over the median of its side, on the side (of queries) where that is smaller; a mean over noise levels
    and noise draws. Of the blocks that are acted on, the one counts in which the token is strongest: a mean over blocks
    would put a token that is a mild favourite everywhere before one that is a sink in some. An intervention acts on a
    token in all of them; ``blocks`` asks about one at a time. Magnets are left out: they are there to draw attention,
    and redirected mass goes to them.

    Args:
        recordings: of one picture and prompt, with received mass from text and from image queries.
        blocks: that are acted on; None for all that were recorded.

    Returns:
        A row a token: ``position`` (in the sequence), ``side``, ``kind``, ``role``, ``word``, ``strength`` (log 2 is
        the bar of :func:`~refam_analysis.analysis.sinks.detect_sinks` for effect and mass), ``block`` (where it is that
        strong).

    Raises:
        RefamError: a block was not recorded.
        KeyError: received mass was not kept.
    """
    scenes = [key_effects(recording) for recording in recordings]
    table, recorded = scenes[0].table, scenes[0].blocks
    wanted = recorded if blocks is None else sorted(set(blocks))
    if missing := set(wanted) - set(recorded):
        raise RefamError(f"The blocks {sorted(missing)} were not recorded, only {recorded}: choose among those.")
    places = [recorded.index(block) for block in wanted]
    strength = np.mean([scene.strength(_EFFECT, _MASS)[places] for scene in scenes], axis=0)
    ranked = table[["position", "side", "kind", "role", "word"]].assign(
        strength=strength.max(axis=0), block=np.array(wanted)[strength.argmax(axis=0)]
    )
    ranked = ranked[ranked["kind"] != "magnet"]
    return ranked.sort_values("strength", ascending=False, kind="stable", ignore_index=True)


def draw_others(
    ranked: pd.DataFrame, chosen: Sequence[int], generator: np.random.Generator
) -> tuple[tuple[int, ...], int]:
    """As many random tokens of the same kinds as some chosen ones, none of them chosen itself.

    Where a kind has no other token left, one of the same side takes its place.

    Args:
        ranked: from :func:`rank_keys`.
        chosen: positions.
        generator: of the draw.

    Returns:
        Positions, in the order of the chosen ones, and how many of them had to be of another kind.

    Raises:
        TooFewTokensError: the side has no other token left.

    >>> table = pd.DataFrame({"position": [0, 1, 2, 3], "side": "text", "kind": ["stop", "stop", "content", "content"]})
    >>> draw_others(table, [0, 2], np.random.default_rng(0))
    ((1, 3), 0)
    """
    positions, sides, kinds = (ranked[name].to_numpy() for name in ("position", "side", "kind"))
    free = ~np.isin(positions, list(chosen))
    drawn: list[int] = []
    elsewhere = 0
    for position in chosen:
        (place,) = np.flatnonzero(positions == position)
        beside = free & (sides == sides[place])
        alike = beside & (kinds == kinds[place])
        elsewhere += not alike.any()
        pool = np.flatnonzero(alike if alike.any() else beside)
        if not len(pool):
            raise TooFewTokensError(len(chosen), str(sides[place]))
        taken = int(generator.choice(pool))
        drawn.append(int(positions[taken]))
        free[taken] = False
    return tuple(drawn), elsewhere
