"""Mochi: image first, an attention call an item, the prompt's own tokens alone; two latent frames."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel
from transformers import T5Config, T5EncoderModel

from families.case import FamilyCase, add_at, randomise
from families.parts import tiny_t5_tokenizer


def build(*, hide_empty_prompts: bool = False) -> MochiPipeline:
    torch.manual_seed(0)
    tokenizer = tiny_t5_tokenizer(length=256)
    t5 = T5Config(
        vocab_size=len(tokenizer), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    autoencoder = AutoencoderKLMochi(
        encoder_block_out_channels=(32, 32, 32, 32), decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1), add_attention_block=(False, False, False, True, True), scaling_factor=0.8,
    )  # fmt: skip
    transformer = MochiTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=3, pooled_projection_dim=16, text_embed_dim=24,
        time_embed_dim=8,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    pipeline = MochiPipeline(
        scheduler, autoencoder, T5EncoderModel(t5), tokenizer, transformer,
        force_zeros_for_empty_prompt=hide_empty_prompts,
    )  # fmt: skip
    return randomise(pipeline)


def own_ids(seen: list[torch.Tensor], item: int) -> list[int]:
    """Without the padding, whose id is 0."""
    return [number for number in seen[-1][item].tolist() if number]


CASE = FamilyCase(
    name="mochi",
    build=build,
    settings={"image_size": (32, 48), "text_length": 24, "steps": 2, "guidance": 4.5, "frames": 7},
    blocks=tuple((f"transformer_blocks.{number}", "transformer") for number in range(3)),
    calls=(("joint",),) * 3,
    grid=(2, 2, 3),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=own_ids,
    pipeline_call={
        "height": 32, "width": 48, "num_frames": 7, "max_sequence_length": 24, "guidance_scale": 1.0
    },
    first_level=lambda pipeline: 1.0 - float(pipeline.scheduler.sigmas[0]),
    frames=7,
    text_first=False,
)  # fmt: skip
