"""A deeper transformer that begins as the same function: blocks that add nothing yet, between those of a shallow one.

In half an hour on two cores, twelve blocks that were trained from the beginning learnt little but colours from
captions of rich scenes; six, a little narrower, learnt places and sizes too (chapter 5 of the book). So a deep model
can be grown from a shallow one: blocks that were trained are stacked (Gong et al. 2019, "Efficient training of BERT by
progressively stacking"), and what is added begins as the identity (Chen et al. 2016, "Net2Net").
"""

from __future__ import annotations

import re

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

_BLOCK = re.compile(r"(single_)?transformer_blocks\.(\d+)\.(.+)")
_LAST = re.compile(r"(attn\.to_out\.0|attn\.to_add_out|ff\.net\.2|ff_context\.net\.2|proj_out)\.")
"""Layers that write into the streams; where they give zeros, a block passes on what it is given."""


@torch.no_grad()
def deepened(transformer: FluxTransformer2DModel, *, double: int, single: int) -> FluxTransformer2DModel:
    """The same function in more blocks.

    Every block is followed by the same number of copies of itself whose outputs are zero. Their inner weights are not:
    a step of training changes the outputs, and the next one everything.

    Args:
        transformer: the shallow one; left unchanged.
        double: double-stream blocks of the deep one; a multiple of those that there are.
        single: likewise, of single-stream blocks.

    Returns:
        The deep one, with the weights' own precision; the transformer itself where the numbers are its own.

    Raises:
        ValueError: a number is no multiple.

    >>> sizes = dict(in_channels=4, attention_head_dim=8, num_attention_heads=1, joint_attention_dim=4)
    >>> sizes |= dict(pooled_projection_dim=4, axes_dims_rope=(2, 2, 4))
    >>> shallow = FluxTransformer2DModel(num_layers=1, num_single_layers=2, **sizes)
    >>> len(deepened(shallow, double=2, single=4).single_transformer_blocks)
    4
    """
    own = (transformer.config.num_layers, transformer.config.num_single_layers)
    if (double, single) == own:
        return transformer
    for wanted, there, kind in zip((double, single), own, ("double", "single"), strict=True):
        if wanted % there:
            raise ValueError(f"{there} {kind}-stream blocks cannot become {wanted}: give a multiple of {there}.")
    sizes = {**transformer.config, "num_layers": double, "num_single_layers": single}
    deep = FluxTransformer2DModel.from_config(sizes).to(transformer.dtype)
    times = {None: double // own[0], "single_": single // own[1]}
    weights: dict[str, Tensor] = {}
    for name, value in transformer.state_dict().items():
        if (found := _BLOCK.fullmatch(name)) is None:
            weights[name] = value
            continue
        kind, number, rest = found.groups()
        for copy in range(times[kind]):
            place = int(number) * times[kind] + copy
            silent = copy > 0 and _LAST.match(rest)
            weights[f"{kind or ''}transformer_blocks.{place}.{rest}"] = torch.zeros_like(value) if silent else value
    deep.load_state_dict(weights)
    return deep
