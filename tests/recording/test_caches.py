"""Caches of earlier steps and skipped layers: where a block's attention does not run, the recorder refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXTransformer3DModel,
    FasterCacheConfig,
    FirstBlockCacheConfig,
    FluxTransformer2DModel,
    MagCacheConfig,
    PixArtTransformer2DModel,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)
from diffusers.hooks import LayerSkipConfig, TextKVCacheConfig, apply_layer_skip
from references.recordings import check_recording, recorded

from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording import (
    BatchChangedError,
    MissedAttentionError,
    Recorder,
)

Inputs = Callable[..., dict[str, torch.Tensor]]
Plain = Callable[..., torch.Tensor]

CACHES: dict[str, Any] = {
    "first-block": FirstBlockCacheConfig(threshold=10.0),
    "pyramid": PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    ),
    "magnitude": MagCacheConfig(mag_ratios=[1.0] * 4, num_inference_steps=4, retention_ratio=0.0, threshold=10.0),
    "taylor": TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1),
}


@pytest.mark.parametrize("name", CACHES)
@torch.no_grad()
def test_a_step_that_a_cache_answers_is_refused_and_the_steps_before_are_right(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, name: str
) -> None:
    expected = recorded(transformer, layout, inputs())
    transformer.enable_cache(CACHES[name])
    with Recorder(transformer, layout, keep=["full"]) as recorder, transformer.cache_context("conditional"):
        transformer(**inputs())
        with pytest.raises(MissedAttentionError, match="no skipped layers"):
            for _ in range(3):
                transformer(**inputs())
    assert np.array_equal(recorder.recording()["full"].values, expected)
    transformer.disable_cache()
    assert np.array_equal(recorded(transformer, layout, inputs()), expected)


@torch.no_grad()
def test_a_cache_that_leaves_the_attention_alone_is_recorded(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, plain_attention: Plain
) -> None:
    transformer.enable_cache(TextKVCacheConfig())
    with transformer.cache_context("conditional"):
        check_recording(transformer, transformer, layout, inputs(), plain_attention, passes=3)


def cogvideox() -> tuple[CogVideoXTransformer3DModel, TokenLayout, dict[str, Any]]:
    """A small_transformer video transformer and two items for it, unconditional and conditional."""
    torch.manual_seed(0)
    model = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=24, num_layers=2, sample_width=4, sample_height=4, sample_frames=5, max_text_seq_length=3,
    ).eval()  # fmt: skip
    arguments = {
        "hidden_states": torch.randn(2, 2, 4, 4, 4),
        "encoder_hidden_states": torch.randn(2, 3, 24),
        "timestep": torch.tensor([500, 500]),
    }
    return model, TokenLayout(text=slice(0, 3), image=slice(3, 11), grid=(2, 2, 2)), arguments


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@torch.no_grad()
def test_a_cache_that_drops_the_unconditional_half_of_a_batch_is_refused() -> None:
    model, layout, arguments = cogvideox()
    config = FasterCacheConfig(
        unconditional_batch_skip_range=2, unconditional_batch_timestep_skip_range=(-1, 901),
        spatial_attention_timestep_skip_range=(-1, 0), current_timestep_callback=lambda: 500, tensor_format="BFCHW",
        attention_weight_callback=lambda _: 0.5,
    )  # fmt: skip
    model.enable_cache(config)
    with Recorder(model, layout):
        with pytest.raises(BatchChangedError, match="batch size 1"):
            for _ in range(4):
                model(**arguments)


@torch.no_grad()
def test_a_skipped_layer_is_refused() -> None:
    model, layout, arguments = cogvideox()
    apply_layer_skip(model, LayerSkipConfig(indices=[1], fqn="transformer_blocks"))
    with Recorder(model, layout), pytest.raises(MissedAttentionError, match="Block 1 .*made 0"):
        model(**arguments)


@torch.no_grad()
def test_attention_whose_scores_another_mode_skips_is_refused() -> None:
    torch.manual_seed(0)
    model = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, num_layers=2, patch_size=1,
        cross_attention_dim=16, caption_channels=12, sample_size=2, norm_num_groups=2,
    ).eval()  # fmt: skip
    layout = TokenLayout(text=slice(0, 4), image=slice(4, 8), grid=(2, 2), attention="separate")
    arguments = {
        "hidden_states": torch.randn(1, 4, 2, 2),
        "encoder_hidden_states": torch.randn(1, 4, 12),
        "timestep": torch.tensor([500]),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }
    config = LayerSkipConfig(
        indices=[1], fqn="transformer_blocks", skip_attention=False, skip_attention_scores=True, skip_ff=False
    )
    apply_layer_skip(model, config)
    with Recorder(model, layout), pytest.raises(MissedAttentionError, match="Block 1 .*made [01] .*where 2"):
        model(**arguments)


@torch.no_grad()
def test_a_skipped_feed_forward_layer_is_recorded(plain_attention: Plain) -> None:
    model, layout, arguments = cogvideox()
    config = LayerSkipConfig(indices=[1], fqn="transformer_blocks", skip_attention=False)
    apply_layer_skip(model, config)
    check_recording(model, model, layout, arguments | {"return_dict": False}, plain_attention)
