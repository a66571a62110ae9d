"""Qwen-Image: text first without the template's first tokens, no padding but the masked one of a batch."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)

from families.case import FamilyCase, add_at, randomise
from families.chat import QWEN_IMAGE_WORDS, spread, tiny_qwen_tokenizer, tiny_qwen_vl


def build() -> QwenImagePipeline:
    torch.manual_seed(0)
    tokenizer = tiny_qwen_tokenizer(QWEN_IMAGE_WORDS)
    vae = AutoencoderKLQwenImage(
        base_dim=4, z_dim=4, dim_mult=[1, 2, 2], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=spread(4, seed=1, low=-0.5).tolist(), latents_std=spread(4, seed=2, low=0.5).tolist(),
    )  # fmt: skip
    transformer = QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return randomise(QwenImagePipeline(scheduler, vae, tiny_qwen_vl(tokenizer), tokenizer, transformer), std=0.2)


def prompt_ids(seen: list[torch.Tensor], item: int) -> list[int]:
    """Without padding, and without the 34 tokens of the template that are dropped."""
    padding = tiny_qwen_tokenizer(QWEN_IMAGE_WORDS).pad_token_id
    return [number for number in seen[0][item].tolist() if number != padding][34:]


CASE = FamilyCase(
    name="qwen_image",
    build=build,
    settings={"image_size": (32, 40), "text_length": 64, "steps": 2, "guidance": 3.0},
    blocks=tuple((f"transformer_blocks.{number}", "transformer") for number in range(3)),
    calls=(("joint",),) * 3,
    grid=(4, 5),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=prompt_ids,
    pipeline_call={"height": 32, "width": 40, "max_sequence_length": 64, "true_cfg_scale": 1.0},
    first_level=lambda pipeline: float(pipeline.scheduler.sigmas[0]),
)
