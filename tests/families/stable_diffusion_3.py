"""Stable Diffusion 3.5: image first, the tokens of CLIP and T5 behind it, two blocks of four with dual attention."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel

from families.case import FamilyCase, add_at, randomise
from families.parts import tiny_autoencoder, tiny_clip_tokenizer, tiny_t5_tokenizer

CLIP_LENGTH, T5_LENGTH = 30, 20


def clip_encoder(tokenizer: CLIPTokenizer, width: int) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=2, projection_dim=16,
            num_attention_heads=2, max_position_embeddings=CLIP_LENGTH, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip


def build(
    *, dual: tuple[int, ...] = (0, 1), qk_norm: str | None = "rms_norm", t5: bool = True, autoencoder: str = "kl"
) -> StableDiffusion3Pipeline:
    """The states of both CLIP encoders together, 16 + 12 wide, are narrower than T5's, as in the published weights."""
    clip, clip_2, t5_tokenizer = tiny_clip_tokenizer(CLIP_LENGTH), tiny_clip_tokenizer(CLIP_LENGTH), tiny_t5_tokenizer()
    clip_2.pad_token = "!"  # as published
    t5_config = T5Config(
        vocab_size=len(t5_tokenizer), d_model=40, d_kv=8, d_ff=32, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    transformer = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=4, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=40, caption_projection_dim=16, pooled_projection_dim=32,
        pos_embed_max_size=12, dual_attention_layers=dual, qk_norm=qk_norm,
    )  # fmt: skip
    pipeline = StableDiffusion3Pipeline(
        transformer, FlowMatchEulerDiscreteScheduler(shift=3.0), tiny_autoencoder(autoencoder),
        clip_encoder(clip, 16), clip, clip_encoder(clip_2, 12), clip_2,
        T5EncoderModel(t5_config) if t5 else None, t5_tokenizer if t5 else None,
    )  # fmt: skip
    return randomise(pipeline)


def clip_and_t5_ids(seen: list[torch.Tensor], item: int) -> list[int]:
    """Asked are CLIP, the other CLIP, then T5; the two CLIP encoders differ in their padding alone."""
    return seen[0][item].tolist() + seen[-1][item].tolist()


CASE = FamilyCase(
    name="stable_diffusion_3",
    build=build,
    settings={"image_size": (32, 40), "text_length": CLIP_LENGTH + T5_LENGTH, "steps": 2, "guidance": 3.5},
    blocks=tuple((f"transformer_blocks.{number}", "transformer") for number in range(4)),
    calls=(("joint", "other"), ("joint", "other"), ("joint",), ("joint",)),
    grid=(4, 5),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=clip_and_t5_ids,
    pipeline_call={"height": 32, "width": 40, "max_sequence_length": T5_LENGTH, "guidance_scale": 1.0},
    first_level=lambda pipeline: float(pipeline.scheduler.sigmas[0]),
    text_first=False,
)
