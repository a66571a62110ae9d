"""The attention after an intervention by its definition: the whole softmax in float64, changed, times the values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

Plain = Callable[..., torch.Tensor]


def changed_attention(
    plain_attention: Plain, operands: dict[str, Any], how: str, keys: Sequence[int], onto: Sequence[int], rows: slice
) -> torch.Tensor:
    """The attention after an intervention, by its definition, in float64."""
    mask = operands.get("attn_mask")
    options = {"scale": operands.get("scale"), "causal": operands.get("is_causal", False)}
    attention = plain_attention(operands["query"], operands["key"], mask=mask, **options)
    if how == "redirect":
        moved = attention[:, :, rows][..., list(keys)].sum(-1, keepdim=True)
        attention[:, :, rows, torch.tensor(list(onto))[:, None]] += (moved / len(onto))[..., None]
    if how != "value":
        index = torch.zeros(attention.shape[-2:], dtype=torch.bool)
        index[rows, list(keys)] = True
        attention = attention.masked_fill(index, 0.0)
    if how == "score":
        total = attention.sum(-1, keepdim=True)
        attention = attention / total.where(total > 0, 1.0)
    return attention


def changed_output(attention: torch.Tensor, value: torch.Tensor, how: str, keys: Sequence[int], rows: slice) -> Any:
    """What it makes of the values: where values are taken away, the keys' part of the sum is left out."""
    value = value.double().repeat_interleave(attention.shape[1] // value.shape[1], dim=1)
    output = attention @ value
    if how == "value":
        output[:, :, rows] -= attention[:, :, rows][..., list(keys)] @ value[:, :, list(keys)]
    return output
