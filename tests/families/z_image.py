"""Z-Image: image first, then text, each filled up to a multiple of 32; a refiner mixes the text before block 0."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

from families.case import FamilyCase, add_at, randomise
from families.chat import tiny_qwen3, tiny_qwen_tokenizer
from families.parts import tiny_autoencoder


def build() -> ZImagePipeline:
    torch.manual_seed(0)
    tokenizer = tiny_qwen_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=3, n_refiner_layers=2, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[4, 6, 6], axes_lens=[256, 32, 32],
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    encoder = tiny_qwen3(tokenizer, layers=3)
    return randomise(ZImagePipeline(scheduler, tiny_autoencoder("kl"), encoder, tokenizer, transformer), std=0.2)


def filled_ids(seen: list[torch.Tensor], item: int) -> list[int]:
    """Without the encoder's padding, filled up to a multiple of 32."""
    padding = tiny_qwen_tokenizer().pad_token_id
    own = [number for number in seen[0][item].tolist() if number != padding]
    return own + [padding] * (-len(own) % 32)


CASE = FamilyCase(
    name="z_image",
    build=build,
    settings={"image_size": (32, 40), "text_length": 80, "steps": 2, "guidance": 4.0},
    blocks=tuple((f"layers.{number}", "transformer") for number in range(3)),
    calls=(("joint",),) * 3,
    grid=(4, 5),
    mark_text=lambda arguments, item, position: add_at(arguments, "cap_feats", item, position),
    encoder_ids=filled_ids,
    pipeline_call={"height": 32, "width": 40, "max_sequence_length": 80, "guidance_scale": 0.0},
    first_level=lambda pipeline: float(pipeline.scheduler.sigmas[0]),
    text_first=False,
    refined=("context_refiner",),
    refiners={
        "context_refiner": ("context_refiner.0", "context_refiner.1"),
        "noise_refiner": ("noise_refiner.0", "noise_refiner.1"),
    },
)
