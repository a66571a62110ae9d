"""Lumina Image 2.0: text first without padding, behind an instruction; a refiner mixes the text before block 0."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel
from transformers import Gemma2Config, Gemma2Model

from families.case import FamilyCase, add_at, randomise
from families.parts import WORDS
from families.sana import tiny_gemma_tokenizer

INSTRUCTION = (
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment based "
    "on textual prompts or user prompts. <Prompt Start>"
).split()
"""As the pipeline has it; the tokenizer knows its words, so that the text is short."""


def tiny_autoencoder() -> AutoencoderKL:
    """Four latent channels at an eighth of the resolution, which the pipeline takes for granted."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4,
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1, scaling_factor=0.36, shift_factor=0.12,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def build() -> Lumina2Pipeline:
    """Four heads of queries over two of keys."""
    torch.manual_seed(0)
    tokenizer = tiny_gemma_tokenizer(words=(*WORDS, *INSTRUCTION))
    gemma = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=12, query_pre_attn_scalar=12, max_position_embeddings=512, sliding_window=512,
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    transformer = Lumina2Transformer2DModel(
        sample_size=16, in_channels=4, hidden_size=48, num_layers=3, num_refiner_layers=2, num_attention_heads=4,
        num_kv_heads=2, multiple_of=16, axes_dim_rope=(4, 4, 4), axes_lens=(256, 32, 32), cap_feat_dim=24,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=6.0)
    return randomise(
        Lumina2Pipeline(transformer, scheduler, tiny_autoencoder(), Gemma2Model(gemma), tokenizer), std=0.2
    )


def attended_ids(seen: list[torch.Tensor], item: int) -> list[int]:
    """Prompts are encoded one by one; without padding."""
    return [number for number in seen[item][0].tolist() if number != 0]


CASE = FamilyCase(
    name="lumina2",
    build=build,
    settings={"image_size": (64, 80), "text_length": 64, "steps": 2, "guidance": 4.0},
    blocks=tuple((f"layers.{number}", "transformer") for number in range(3)),
    calls=(("joint",),) * 3,
    grid=(4, 5),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=attended_ids,
    # As many as the prompt has: the pipeline pads, and we do not.
    pipeline_call={"height": 64, "width": 80, "max_sequence_length": 37, "guidance_scale": 1.0},
    first_level=lambda pipeline: float(pipeline.scheduler.sigmas[0]),
    refined=("context_refiner",),
    refiners={
        "context_refiner": ("context_refiner.0", "context_refiner.1"),
        "noise_refiner": ("noise_refiner.0", "noise_refiner.1"),
    },
)
