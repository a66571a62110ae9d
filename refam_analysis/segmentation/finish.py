"""What comes after the words: the aggregated map is upsampled and multiplied with the spatial bias, then has its point.

The same few lines finish the one map of a sentence and the thousands of a search, so that both give the same points.
How the map came about is in :mod:`refam_analysis.segmentation.heatmap`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.prompts.places import Place, places
from refam_analysis.recording.recording import Recording
from refam_analysis.segmentation import reading
from refam_analysis.segmentation.asked import expression_of
from refam_analysis.segmentation.settings import HeatmapSettings, Upsampling
from refam_analysis.segmentation.spatial_bias import spatial_bias

Floats = NDArray[np.float64]


def finished(heatmap: xr.DataArray, settings: HeatmapSettings, recording: Recording) -> xr.DataArray:
    """A heatmap of patches, upsampled and multiplied with the spatial bias.

    Args:
        heatmap: axes (y, x), with ``frame`` before y for video; one value a patch.
        settings: ``upsampling`` and ``spatial_bias``.
        recording: says what the expression was, where there is a spatial bias.

    Returns:
        The map itself where both are off.

    Raises:
        UnknownExpressionError: the bias is on, and the recording does not say what its expression was.
    """
    fine = upsampled(heatmap, settings.upsampling)
    return fine if not settings.spatial_bias else fine * prior(fine, settings, expression_of(recording))


def upsampled(heatmap: xr.DataArray, how: Upsampling) -> xr.DataArray:
    """A heatmap with more cells, see :func:`~refam_analysis.segmentation.reading.upsample`; axes (..., y, x)."""
    if how == "none":
        return heatmap
    values = _upsampled(np.asarray(heatmap, dtype=np.float64), how)
    others = {name: heatmap[name] for name in heatmap.dims[:-2] if name in heatmap.coords}
    return xr.DataArray(values, dims=heatmap.dims, coords=others, attrs=heatmap.attrs, name=heatmap.name)


def prior(heatmap: xr.DataArray, settings: HeatmapSettings, expression: str) -> xr.DataArray:
    """The spatial bias for a map, axes (y, x): ones where the switch is off, or the expression names no place."""
    values = _prior(expression, (heatmap.sizes["y"], heatmap.sizes["x"]), settings.spatial_bias)
    return xr.DataArray(values, dims=["y", "x"])


def finished_values(maps: NDArray[np.floating], settings: HeatmapSettings, recording: Recording) -> Floats:
    """:func:`finished` for many maps of one sentence: (map, y, x), all alike in upsampling and spatial bias."""
    values = _upsampled(maps.astype(np.float64), settings.upsampling)
    if not settings.spatial_bias:
        return values
    return values * _prior(expression_of(recording), values.shape[1:], settings.spatial_bias)


@lru_cache(maxsize=4096)
def places_of(expression: str) -> tuple[Place, ...]:
    """The places that an expression names, looked for once."""
    return places(expression)


def _prior(expression: str, shape: tuple[int, ...], strength: float) -> Floats:
    height, width = shape
    return spatial_bias(places_of(expression), (height, width), strength=strength)


def _upsampled(maps: Floats, how: Upsampling) -> Floats:
    if how == "none":
        return maps
    flat = torch.from_numpy(maps.reshape(-1, *maps.shape[-2:]))
    fine = reading.upsample(flat, how).numpy()
    return fine.reshape(*maps.shape[:-2], *fine.shape[-2:])
