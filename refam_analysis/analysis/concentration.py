"""How concentrated a map is, whatever it shows: spatial entropy, Gini coefficient, connected clusters.

A map is (y, x) or (frame, y, x), one number an image token, not negative. None of these measures knows where the object
is: a map may be sharp and wrong. Maps against masks are in `localisation`, tables over scenes in `emergence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.special import entr

from refam_analysis.analysis.localisation import Direction, Normalisation, maps_of_tokens
from refam_analysis.analysis.units import block_numbers
from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]

CLUSTER_THRESHOLD = 2.0
"""A token is hot when its heat is more than this times the map's mean. The mean is what even attention would give, so
twice of it is a preference on any scale; a share of the maximum would follow a single token, and a map with one very
hot patch would seem to have nothing else in it."""

CONCENTRATION = ("spatial_entropy", "normalised_spatial_entropy", "gini", "clusters", "cluster_size", "hot_share")
"""What :func:`concentration_of` measures."""


class MapError(RefamError, ValueError):
    """A map that is negative or not finite, so that it cannot be read as a distribution."""


def spatial_entropy(heatmap: ArrayLike) -> float:
    """Entropy of a map read as a distribution over the image tokens, in nats.

        H = -sum_i p_i log p_i,    p_i = heat_i / sum_j heat_j

    0 when all heat is on one token, log(number of tokens) when it is even.

    Args:
        heatmap: (y, x) or (frame, y, x), not negative.

    Returns:
        Nats; NaN for a map without heat.

    Raises:
        MapError: a map that is negative or not finite.

    Source: Shannon, A Mathematical Theory of Communication, 1948.

    >>> round(spatial_entropy([[1.0, 1.0], [1.0, 1.0]]), 4)
    1.3863
    """
    heat = checked_heat(heatmap)
    total = heat.sum()
    return float(entr(heat / total).sum()) if total > 0 else float("nan")


def gini(heatmap: ArrayLike) -> float:
    """Gini coefficient of a map: how unequally its heat is shared out among the image tokens.

    With the heat of the n tokens in ascending order x_1 ... x_n,

        G = sum_i (2 i - n - 1) x_i / (n sum_i x_i)

    0 when it is even, (n - 1) / n when all is on one token.

    Args:
        heatmap: (y, x) or (frame, y, x), not negative.

    Returns:
        In [0, 1); NaN for a map without heat.

    Raises:
        MapError: a map that is negative or not finite.

    Source: Gini, Variabilità e mutabilità, 1912; the sorted form, e.g. Hurley and Rickard, Comparing measures of
    sparsity, 2009.

    >>> gini([[0.0, 0.0], [0.0, 1.0]])
    0.75
    """
    heat = np.sort(checked_heat(heatmap).ravel())
    total, n = heat.sum(), len(heat)
    return float(np.sum((2 * np.arange(1, n + 1) - n - 1) * heat) / (n * total)) if total > 0 else float("nan")


def clusters(heatmap: ArrayLike, *, threshold: float = CLUSTER_THRESHOLD) -> NDArray[np.intp]:
    """Sizes of the connected clusters of activation.

    Tokens hang together when they share an edge; in a clip also with the token at the same place in the frame before
    and after.

    Args:
        heatmap: (y, x) or (frame, y, x), not negative.
        threshold: a token is hot above this times the mean of the map; see :data:`CLUSTER_THRESHOLD`.

    Returns:
        (clusters,): hot tokens in each, the largest first; empty where no token is hot.

    Raises:
        MapError: a map that is negative or not finite.

    >>> clusters([[9.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 9.0]]).tolist()
    [2, 1]
    """
    heat = checked_heat(heatmap)
    labels, _ = ndimage.label(heat > threshold * heat.mean())
    sizes = np.bincount(labels.ravel())[1:]
    return np.sort(sizes)[::-1]


def concentration_of(
    recording: Recording,
    *,
    direction: Direction = "text_to_image",
    normalisation: Normalisation = "none",
    kinds: Sequence[str] = ("content",),
    threshold: float = CLUSTER_THRESHOLD,
) -> xr.DataArray:
    """How concentrated the maps of one sentence's words are, in every block and at every noise level.

    Each word has a map of its own (its pieces averaged, as are the heads), each map its measures; then the measures
    are averaged over words. So two words that are each sharp at another place count as sharp.

    Args:
        recording: with ``direction`` kept.
        direction: "text_to_image": what a word looks at; "image_to_text": which patches read the word.
        normalisation: see :func:`~refam_analysis.analysis.localisation.content_maps`.
        kinds: of the tokens that take part.
        threshold: of :func:`clusters`.

    Returns:
        Axes (step, block, measure) with the measures of :data:`CONCENTRATION`: ``spatial_entropy`` (nats),
        ``normalised_spatial_entropy`` (divided by log(number of image tokens): 1 is even), ``gini``, ``clusters``
        (number), ``cluster_size`` (mean, in image tokens; NaN without a cluster), ``hot_share`` (of the image tokens,
        those in clusters).

    Raises:
        MaskError: the prompt has no token of these kinds.
        QuantityMissingError: the direction was not kept, or the model does not have it.
    """
    maps = maps_of_words(recording, direction=direction, normalisation=normalisation, kinds=kinds)
    steps, blocks, words = maps.shape[:3]
    each = [_measures(one, threshold) for one in maps.values.reshape(steps * blocks * words, *maps.shape[3:])]
    values = xr.DataArray(
        np.array(each).reshape(steps, blocks, words, len(CONCENTRATION)),
        dims=("step", "block", "word", "measure"),
        coords={
            "step": maps["step"].values,
            "noise_level": ("step", maps["noise_level"].values),
            "block": block_numbers(maps),
            "measure": list(CONCENTRATION),
        },
    )
    return values.mean("word")  # over the words that have the measure: NaN is left out


def spatial_entropy_of(
    recording: Recording,
    direction: Direction = "text_to_image",
    *,
    normalisation: Normalisation = "none",
    kinds: Sequence[str] = ("content",),
) -> xr.DataArray:
    """One scene's normalised spatial entropy of the content words' maps, block by block.

    Args:
        recording: with ``direction`` kept.
        direction: see :func:`concentration_of`.
        normalisation: see :func:`~refam_analysis.analysis.localisation.content_maps`.
        kinds: of the tokens that take part.

    Returns:
        Axes (block), mean over words and steps, in [0, 1]: 1 is even over the picture.

    The errors are those of :func:`concentration_of`.
    """
    found = concentration_of(recording, direction=direction, normalisation=normalisation, kinds=kinds)
    return found.sel(measure="normalised_spatial_entropy", drop=True).mean("step")


def maps_of_words(
    recording: Recording,
    *,
    direction: Direction = "text_to_image",
    normalisation: Normalisation = "none",
    kinds: Sequence[str] = ("content",),
) -> xr.DataArray:
    """The map of each word, in every block and at every noise level: the mean over heads and the word's pieces.

    Args:
        recording: with ``direction`` kept.
        direction: whose attention is read.
        normalisation: see :func:`~refam_analysis.analysis.localisation.content_maps`.
        kinds: of the tokens that take part; a token of no word stands for itself.

    Returns:
        Axes (step, block, word, y, x), with ``frame`` before y for video; ``text`` on ``word`` holds the words.

    Raises:
        MaskError: the prompt has no token of these kinds.
        QuantityMissingError: the direction was not kept, or the model does not have it.
    """
    maps = maps_of_tokens(recording, direction=direction, normalisation=normalisation, kinds=kinds)
    tokens = {token["index"]: token for token in recording.attrs["tokens"]}
    groups: dict[tuple[str, int], list[int]] = {}
    for place, index in enumerate(maps["token"].values.tolist()):
        word = tokens[index]["word_index"] if index in tokens else None
        groups.setdefault(("token", index) if word is None else ("word", word), []).append(place)
    texts = ["" if "text" not in maps.coords else str(maps["text"].values[places[0]]) for places in groups.values()]
    if "word" in maps.coords:
        named = [str(maps["word"].values[places[0]]) for places in groups.values()]
        texts = [word or text for word, text in zip(named, texts, strict=True)]
    values = np.stack([maps.values[:, :, places].mean(axis=2) for places in groups.values()], axis=2)
    kept = {name: maps[name] for name in ("step", "noise_level", "block") if name in maps.coords}
    return xr.DataArray(
        values, dims=("step", "block", "word", *maps.dims[3:]), coords={**kept, "text": ("word", texts)}
    )


def _measures(heatmap: Floats, threshold: float) -> list[float]:
    """The measures of one map, in the order of :data:`CONCENTRATION`."""
    nats, sizes = spatial_entropy(heatmap), clusters(heatmap, threshold=threshold)
    return [
        nats,
        nats / np.log(heatmap.size) if heatmap.size > 1 else float("nan"),
        gini(heatmap),
        float(len(sizes)),
        float(sizes.mean()) if len(sizes) else float("nan"),
        float(sizes.sum()) / heatmap.size,
    ]


def checked_heat(heatmap: ArrayLike) -> Floats:
    """A map as float64, refused where it cannot be read as a distribution.

    Args:
        heatmap: any.

    Raises:
        MapError: it is negative or not finite.
    """
    heat = np.asarray(heatmap, dtype=np.float64)
    if not (np.isfinite(heat).all() and heat.min() >= 0):
        raise MapError(
            f"The map holds values from {heat.min():.3g} to {heat.max():.3g}: concentration is that of a distribution, "
            "so give heat that is finite and not negative."
        )
    return heat
