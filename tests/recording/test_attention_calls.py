"""What is read from the arguments of an attention call, what is refused, and what the mode sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from refam_analysis.recording.attention_calls import (
    AttentionCall,
    AttentionMode,
    Plain,
    UnsupportedAttentionError,
    read_call,
)


def heads(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_scale_is_pytorchs_default() -> None:
    assert read_call(heads(1, 2, 3, 16), heads(1, 2, 3, 16), heads(1, 2, 3, 16)).scale == 0.25


@pytest.mark.parametrize(
    ("shapes", "options", "said"),
    [
        (((1, 2, 3, 4),) * 3, {"dropout_p": 0.1}, "drops 0.1"),
        (((2, 3, 4),) * 3, {}, r"\(2, 3, 4\)"),
        (((1, 4, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)), {}, "enable_gqa is False"),
        (((1, 4, 3, 4), (1, 3, 3, 4), (1, 3, 3, 4)), {"enable_gqa": True}, "4 query heads cannot share 3"),
        (((2, 4, 3, 4), (1, 4, 3, 4), (1, 4, 3, 4)), {}, "shapes"),
    ],
    ids=["dropout", "no-head-axis", "no-grouping", "uneven-groups", "broadcast-batch"],
)
def test_what_cannot_be_recorded_is_refused(shapes: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedAttentionError, match=said):
        read_call(*(heads(*shape) for shape in shapes), **options)


def test_a_row_masked_by_a_finite_number_is_refused() -> None:
    mask = torch.zeros(3, 3).index_fill(0, torch.tensor(1), torch.finfo(torch.float32).min)
    call = read_call(heads(1, 2, 3, 4), heads(1, 2, 3, 4), heads(1, 2, 3, 4), mask)
    with pytest.raises(UnsupportedAttentionError, match="Mask with True and False"):
        _ = call.bias


@pytest.mark.parametrize("shape", [(5, 5), (1, 1, 5), (2, 1, 1, 5)], ids=str)
def test_a_bool_mask_becomes_a_bias_of_zero_and_minus_infinity(shape: tuple[int, ...]) -> None:
    allowed = heads(*shape) > 0
    bias = read_call(heads(2, 3, 5, 4), heads(2, 3, 5, 4), heads(2, 3, 5, 4), allowed).bias
    assert bias is not None and bias.ndim == 4
    assert torch.equal(bias == 0, allowed.reshape(bias.shape))
    assert torch.equal(bias == -torch.inf, ~allowed.reshape(bias.shape))


def test_the_answer_decides_the_output() -> None:
    def answer(call: AttentionCall, plain: Plain) -> torch.Tensor:
        return plain() + 1

    query = heads(1, 2, 3, 4)
    expected = functional.scaled_dot_product_attention(query, query, query) + 1
    with AttentionMode(answer, listening=lambda: True):
        found = functional.scaled_dot_product_attention(query, key=query, value=query)
    assert torch.equal(found, expected)


def test_nothing_is_seen_while_it_does_not_listen() -> None:
    def answer(call: AttentionCall, plain: Plain) -> torch.Tensor:
        raise AssertionError("seen")

    query = heads(1, 2, 3, 4)
    with AttentionMode(answer, listening=lambda: False):
        functional.scaled_dot_product_attention(query, query, query)
    functional.scaled_dot_product_attention(query, query, query)
