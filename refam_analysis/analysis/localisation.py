"""How well a map finds its object: average precision, point accuracy and background ratio against a mask.

A map is coarse (one number an image token), a mask is fine (one truth value a pixel). Every pixel takes the value
of the token that covers it, so no threshold turns a half-covered token into object or background. Maps and masks
are (y, x), or (frame, y, x). How a mask is made from a map is not in this room; which scenes are asked is the
caller's choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from refam_analysis.analysis.positions import positions
from refam_analysis.analysis.tables import over_scenes
from refam_analysis.analysis.units import block_numbers, each_recording, same_blocks, same_noise_levels
from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]
Direction = Literal["image_to_text", "text_to_image"]
Normalisation = Literal["none", "text_share"]


class MaskError(RefamError, ValueError):
    """A map cannot be judged by the mask that was given with it."""


def average_precision(heatmap: ArrayLike, mask: ArrayLike) -> float:
    """Area under precision against recall as the threshold on the map falls.

    Pixels are sorted by their token's heat; tokens of equal heat fall together. With P and R after each group,

        AP = sum_n (R_n - R_{n-1}) P_n

    1.0 means that every pixel of the object is hotter than every other; a map without information gives about the
    object's share of the picture.

    Args:
        heatmap: (y, x) or (frame, y, x), any real numbers: only their order counts.
        mask: bool, the same axes, at any resolution.

    Returns:
        Average precision in (0, 1].

    Raises:
        MaskError: empty mask, other number of axes, or a map that is not finite.

    Source: Salton and McGill, 1983; the step-wise form without interpolation.

    >>> average_precision([[0.9, 0.1], [0.3, 0.2]], [[True, False], [True, False]])
    1.0
    """
    heat, inside, total = _covered(heatmap, mask)
    values, group = np.unique(-heat, return_inverse=True)
    hits = np.cumsum(np.bincount(group, weights=inside, minlength=len(values)))
    taken = np.cumsum(np.bincount(group, weights=total, minlength=len(values)))
    return float(np.sum(np.diff(hits, prepend=0.0) / hits[-1] * hits / taken))


def peak_inside(heatmap: ArrayLike, mask: ArrayLike) -> bool:
    """Whether the pixel in the middle of the hottest token lies on the object: one scene's point accuracy.

    Of equally hot tokens the first in reading order counts; so a constant map is answered by its corner, not by luck.

    Args:
        heatmap: (y, x) or (frame, y, x).
        mask: bool, the same axes, at any resolution.

    Returns:
        True where it lies on the object.

    Raises:
        MaskError: empty mask, other number of axes, or a map that is not finite.

    >>> peak_inside([[0.1, 0.9]], [[False, True]])
    True
    """
    heat, truth = _checked(heatmap, mask)
    token = np.unravel_index(int(np.argmax(heat)), heat.shape)
    pixel = tuple(
        int((index + 0.5) * pixels / tokens)
        for index, pixels, tokens in zip(token, truth.shape, heat.shape, strict=True)
    )
    return bool(truth[pixel])


def background_ratio(heatmap: ArrayLike, mask: ArrayLike) -> float:
    """Mean heat of a background pixel over mean heat of an object pixel.

    0 means that all heat is on the object, 1 that the map does not tell them apart, more than 1 that it looks away.

    Args:
        heatmap: (y, x) or (frame, y, x), not negative.
        mask: bool, the same axes, at any resolution; neither empty nor full.

    Returns:
        The ratio, no unit; infinite where the object is cold, NaN where all is.

    Raises:
        MaskError: empty or full mask, other number of axes, or a map that is negative or not finite.

    >>> background_ratio([[0.2, 0.8]], [[False, True]])
    0.25
    """
    heat, inside, total = _covered(heatmap, mask)
    if heat.min() < 0:
        raise MaskError(f"A background ratio needs heat that is not negative; the map goes down to {heat.min():.3g}.")
    outside = total - inside
    if outside.sum() == 0:
        raise MaskError("The mask covers the whole picture, so there is no background to compare with.")
    cold = float(np.sum(heat * outside) / outside.sum())
    warm = float(np.sum(heat * inside) / inside.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(cold) / warm)


MEASURES = {"average_precision": average_precision, "point_accuracy": peak_inside, "background_ratio": background_ratio}
"""What :func:`localisation_by_block` measures, by the name of its columns."""


def content_maps(
    recording: Recording,
    *,
    direction: Direction = "image_to_text",
    normalisation: Normalisation = "none",
    kinds: Sequence[str] = ("content",),
) -> xr.DataArray:
    """One map a block: the mean over heads, steps and the tokens of the given kinds.

    Args:
        recording: with ``direction`` kept.
        direction: whose attention is read: "image_to_text": how much each patch looks at the word; "text_to_image":
            how much the word looks at each patch.
        normalisation: "none" takes probabilities as they are; "text_share" divides by the sum over all text tokens,
            which asks of each patch which word it looks at, not how much it looks at the text at all.
        kinds: token kinds that take part; magnets, stop words and padding do not unless asked for.

    Returns:
        Axes (block, y, x), or (block, frame, y, x), float64, not negative.

    Raises:
        MaskError: the prompt has no token of these kinds, or shares are asked of a recording of some words alone.
        QuantityMissingError: the direction was not kept, or the model does not have it.
        RefamError: there is no such normalisation.
    """
    maps = maps_of_tokens(recording, direction=direction, normalisation=normalisation, kinds=kinds)
    return maps.mean(["step", "token"])


def maps_of_tokens(
    recording: Recording,
    *,
    direction: Direction = "image_to_text",
    normalisation: Normalisation = "none",
    kinds: Sequence[str] = ("content",),
) -> xr.DataArray:
    """One map a step, block and token of the given kinds: the mean over heads.

    The arguments and errors are those of :func:`content_maps`.

    Returns:
        Axes (step, block, token, y, x), with ``frame`` before y for video; float64, of the conditional branch.
    """
    if normalisation not in get_args(Normalisation):
        raise RefamError(
            f"normalisation is {normalisation!r}. Choose one of {', '.join(map(repr, get_args(Normalisation)))}."
        )
    every = recording[direction].isel(branch=0)
    if normalisation == "text_share" and every.sizes["token"] != recording.layout.text_length:
        raise MaskError(
            "Shares are among all tokens of the text, and this recording holds only some of its words: take the maps "
            "of the whole recording, or normalisation='none'."
        )
    chosen = positions(every, "token")["kind"].isin(list(kinds)).to_numpy()
    if not chosen.any():
        raise MaskError(f"The prompt has no token of the kinds {', '.join(kinds)}, so there is no map to judge.")
    maps = every.isel(token=np.flatnonzero(chosen)).astype(np.float64)
    if normalisation == "text_share":
        text = every.sum("token", dtype=np.float64)
        maps = (maps / text.where(text > 0)).fillna(0.0)
    return maps.mean("head").transpose("step", "block", "token", ...)


def average_precision_of(
    recording: Recording,
    mask: ArrayLike,
    direction: Direction = "image_to_text",
    normalisation: Normalisation = "none",
    *,
    kinds: Sequence[str] = ("content",),
) -> xr.DataArray:
    """One scene's average precision of each block's content map.

    Args:
        recording: with ``direction`` kept.
        mask: the target's, bool.
        direction: see :func:`content_maps`.
        normalisation: see :func:`content_maps`.
        kinds: see :func:`content_maps`.

    Returns:
        Axes (block), in (0, 1]; about the object's share of the picture where a map says nothing.

    Raises:
        MaskError: see :func:`average_precision` and :func:`content_maps`.
    """
    maps = content_maps(recording, direction=direction, normalisation=normalisation, kinds=kinds)
    values = [average_precision(heatmap, mask) for heatmap in maps.values]
    return xr.DataArray(values, dims=("block",), coords={"block": block_numbers(maps)})


def localisation_by_block(
    recordings: Recording | Iterable[Recording],
    masks: Iterable[ArrayLike],
    *,
    direction: Direction = "image_to_text",
    normalisation: Normalisation = "none",
    kinds: Sequence[str] = ("content",),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How well each block's content map finds the object that the sentence means, over scenes.

    Args:
        recordings: one, or one a scene, read one after the other.
        masks: the target's mask of each, bool, in the same order.
        direction: see :func:`content_maps`.
        normalisation: see :func:`content_maps`.
        kinds: see :func:`content_maps`.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (block, measure): ``block``, ``measure`` (average_precision, point_accuracy, background_ratio),
        ``value`` (mean over scenes), ``low``, ``high``, ``scenes``.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: the recordings are not of the same blocks.
        MaskError: see :func:`average_precision`.
        ValueError: not as many masks as recordings.
    """
    scenes: list[Floats] = []
    blocks: list[int] | None = None
    for recording, mask in zip(each_recording(recordings), masks, strict=True):
        maps = content_maps(recording, direction=direction, normalisation=normalisation, kinds=kinds)
        blocks = same_blocks(blocks, block_numbers(maps))
        scenes.append(np.array([_judged(heatmap, mask) for heatmap in maps.values]))
    rows = pd.MultiIndex.from_product([blocks or [], list(MEASURES)], names=["block", "measure"])
    return over_scenes(scenes, rows, confidence=confidence, resamples=resamples, seed=seed)


def localisation_by_step(
    recordings: Recording | Iterable[Recording],
    masks: Iterable[ArrayLike],
    *,
    direction: Direction = "image_to_text",
    normalisation: Normalisation = "none",
    kinds: Sequence[str] = ("content",),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How well each block's content map finds the object at each noise level, over scenes.

    The arguments and errors are those of :func:`localisation_by_block`, which averages the maps over steps; here every
    step is judged by itself.

    Args:
        recordings: one, or one a scene, read one after the other.
        masks: the target's mask of each, bool, in the same order.
        direction: see :func:`content_maps`.
        normalisation: see :func:`content_maps`.
        kinds: see :func:`content_maps`.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (step, block, measure): ``step``, ``noise_level``, ``block``, ``measure``, ``value``, ``low``, ``high``,
        ``scenes``.

    Raises:
        RecordingsDifferError: the recordings are not of the same blocks and noise levels.
    """
    scenes: list[Floats] = []
    blocks: list[int] | None = None
    levels: tuple[float, ...] | None = None
    for recording, mask in zip(each_recording(recordings), masks, strict=True):
        maps = maps_of_tokens(recording, direction=direction, normalisation=normalisation, kinds=kinds).mean("token")
        blocks = same_blocks(blocks, block_numbers(maps))
        levels = same_noise_levels(levels, recording.noise_levels)
        scenes.append(np.array([[_judged(heatmap, mask) for heatmap in step] for step in maps.values]))
    names = ["step", "block", "measure"]
    rows = pd.MultiIndex.from_product([range(len(levels or ())), blocks or [], list(MEASURES)], names=names)
    table = over_scenes(scenes, rows, confidence=confidence, resamples=resamples, seed=seed)
    table.insert(1, "noise_level", np.array(levels or ())[table["step"].to_numpy()])
    return table


def _judged(heatmap: Floats, mask: ArrayLike) -> list[float]:
    """The measures of one map, in the order of :data:`MEASURES`."""
    return [float(measure(heatmap, mask)) for measure in MEASURES.values()]


def _checked(heatmap: ArrayLike, mask: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    heat = np.asarray(heatmap, dtype=np.float64)
    truth = np.asarray(mask, dtype=bool)
    if heat.ndim != truth.ndim:
        raise MaskError(
            f"The map has the shape {heat.shape}, the mask {truth.shape}: give both (y, x) or both (frame, y, x)."
        )
    if not np.isfinite(heat).all():
        raise MaskError("The map holds NaN or infinity, so it has no order to judge.")
    if not truth.any():
        raise MaskError("The mask is empty: the object is not in the picture, so no map can find it.")
    return heat, truth


def token_of_each_pixel(pixels: Sequence[int], grid: Sequence[int]) -> NDArray[np.intp]:
    """Which image token covers each pixel.

    Args:
        pixels: numbers of pixels along the axes of the picture, or of the clip.
        grid: numbers of image tokens along the same axes.

    Returns:
        (pixels,), indices of tokens, both in reading order. A token finer than a pixel may cover none.

    >>> token_of_each_pixel((1, 4), (1, 2)).tolist()
    [0, 0, 1, 1]
    """
    axes = [((np.arange(of) + 0.5) * tokens / of).astype(int) for of, tokens in zip(pixels, grid, strict=True)]
    return np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), tuple(grid)).ravel()


def _covered(heatmap: ArrayLike, mask: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Of every token: its heat, its object pixels and all its pixels. Tokens finer than pixels cover none or one."""
    heat, truth = _checked(heatmap, mask)
    owner = token_of_each_pixel(truth.shape, heat.shape)
    inside = np.bincount(owner[truth.ravel()], minlength=heat.size).astype(np.float64)
    total = np.bincount(owner, minlength=heat.size).astype(np.float64)
    seen = total > 0
    return heat.ravel()[seen], inside[seen], total[seen]
