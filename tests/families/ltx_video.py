"""LTX-Video: image tokens attend apart to one another and to the text, whose padding is masked; one latent a token."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel

from families.case import FamilyCase, add_at, randomise
from families.parts import tiny_t5_tokenizer

LATENT_CHANNELS, FRAMES = 8, 9


def tiny_autoencoder() -> AutoencoderKLLTXVideo:
    """Of the real compression, 32 x 32 pixels and 8 frames; every channel has a mean and a deviation of its own."""
    widths, layers = (8, 8, 8, 8), (1, 1, 1, 1, 1)
    autoencoder = AutoencoderKLLTXVideo(
        latent_channels=LATENT_CHANNELS, block_out_channels=widths, decoder_block_out_channels=widths,
        layers_per_block=layers, decoder_layers_per_block=layers, scaling_factor=0.7,
    )  # fmt: skip
    autoencoder.latents_mean.copy_(torch.linspace(-0.4, 0.3, LATENT_CHANNELS))
    autoencoder.latents_std.copy_(torch.linspace(0.5, 1.9, LATENT_CHANNELS))
    return autoencoder


def build(
    pipeline_class: type[LTXPipeline | LTXConditionPipeline] = LTXPipeline, *, shift: bool = True
) -> LTXPipeline | LTXConditionPipeline:
    """The scheduler shifts as the published one does, or not at all."""
    torch.manual_seed(0)
    tokenizer = tiny_t5_tokenizer()
    scheduler = FlowMatchEulerDiscreteScheduler(
        base_image_seq_len=1024, base_shift=0.95, max_shift=2.05, shift_terminal=0.1, use_dynamic_shifting=True
    )
    encoder = T5Config(
        vocab_size=len(tokenizer), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    transformer = LTXVideoTransformer3DModel(
        in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, num_attention_heads=2, attention_head_dim=16,
        cross_attention_dim=32, num_layers=3, caption_channels=24,
    )  # fmt: skip
    pipeline = pipeline_class(
        scheduler if shift else FlowMatchEulerDiscreteScheduler(), tiny_autoencoder(), T5EncoderModel(encoder),
        tokenizer, transformer,
    )  # fmt: skip
    return randomise(pipeline)


CASE = FamilyCase(
    name="ltx_video",
    build=build,
    settings={"image_size": (96, 128), "text_length": 20, "steps": 2, "guidance": 3.0, "frames": FRAMES},
    blocks=tuple((f"transformer_blocks.{number}", "transformer") for number in range(3)),
    calls=(("image", "text"),) * 3,
    grid=(2, 3, 4),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=lambda seen, item: seen[0][item].tolist(),
    pipeline_call={
        "height": 96, "width": 128, "num_frames": FRAMES, "max_sequence_length": 20, "guidance_scale": 1.0
    },
    first_level=lambda pipeline: float(pipeline.scheduler.sigmas[0]),
    frames=FRAMES,
)  # fmt: skip
