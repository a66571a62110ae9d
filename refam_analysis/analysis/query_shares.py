"""What one group of queries attends to: shares over the text keys, the image keys, and whatever else there is.

A group is a side ("text", "image"), a region of the picture ("target", "distractors", "background") or a kind of token
("content"). Here a recording becomes these shares, which sum to 1; accounts of them are in `redistribution`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.analysis.localisation import MaskError
from refam_analysis.analysis.magnets import share_by_key
from refam_analysis.analysis.positions import SIDES, Side, positions, side_indices
from refam_analysis.analysis.regions import REGIONS
from refam_analysis.analysis.units import block_numbers

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class QueryShares:
    """Shares of the attention of one group of queries, mean over its queries, heads and steps.

    Attributes:
        blocks: their numbers.
        text: (block, text key).
        image: (block, image key), in the row-major order of the grid; no columns where the softmax has text keys alone.
        other: (block,), on keys of neither side.
        labels: a row a text key, from :func:`~refam_analysis.analysis.positions.positions`.
    """

    blocks: list[int]
    text: Floats
    image: Floats
    other: Floats
    labels: pd.DataFrame


def query_shares(recording: Recording, queries: str, regions: xr.DataArray | None = None) -> QueryShares:
    """The shares of one group of queries.

    Args:
        recording: for a side, with its received mass or ``full``; for a region or a kind, with ``full``, or both maps
            of that side (``image_to_text`` and ``image_to_image``; ``text_to_text`` and ``text_to_image``).
        queries: "text", "image", a region, or a token kind. Within a region, tokens count by their share of it.
        regions: of the picture, from :func:`~refam_analysis.analysis.regions.region_shares`; needed for a region.

    Returns:
        Shares that sum to 1 over all keys of the softmax that the text is in; NaN where the group has no query.

    Raises:
        QuantityMissingError: what is needed was not kept.
        MissingSideError: the model has no queries of that side.
        MaskError: a region was asked for, and there are no regions.
    """
    if queries in SIDES:
        mass = share_by_key(recording, from_queries="text" if queries == "text" else "image")
        return _split(mass.values, positions(mass, "key"), block_numbers(mass))
    if queries not in REGIONS:
        return group_shares(recording, "text", lambda labels: (labels["kind"] == queries).to_numpy(dtype=np.float64))
    if regions is None:
        raise MaskError(f"The queries of the {queries} were asked for: give regions=, from region_shares.")
    weights = regions.sel(region=queries).values.ravel()
    return group_shares(recording, "image", lambda _: weights)


def group_shares(recording: Recording, side: Side, weigh: Callable[[pd.DataFrame], Floats]) -> QueryShares:
    """The shares of some queries of a side.

    Args:
        recording: with ``full``, or both maps of that side.
        side: of the queries.
        weigh: gives for the labels of that side's queries, a row each, how much each of them counts; one that counts
            nothing is left out.
    """
    if "full" in recording:
        rows = recording["full"].isel(branch=0)
        rows = rows.isel(query=side_indices(rows, "query", side))
        shares = _averaged(rows, weigh(positions(rows, "query")), rows.sizes["query"])
        return _split(shares, positions(rows, "key"), block_numbers(rows))
    names = {"image": ("image_to_text", "image_to_image"), "text": ("text_to_text", "text_to_image")}[side]
    onto_text = recording[names[0]].isel(branch=0)
    labels = positions(onto_text, "token" if side == "image" else "key")
    weights = weigh(labels)  # text keys are the text queries
    text = _averaged(onto_text, weights, len(weights))
    image = np.zeros((len(text), 0))
    if recording.layout.attention == "joint":
        image = _averaged(recording[names[1]].isel(branch=0), weights, len(weights))
    return _whole(block_numbers(onto_text), text, image, np.zeros(len(text)), labels)


def _averaged(rows: xr.DataArray, weights: Floats, queries: int) -> Floats:
    """(block, key): the mean over the queries by their weights, over steps and heads; NaN where no query counts.

    Args:
        rows: axes (step, block, head, ...), then those of the queries and those of the keys, in row-major order.
        weights: one a query.
        queries: their number.
    """
    total = weights.sum()
    share = weights / total if total > 0 else np.full(queries, np.nan)
    found = []
    for block in range(rows.sizes["block"]):  # one at a time, since a recording on disk may be large
        mean = rows.isel(block=block).mean(["step", "head"], dtype=np.float64).values
        found.append(share @ mean.reshape(queries, -1))
    return np.stack(found)


def _split(values: Floats, labels: pd.DataFrame, blocks: list[int]) -> QueryShares:
    side = labels["side"].to_numpy()
    text, image, other = (values[:, side == name] for name in ("text", "image", "other"))
    return _whole(blocks, text, image, other.sum(axis=1), labels[side == "text"].reset_index(drop=True))


def _whole(blocks: list[int], text: Floats, image: Floats, other: Floats, labels: pd.DataFrame) -> QueryShares:
    """With what the sum lacks of 1 by rounding divided out, so that accounts balance to the last digit."""
    total = text.sum(axis=1) + image.sum(axis=1) + other
    return QueryShares(blocks, text / total[:, None], image / total[:, None], other / total, labels)
