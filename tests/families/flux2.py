"""FLUX.2: text first with the chat template's tokens and padding, double- and single-stream blocks.

The row of the table is FLUX.2 dev; ``build_klein`` is the other pipeline, which `test_flux2.py` tests.
"""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)

from families.case import FamilyCase, add_at, randomise
from families.chat import spread, tiny_mistral3, tiny_pixtral_processor, tiny_qwen3, tiny_qwen_tokenizer


def autoencoder() -> AutoencoderKLFlux2:
    """A quarter of the resolution; the running statistics are any numbers."""
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=2, sample_size=32,
    )  # fmt: skip
    vae.bn.running_mean.copy_(spread(8, seed=1, low=-0.5))
    vae.bn.running_var.copy_(spread(8, seed=2, low=0.5))
    return vae


def transformer(*, guidance: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=8, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=3 * 16, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), mlp_ratio=2.0,
        guidance_embeds=guidance,
    )  # fmt: skip


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)


def build() -> Flux2Pipeline:
    torch.manual_seed(0)
    processor = tiny_pixtral_processor()
    pipeline = Flux2Pipeline(
        scheduler(), autoencoder(), tiny_mistral3(processor, layers=30), processor, transformer(guidance=True)
    )
    return randomise(pipeline, std=0.2)


def build_klein(*, distilled: bool = False) -> Flux2KleinPipeline:
    torch.manual_seed(0)
    tokenizer = tiny_qwen_tokenizer()
    pipeline = Flux2KleinPipeline(
        scheduler(), autoencoder(), tiny_qwen3(tokenizer, layers=27), tokenizer, transformer(guidance=False),
        is_distilled=distilled,
    )  # fmt: skip
    return randomise(pipeline, std=0.2)


CASE = FamilyCase(
    name="flux2",
    build=build,
    settings={"image_size": (32, 40), "text_length": 160, "steps": 2, "guidance": 3.5},
    blocks=(
        ("transformer_blocks.0", "double"),
        ("transformer_blocks.1", "double"),
        ("single_transformer_blocks.0", "single"),
        ("single_transformer_blocks.1", "single"),
    ),
    calls=(("joint",),) * 4,
    grid=(4, 5),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=lambda seen, item: seen[-1][item].tolist(),
    pipeline_call={"height": 32, "width": 40, "max_sequence_length": 160, "guidance_scale": 3.5},
    first_level=lambda pipeline: float(pipeline.scheduler.sigmas[0]),
)
