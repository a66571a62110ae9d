"""The arithmetic of heatmaps, on tensors: one implementation for a single sentence and for hundreds of scenes.

All attention comes here in one order of axes, (..., block, head, token, patch), whichever direction it was recorded
in. Everything is linear but the normalisation, which comes first, and the aggregation over words, which comes last;
so the same normalised maps serve any number of choices of blocks and heads. What the axes are called, and which
tokens are read, is decided in :mod:`refam_analysis.segmentation.heatmap`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from refam_analysis.segmentation.settings import UPSAMPLING_FACTOR, Aggregation, Normalisation, Upsampling

_AXIS: dict[Normalisation, int] = {"map": -1, "share": -2}
_SMALLEST = 1e-30
"""Stands for zero under a logarithm; far below any probability that float32 attention holds beside others."""


def normalise(attention: Tensor, normalisation: Normalisation) -> Tensor:
    """Scale attention within each block and head.

    Args:
        attention: (..., token, patch), not negative; every token of the text, read later or not.
        normalisation: see :class:`~refam_analysis.segmentation.settings.HeatmapSettings`.

    Returns:
        The same shape. What sums to zero (a token that nothing attends to) stays zero.

    >>> normalise(torch.tensor([[3.0, 1.0], [1.0, 3.0]]), "share").tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    if normalisation == "raw":
        return attention
    total = attention.sum(_AXIS[normalisation], keepdim=True)
    return attention / total.where(total > 0, torch.ones_like(total))


def average_sites(maps: Tensor, weights: Tensor) -> Tensor:
    """Weighted averages over blocks and heads, one for each choice of them.

    Args:
        maps: (batch, block, head, word, patch); word or token.
        weights: (choice, block, head); each choice sums to 1.

    Returns:
        (batch, choice, word, patch).

    >>> average_sites(torch.arange(4.0).view(1, 2, 2, 1, 1), torch.tensor([[[0.5, 0.5], [0.0, 0.0]]])).flatten()
    tensor([0.5000])
    """
    batch, _, _, *rest = maps.shape
    mixed = weights.flatten(1).to(maps) @ maps.reshape(batch, weights[0].numel(), -1)
    return mixed.reshape(batch, len(weights), *rest)


def average_tokens(maps: Tensor, weights: Tensor) -> Tensor:
    """From tokens to words: every word's map is the mean over its tokens.

    Args:
        maps: (batch, ..., token, patch).
        weights: (batch, word, token); each row sums to 1, or to 0 where an item has fewer words than others.

    Returns:
        (batch, ..., word, patch).

    >>> average_tokens(torch.tensor([[[2.0], [4.0]]]), torch.tensor([[[0.5, 0.5]]])).flatten()
    tensor([3.])
    """
    between = maps.ndim - weights.ndim
    return weights.reshape(weights.shape[0], *[1] * between, *weights.shape[1:]).to(maps) @ maps


def aggregate(words: Tensor, present: Tensor, aggregation: Aggregation) -> Tensor:
    """From words to one map.

    Args:
        words: (..., word, patch).
        present: bool, broadcast to (..., word): which words the item has.
        aggregation: see :class:`~refam_analysis.segmentation.settings.HeatmapSettings`.

    Returns:
        (..., patch): in the unit of ``words`` for the mean; without unit, at most 1, for the product.

    >>> words = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    >>> [round(value, 3) for value in aggregate(words, torch.tensor([True, True]), "product").tolist()]
    [0.0, 0.5, 0.0]
    """
    keep = present[..., None]
    count = keep.sum(-2)
    if aggregation == "mean":
        return torch.where(keep, words, 0.0).sum(-2) / count
    logarithm = normalise(words, "map").clamp_min(_SMALLEST).log()
    return (torch.where(keep, logarithm, 0.0).sum(-2) / count).exp()


def upsample(maps: Tensor, how: Upsampling) -> Tensor:
    """Finer maps, by :data:`~refam_analysis.segmentation.settings.UPSAMPLING_FACTOR` along both axes.

    A patch's value stands at the middle of the patch, and the corners of the picture stay where they are
    (``align_corners=False``), so that a peak's place in shares of the picture means the same before and after. Beyond
    the middles of the outermost patches, values go on as they are at the edge. Where the cubic curve undershoots, it is
    cut at zero: attention is not negative.

    Args:
        maps: (map, y, x), not negative.
        how: see :class:`~refam_analysis.segmentation.settings.HeatmapSettings`.

    Returns:
        (map, y, x), as they are for "none".

    >>> upsample(torch.tensor([[[0.0, 1.0]]]), "bilinear")[0, 0].tolist()
    [0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0]
    """
    if how == "none":
        return maps
    finer = functional.interpolate(maps[:, None], scale_factor=UPSAMPLING_FACTOR, mode=how, align_corners=False)
    return finer[:, 0].clamp_min(0.0)
