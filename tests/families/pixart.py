"""PixArt-alpha at 1024 pixels: separate attentions, masked padding, the picture's size and shape as conditions."""

from __future__ import annotations

import math

import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
)
from transformers import T5Config, T5EncoderModel

from families.case import FamilyCase, add_at, randomise
from families.parts import tiny_autoencoder, tiny_t5_tokenizer

PixArtPipeline = PixArtAlphaPipeline | PixArtSigmaPipeline


def build(
    kind: type[PixArtPipeline] = PixArtAlphaPipeline, *, sample_size: int = 128, conditions: bool | None = None
) -> PixArtPipeline:
    """With ``sample_size`` 128 an alpha is told the picture's size; a sigma is not."""
    tokenizer = tiny_t5_tokenizer()
    t5_config = T5Config(
        vocab_size=len(tokenizer),
        d_model=24,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=3,
        feed_forward_proj="gated-gelu",
    )
    # A third of the width, 16, is the width of each number of the conditions.
    transformer = PixArtTransformer2DModel(
        num_attention_heads=4, attention_head_dim=12, in_channels=4, out_channels=8, num_layers=2,
        cross_attention_dim=48, caption_channels=24, sample_size=sample_size, use_additional_conditions=conditions,
    )  # fmt: skip
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False)
    return randomise(
        kind(tokenizer, T5EncoderModel(t5_config), tiny_autoencoder("kl"), transformer, scheduler), std=0.12
    )


def t5_ids(seen: list[torch.Tensor], item: int) -> list[int]:
    return seen[0][item].tolist()


def first_level(pipeline: DiffusionPipeline) -> float:
    """The share of noise at the first timestep, which the pipeline has set by then."""
    kept = float(pipeline.scheduler.alphas_cumprod[pipeline.scheduler.timesteps[0]])
    return math.sqrt(1 - kept) / (math.sqrt(kept) + math.sqrt(1 - kept))


CASE = FamilyCase(
    name="pixart",
    build=build,
    settings={"image_size": (32, 40), "text_length": 24, "steps": 2, "guidance": 4.5},
    blocks=(("transformer_blocks.0", "transformer"), ("transformer_blocks.1", "transformer")),
    calls=(("image", "text"),) * 2,
    grid=(4, 5),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=t5_ids,
    pipeline_call={
        "height": 32, "width": 40, "max_sequence_length": 24, "guidance_scale": 1.0, "clean_caption": False,
        "use_resolution_binning": False,
    },
    first_level=first_level,
)  # fmt: skip
