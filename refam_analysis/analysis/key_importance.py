"""Key importance: the strongest key of a block against a random other one, by which later work compares models.

It is a descriptive number: it asks for neither both sides nor evenness, and has no test. Those are in `sinks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.analysis.key_effects import FLOOR
from refam_analysis.analysis.positions import Side, positions, roles
from refam_analysis.analysis.received import received_by_key
from refam_analysis.analysis.statistics import bootstrap_interval, scene_mean
from refam_analysis.analysis.units import block_numbers, each_recording, query_sides, same_blocks

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]
Queries = Literal["all", "text", "image"]


def key_importance_of(recording: Recording, *, from_queries: Queries = "all") -> xr.Dataset:
    """The most important key of each block of one scene, and how far it exceeds a random other key.

    The importance of key j is the mean attention that it receives, over queries i, heads and steps (the conditional
    branch), in units of uniform attention over the N_k keys:

        importance_j = N_k / N_q * sum_i attention[i, j]

    With s the key of the largest importance of the block,

        ratio        = importance_s / mean of importance over the other keys of the kind of s
        ratio_to_all = importance_s / mean of importance over all other keys

    What a random other key has on average is the mean over all of them, so none is drawn. A key that is alone of its
    kind is compared with the others of its side. Where image and text keys have softmaxes of their own, all stands for
    the keys of the same side.

    Args:
        recording: with ``received_from_text`` and ``received_from_image`` kept, or ``full``.
        from_queries: "all": over the text and image queries together; or those of one side.

    Returns:
        Axes (block): ``importance`` of s (1 = as uniform), ``ratio``, ``ratio_to_all``. Coordinates of s: ``key``
        (position in the sequence), ``role``, ``word``, ``kind``.

    Raises:
        KeyError: received mass was not kept, or the model has no queries of that side.

    Source: the quantity follows the "peak sink-to-random key-importance ratio" of From a Spiral to a Sink, 2026. How
    exactly that work averages over heads, images and prompts, and from which keys it draws the random ones, is not
    known to us; both ratios are given for that reason.
    """
    importance, table, blocks = _importance(recording, from_queries)
    kind, side = table["kind"].to_numpy(), table["side"].to_numpy()
    best = importance.argmax(axis=1)
    ratio, to_all = np.empty(len(best)), np.empty(len(best))
    for block, strongest in enumerate(best):
        other = np.arange(len(kind)) != strongest
        same_side = other & (side == side[strongest])
        same_kind = same_side & (kind == kind[strongest])
        together = other if recording.layout.attention == "joint" else same_side
        for ratios, among in ((ratio, same_kind if same_kind.any() else same_side), (to_all, together)):
            random = importance[block, among].mean() if among.any() else np.nan
            ratios[block] = importance[block, strongest] / max(random, FLOOR)
    chosen = table.iloc[best]
    labels = {name: ("block", chosen[name].to_numpy().astype(str)) for name in ("role", "word", "kind")}
    values = {"importance": importance[np.arange(len(best)), best], "ratio": ratio, "ratio_to_all": to_all}
    return xr.Dataset(
        {name: ("block", each) for name, each in values.items()},
        coords={"block": blocks, "key": ("block", chosen["position"].to_numpy()), **labels},
    )


def key_importance(
    recordings: Recording | Iterable[Recording],
    *,
    from_queries: Queries = "all",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Sink-to-random key-importance ratio of each block, over scenes.

    Args:
        recordings: one, or one a scene, read one after the other; see :func:`key_importance_of`.
        from_queries: whose attention counts.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a block: ``block``; ``ratio``, ``low``, ``high`` and ``ratio_to_all``, ``ratio_to_all_low``,
        ``ratio_to_all_high`` (geometric means over scenes; each scene has the strongest key of its own);
        ``importance`` (mean); ``kind`` and ``role`` that the strongest key has most often, with ``kind_share`` and
        ``role_share``, the share of scenes; ``scenes``.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks.
        KeyError: see :func:`key_importance_of`.
    """
    scenes: list[xr.Dataset] = []
    blocks: list[int] | None = None
    for recording in each_recording(recordings):
        scene = key_importance_of(recording, from_queries=from_queries)
        blocks = same_blocks(blocks, [int(number) for number in scene["block"].values])
        scenes.append(scene)
    return importance_over_scenes(scenes, confidence=confidence, resamples=resamples, seed=seed)


def importance_over_scenes(
    scenes: Sequence[xr.Dataset], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """The second half of :func:`key_importance`.

    Args:
        scenes: one from :func:`key_importance_of` a scene, of the same blocks.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns the table of :func:`key_importance`.
    """
    table = pd.DataFrame({"block": scenes[0]["block"].values})
    for name, ends in (("ratio", ("low", "high")), ("ratio_to_all", ("ratio_to_all_low", "ratio_to_all_high"))):
        logs = np.log(np.stack([scene[name].values for scene in scenes]))
        low, high = bootstrap_interval(logs, confidence=confidence, resamples=resamples, seed=seed)
        table[name], table[ends[0]], table[ends[1]] = np.exp(scene_mean(logs)), np.exp(low), np.exp(high)
    table["importance"] = scene_mean(np.stack([scene["importance"].values for scene in scenes]))
    add_most_common(table, scenes)
    table["scenes"] = len(scenes)
    table.attrs["confidence"] = confidence
    return table


def peak_importance(table: pd.DataFrame) -> pd.Series:
    """The block with the largest ratio: the number that models are compared by.

    Args:
        table: from :func:`key_importance`.

    Returns:
        Its row. The largest of many blocks' means is somewhat too large, the more so the fewer scenes there are; its
        interval is that of its block.
    """
    return table.loc[table["ratio"].idxmax()]


def add_most_common(table: pd.DataFrame, scenes: Sequence[xr.Dataset]) -> None:
    """Add to a table the kind and the role that the strongest key has most often, each with its share of scenes.

    Args:
        table: to which the columns ``kind``, ``kind_share``, ``role`` and ``role_share`` are added.
        scenes: one a scene, with the coordinates ``kind`` and ``role``, whose flat order is that of the rows.
    """
    for name in ("kind", "role"):
        names = np.stack([scene[name].values.astype(str).ravel() for scene in scenes])
        most = [_most_common(column) for column in names.T]
        table[name] = [found for found, _ in most]
        table[f"{name}_share"] = [share for _, share in most]


def _most_common(names: NDArray[np.str_]) -> tuple[str, float]:
    """What occurs most often, the first in the alphabet of several, and its share."""
    found, counts = np.unique(names, return_counts=True)
    return str(found[counts.argmax()]), float(counts.max() / counts.sum())


def _importance(recording: Recording, from_queries: Queries) -> tuple[Floats, pd.DataFrame, list[int]]:
    """(block, key), the labels of the keys, and the blocks."""
    sides: list[Side] = query_sides(recording) if from_queries == "all" else [from_queries]
    counts = [_number_of_queries(recording, side) for side in sides]
    each = [received_by_key(recording, from_queries=side) for side in sides]
    means = [one.isel(branch=0).mean(["step", "head"]).transpose("block", "key").values for one in each]
    importance: Floats = np.average(means, axis=0, weights=counts)
    table = positions(each[0], "key")
    table = table.assign(role=roles(table, recording.layout))
    return importance, table, block_numbers(each[0])


def _number_of_queries(recording: Recording, side: Side) -> int:
    """How many queries of a side the received mass is a mean over."""
    segment = recording.layout.text if side == "text" else recording.layout.image
    if "queries" in recording.attrs:
        return sum(segment.start <= position < segment.stop for position in recording.attrs["queries"])
    return segment.stop - segment.start
