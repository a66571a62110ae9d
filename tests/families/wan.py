"""Wan: image and text attended to apart, zeros behind the prompt; two latent frames. Its row is 2.1's."""

from __future__ import annotations

from typing import Literal

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import UMT5Config, UMT5EncoderModel

from families.case import FamilyCase, add_at, randomise
from families.parts import tiny_t5_tokenizer

Variant = Literal["2.1", "2.2-A14B", "2.2-5B"]


def transformer(*, channels: int = 16, out_channels: int = 16, image_width: int | None = None) -> WanTransformer3DModel:
    """Two blocks; with a third attention call in each where there is an image embedding."""
    torch.manual_seed(0)
    return WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=channels, out_channels=out_channels, text_dim=24,
        freq_dim=16, ffn_dim=32, num_layers=2, rope_max_seq_len=32, image_dim=image_width,
        added_kv_proj_dim=None if image_width is None else 24,
    )  # fmt: skip


def autoencoder(variant: Variant) -> AutoencoderKLWan:
    """Of 8 pixels a latent; that of 2.2 5B of 16, since it cuts the picture into patches first."""
    if variant != "2.2-5B":
        return AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    return AutoencoderKLWan(
        base_dim=4, decoder_base_dim=4, z_dim=8, dim_mult=[1, 2, 2, 2], num_res_blocks=1, in_channels=12,
        out_channels=12, patch_size=2, is_residual=True, scale_factor_spatial=16,
        latents_mean=torch.linspace(-0.4, 0.3, 8).tolist(), latents_std=torch.linspace(0.5, 1.9, 8).tolist(),
    )  # fmt: skip


def build(variant: Variant = "2.1", *, euler: bool = False) -> WanPipeline:
    """2.2 A14B has a second transformer, 2.2 5B a timestep a token.

    The published models come with steps of higher order (UniPC), whose timesteps are whole numbers; the pipeline takes
    Euler's as well.
    """
    torch.manual_seed(0)
    tokenizer = tiny_t5_tokenizer()
    umt5 = UMT5Config(
        vocab_size=len(tokenizer), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    channels = 8 if variant == "2.2-5B" else 16
    first = transformer(channels=channels, out_channels=channels)
    pipeline = WanPipeline(
        tokenizer, UMT5EncoderModel(umt5), autoencoder(variant),
        FlowMatchEulerDiscreteScheduler(shift=3.0) if euler else scheduler, first,
        transformer_2=transformer() if variant == "2.2-A14B" else None,
        boundary_ratio=0.875 if variant == "2.2-A14B" else None, expand_timesteps=variant == "2.2-5B",
    )  # fmt: skip
    return randomise(pipeline)


CASE = FamilyCase(
    name="wan",
    build=build,
    settings={"image_size": (32, 48), "text_length": 24, "steps": 2, "guidance": 5.0, "frames": 5},
    blocks=(("blocks.0", "transformer"), ("blocks.1", "transformer")),
    calls=(("image", "text"),) * 2,
    grid=(2, 2, 3),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=lambda seen, item: seen[-1][item].tolist(),
    pipeline_call={
        "height": 32, "width": 48, "num_frames": 5, "max_sequence_length": 24, "guidance_scale": 1.0
    },
    # The scheduler cuts its timesteps to whole numbers.
    first_level=lambda pipeline: float(pipeline.scheduler.timesteps[0]) / 1000,
    frames=5,
)  # fmt: skip
