"""Received mass and its evenness: how much attention each key draws, and from how many queries.

Each quantity has two doors: one takes an attention matrix, the other a Recording, which may have kept the quantity
itself or the full attention. What a high value means is decided in ``sinks``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import entr

from refam_analysis.analysis.positions import Side, labels_of_keys, side_indices

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording


def received_mass(attention: xr.DataArray, *, from_queries: Side) -> xr.DataArray:
    """How much attention each key draws from one side's queries.

    For key j and the N_q queries i of that side, with N_k keys in all,

        received_j = N_k / N_q * sum_i attention[i, j]

    so 1.0 means that j draws what uniform attention would give it, and 50 means fifty times that. A matrix does not say
    which keys a mask hides, so they count here; recordings that kept the quantity leave them out of N_k.

    Args:
        attention: probabilities in [0, 1], axes (..., query, key); rows sum to 1. A coordinate on ``query`` says
            which side each query is on.
        from_queries: the side whose rows are averaged. A sink must stand out from both.

    Returns:
        Axes (..., key), float64, no unit, mean 1.0 over keys.

    Raises:
        MissingSideError: the model has no queries of that side (separate cross-attention).

    Source: the sink criterion of RefAM, Fig. 1, written as a ratio.
    """
    rows = attention.isel(query=side_indices(attention, "query", from_queries))
    return labels_of_keys(rows.mean("query", dtype=np.float64) * attention.sizes["key"])


def uniformity(attention: xr.DataArray, *, from_queries: Side) -> xr.DataArray:
    """How evenly a key's received mass comes from one side's queries.

    With the column of key j over the N_q queries of that side normalised to p_i = attention[i, j] / sum_i
    attention[i, j],

        uniformity_j = exp(-sum_i p_i log p_i) / N_q

    the share of the queries that would give the same evenness if they attended equally and the others not at all:
    1.0 when all attend equally, 1 / N_q when a single one attends.

    Args:
        attention: see :func:`received_mass`.
        from_queries: the side whose rows are compared.

    Returns:
        Axes (..., key), float64, in (0, 1]; NaN where the key receives nothing from that side.

    Raises:
        MissingSideError: the model has no queries of that side.

    Source: the perplexity of the column, as a share; Hill number of order 1 (Hill, Diversity and evenness, 1973).
    """
    rows = attention.isel(query=side_indices(attention, "query", from_queries))
    return labels_of_keys(xr.apply_ufunc(_evenness, rows, input_core_dims=[["query"]]))


def received_by_key(recording: Recording, *, from_queries: Side) -> xr.DataArray:
    """Received mass of a recording: as it was kept, or from its full attention.

    Args:
        recording: with ``received_from_text`` (or ``_image``) or ``full`` kept.
        from_queries: the side.

    Returns:
        Axes (step, branch, block, head, key), float64.

    Raises:
        KeyError: neither was kept, or the model has no queries of that side; the message says which.
    """
    name = f"received_from_{from_queries}"
    if name not in recording and "full" in recording:
        return received_mass(recording["full"], from_queries=from_queries)
    return recording[name].astype(np.float64)


def uniformity_by_key(recording: Recording, *, from_queries: Side) -> xr.DataArray | None:
    """Evenness of a recording's received mass: as it was kept, from its full attention, or None.

    Args:
        recording: any.
        from_queries: the side.

    Returns:
        Axes (step, branch, block, head, key), float64; None where the recording cannot say.
    """
    name = f"uniformity_from_{from_queries}"
    if name in recording:
        return recording[name].astype(np.float64)
    return uniformity(recording["full"], from_queries=from_queries) if "full" in recording else None


def _evenness(columns: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Uniformity along the last axis: with R = sum_i a_i, the entropy of a / R is log R + sum_i entr(a_i) / R."""
    exact = columns.astype(np.float64)
    total = exact.sum(-1)
    total[total <= 0] = np.nan
    evenness: NDArray[np.float64] = total * np.exp(entr(exact).sum(-1) / total) / columns.shape[-1]
    return evenness
