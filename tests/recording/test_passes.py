"""A forward pass that does not show every block once, in order, over the layout's tokens, is an error that names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from torch import nn

from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording import (
    BatchChangedError,
    BlockOrderError,
    LayoutMismatchError,
    MissedAttentionError,
    Recorder,
)

Inputs = Callable[..., dict[str, torch.Tensor]]


@torch.no_grad()
def test_another_batch_size_in_a_later_step_is_refused(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    with Recorder(transformer, layout):
        transformer(**inputs(2))
        with pytest.raises(BatchChangedError, match="batch size 1"):
            transformer(**inputs(1))


class HandmadeProcessor:
    """Computes attention without scaled_dot_product_attention."""

    _attention_backend = _parallel_config = None

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return hidden_states


@torch.no_grad()
def test_a_block_without_a_visible_call_is_named(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    transformer.single_transformer_blocks[1].attn.processor = HandmadeProcessor()
    with Recorder(transformer, layout):
        with pytest.raises(MissedAttentionError, match=r"Block 3 \(single_transformer_blocks\.1\) made 0"):
            transformer(**inputs())


@torch.no_grad()
def test_a_second_call_in_a_block_is_named() -> None:
    model = SD3Transformer2DModel(
        sample_size=4, patch_size=1, num_layers=2, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=8,
        caption_projection_dim=16, pooled_projection_dim=8, in_channels=4, pos_embed_max_size=4,
        dual_attention_layers=(1,),
    )  # fmt: skip
    arguments = {
        "hidden_states": torch.randn(1, 4, 4, 4),
        "encoder_hidden_states": torch.randn(1, 3, 8),
        "pooled_projections": torch.randn(1, 8),
        "timestep": torch.tensor([500.0]),
    }
    layout = TokenLayout(text=slice(16, 19), image=slice(0, 16), grid=(4, 4))
    with Recorder(model, layout, calls=("joint",)):
        with pytest.raises(MissedAttentionError, match="Block 1 .* made 2 attention calls where 1 was expected"):
            model(**arguments)


@torch.no_grad()
def test_a_skipped_block_is_named(transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs) -> None:
    with Recorder(transformer, layout):
        transformer.single_transformer_blocks = transformer.single_transformer_blocks[:2]
        with pytest.raises(MissedAttentionError, match="Block 4"):
            transformer(**inputs())


@torch.no_grad()
def test_blocks_that_run_in_another_order_are_named(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    with Recorder(transformer, layout):
        transformer.single_transformer_blocks = nn.ModuleList(reversed(transformer.single_transformer_blocks))
        with pytest.raises(BlockOrderError, match=r"Block 4 .* where block 2 \("):
            transformer(**inputs())


@pytest.mark.parametrize(
    "wrong",
    [
        TokenLayout(text=slice(0, 4), image=slice(4, 16), grid=(3, 4)),
        TokenLayout(text=slice(0, 6), image=slice(6, 18), grid=(3, 4)),
    ],
    ids=["short", "long"],
)
@torch.no_grad()
def test_a_layout_of_another_length_is_refused(
    transformer: FluxTransformer2DModel, inputs: Inputs, wrong: TokenLayout
) -> None:
    with Recorder(transformer, wrong):
        with pytest.raises(LayoutMismatchError, match="17 queries"):
            transformer(**inputs())
