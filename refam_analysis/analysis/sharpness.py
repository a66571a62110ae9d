"""Whether maps get sharper: against the mask of the target, and in the clusters of activation on the background.

The measures are of one map (:func:`map_measures`): of a block's content map, as here, or of a heatmap, as in the
experiment with magnets. Without magnets and with them they are paired over scenes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from refam_analysis.analysis.concentration import CLUSTER_THRESHOLD, checked_heat, clusters
from refam_analysis.analysis.localisation import (
    Direction,
    Normalisation,
    average_precision,
    background_ratio,
    content_maps,
    peak_inside,
)
from refam_analysis.analysis.magnets import ALL_MAGNETS, KINDS, magnet_shares_of, mass_shares
from refam_analysis.analysis.paired import paired_changes
from refam_analysis.analysis.regions import REGIONS, tokens_on
from refam_analysis.analysis.units import block_numbers, each_recording, query_sides, same_blocks

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]

MAP_MEASURES: tuple[str, ...] = (
    "average_precision",
    "point_accuracy",
    "background_ratio",
    "peak_to_mean",
    "background_clusters",
    "background_cluster_size",
    "background_largest_share",
)
"""What :func:`map_measures` gives, in this order."""


def peak_to_mean(heatmap: ArrayLike) -> float:
    """The largest heat over the mean heat.

    1 for an even map, the number of image tokens when all heat is on one.

    Args:
        heatmap: (y, x) or (frame, y, x), not negative.

    Returns:
        The ratio, no unit; NaN for a map without heat.

    Raises:
        MapError: a map that is negative or not finite.

    >>> peak_to_mean([[1.0, 1.0], [1.0, 5.0]])
    2.5
    """
    heat = checked_heat(heatmap)
    mean = heat.mean()
    return float(heat.max() / mean) if mean > 0 else float("nan")


def background_clusters(
    heatmap: ArrayLike, mask: ArrayLike, *, threshold: float = CLUSTER_THRESHOLD
) -> NDArray[np.intp]:
    """Sizes of the connected clusters of activation off the target.

    A token is hot above ``threshold`` times the mean of the whole map, as in
    :func:`~refam_analysis.analysis.concentration.clusters`; the tokens whose middle is on the target are left out.

    Args:
        heatmap: (y, x) or (frame, y, x), not negative.
        mask: of the target, bool, the same axes at any resolution.
        threshold: how hot a token of a cluster is.

    Returns:
        (clusters,): hot tokens in each, the largest first; empty where no token off the target is hot.

    Raises:
        MapError: a map that is negative or not finite.
        MaskError: the mask has other axes than the map.

    >>> background_clusters([[9.0, 0.0, 5.0, 5.0], [0.0, 0.0, 0.0, 0.0]], [[1, 0, 0, 0], [0, 0, 0, 0]]).tolist()
    [2]
    """
    heat = checked_heat(heatmap)
    off = np.where(tokens_on(mask, heat.shape), 0.0, heat)
    if not off.any():
        return clusters(heat, threshold=np.inf)
    return clusters(off, threshold=threshold * heat.mean() / off.mean())


def map_measures(heatmap: ArrayLike, mask: ArrayLike) -> dict[str, float]:
    """Everything that is measured of one map against the target's mask.

    Args:
        heatmap: (y, x) or (frame, y, x), not negative.
        mask: of the target, bool, the same axes at any resolution; neither empty nor full.

    Returns:
        The measures of :data:`MAP_MEASURES`: ``average_precision``, ``point_accuracy`` (0 or 1: the middle of the
        hottest token), ``background_ratio`` (see :mod:`~refam_analysis.analysis.localisation`), ``peak_to_mean``;
        and of the clusters of :func:`background_clusters` their number, ``background_cluster_size`` (mean, in image
        tokens; NaN where there is none) and ``background_largest_share`` (of the hot tokens off the target, those in
        the largest cluster; NaN where there is none).

    Raises:
        MapError, MaskError: see there.
    """
    sizes = background_clusters(heatmap, mask)
    some = len(sizes) > 0
    values = (
        average_precision(heatmap, mask),
        float(peak_inside(heatmap, mask)),
        background_ratio(heatmap, mask),
        peak_to_mean(heatmap),
        float(len(sizes)),
        float(sizes.mean()) if some else float("nan"),
        float(sizes[0] / sizes.sum()) if some else float("nan"),
    )
    return dict(zip(MAP_MEASURES, values, strict=True))


def sharpness_of(
    recording: Recording,
    mask: ArrayLike,
    *,
    direction: Direction = "image_to_text",
    normalisation: Normalisation = "none",
    kinds: Sequence[str] = ("content",),
) -> xr.DataArray:
    """The measures of one scene's content map, block by block.

    Args:
        recording: with ``direction`` kept.
        mask: of the target, bool.
        direction, normalisation, kinds: see :func:`~refam_analysis.analysis.localisation.content_maps`.

    Returns:
        Axes (block, measure), with the measures of :data:`MAP_MEASURES`.

    Raises:
        MapError, MaskError: see :func:`map_measures`.
    """
    maps = content_maps(recording, direction=direction, normalisation=normalisation, kinds=kinds)
    values = [list(map_measures(heatmap, mask).values()) for heatmap in maps.values]
    coords = {"block": block_numbers(maps), "measure": list(MAP_MEASURES)}
    return xr.DataArray(values, dims=("block", "measure"), coords=coords)


def sharpness_changed(
    without: Recording | Iterable[Recording],
    with_magnets: Recording | Iterable[Recording],
    masks: Iterable[ArrayLike],
    *,
    direction: Direction = "image_to_text",
    normalisation: Normalisation = "none",
    kinds: Sequence[str] = ("content",),
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """What appended magnets change in each block's content map, paired over scenes.

    Args:
        without: one a scene.
        with_magnets: the same scenes in the same order.
        masks: the target's mask of each.
        direction, normalisation, kinds: see :func:`~refam_analysis.analysis.localisation.content_maps`.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random sign flips over scenes.
        seed: of draws and flips.

    Returns:
        A row a (block, measure): ``block``, ``measure`` of :data:`MAP_MEASURES`, and the columns of
        :func:`~refam_analysis.analysis.paired.paired_changes`.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: not the same blocks.
        MapError, MaskError: see :func:`map_measures`.
        ValueError: not as many recordings or masks.
    """
    chosen: dict[str, Any] = {"direction": direction, "normalisation": normalisation, "kinds": kinds}
    blocks: list[int] | None = None
    pairs: list[list[Floats]] = []
    for first, second, mask in zip(each_recording(without), each_recording(with_magnets), masks, strict=True):
        each = [sharpness_of(recording, mask, **chosen) for recording in (first, second)]
        for measured in each:
            blocks = same_blocks(blocks, block_numbers(measured))
        pairs.append([measured.values.ravel() for measured in each])
    before, after = (np.stack([pair[index] for pair in pairs]) for index in (0, 1))
    rows = pd.MultiIndex.from_product([blocks or [], MAP_MEASURES], names=["block", "measure"]).to_frame(index=False)
    options: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "flips": flips, "seed": seed}
    return paired_changes(before, after, rows, **options)


def scene_changes(
    without: Recording,
    with_magnets: Recording,
    target: ArrayLike,
    *,
    regions: xr.DataArray | None = None,
    direction: Direction = "image_to_text",
    normalisation: Normalisation = "none",
) -> pd.DataFrame:
    """One scene's values without magnets and with them, a row a measure: what a test over scenes pairs.

    Args:
        without: the scene without magnets, with ``direction`` and received mass kept.
        with_magnets: the same with magnets, with the same noise.
        target: mask of the object that the sentence means, bool.
        regions: of the picture; with them also what magnets take of the attention of each region, for which
            ``image_to_text`` is needed.
        direction, normalisation: of the content maps, see :func:`~refam_analysis.analysis.localisation.content_maps`.

    Returns:
        Index ``measure``; columns ``without``, ``with_magnets``, ``change``. The measures are those of
        :data:`MAP_MEASURES`, of the content map averaged over blocks; ``mass_<kind>_from_<side>`` for each kind of
        token and each side that the model has, mean over blocks (see
        :func:`~refam_analysis.analysis.magnets.mass_shares`); and ``magnets_from_<region>``.

    Raises:
        RecordingsDifferError: not the same blocks.
        QuantityMissingError, MapError, MaskError: see the functions named above.

    >>> import refam_analysis as ra
    >>> model, sample = ra.load_model("embedded"), ra.Scenes("test")[0]
    >>> sentence = sample.expressions[0].text
    >>> without = ra.record(model, sample.image, sentence)
    >>> with_magnets = ra.record(model, sample.image, sentence, magnets=ra.DEFAULT_MAGNETS)
    >>> table = scene_changes(without, with_magnets, sample.masks[0])
    >>> table.columns.tolist(), float(table.loc["mass_magnet_from_image", "without"])
    (['without', 'with_magnets', 'change'], 0.0)
    """
    columns: dict[str, dict[str, float]] = {}
    blocks: list[int] | None = None
    for name, recording in (("without", without), ("with_magnets", with_magnets)):
        maps = content_maps(recording, direction=direction, normalisation=normalisation)
        blocks = same_blocks(blocks, block_numbers(maps))
        columns[name] = map_measures(maps.mean("block").values, target)
        for side in query_sides(recording):
            shares = mass_shares(recording, from_queries=side).mean("block")
            columns[name] |= {f"mass_{kind}_from_{side}": float(shares.sel(kind=kind)) for kind in KINDS}
        if regions is not None:
            taken = magnet_shares_of(recording, regions).sel(magnet=ALL_MAGNETS).mean("block")
            columns[name] |= {f"magnets_from_{region}": float(taken.sel(queries=region)) for region in REGIONS}
    table = pd.DataFrame(columns).rename_axis("measure")
    return table.assign(change=table["with_magnets"] - table["without"])
