"""CogVideoX: text first, joint, padding takes part; two latent frames. Its row is 5b's; 2b and 1.5 differ a little."""

from __future__ import annotations

from typing import Any, Literal

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
from transformers import T5Config, T5EncoderModel

from families.case import FamilyCase, add_at, randomise
from families.parts import tiny_t5_tokenizer

Variant = Literal["2b", "5b", "1.5"]
VARIANTS: dict[Variant, dict[str, Any]] = {
    "2b": {},
    "5b": {"use_rotary_positional_embeddings": True},
    "1.5": {"use_rotary_positional_embeddings": True, "patch_size_t": 2, "patch_bias": False},
}


def build(variant: Variant = "5b") -> CogVideoXPipeline:
    torch.manual_seed(0)
    tokenizer = tiny_t5_tokenizer(length=226)
    t5 = T5Config(
        vocab_size=len(tokenizer), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    autoencoder = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=4,
        scaling_factor=0.7,
    )  # fmt: skip
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=24, num_layers=2, sample_width=8, sample_height=6, sample_frames=9, max_text_seq_length=24,
        **VARIANTS[variant],
    )  # fmt: skip
    scheduler = CogVideoXDDIMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
        snr_shift_scale=1.0, clip_sample=False,
    )  # fmt: skip
    return randomise(CogVideoXPipeline(tokenizer, T5EncoderModel(t5), autoencoder, transformer, scheduler))


CASE = FamilyCase(
    name="cogvideox",
    build=build,
    settings={"image_size": (32, 48), "text_length": 24, "steps": 2, "guidance": 6.0, "frames": 5},
    blocks=(("transformer_blocks.0", "transformer"), ("transformer_blocks.1", "transformer")),
    calls=(("joint",),) * 2,
    grid=(2, 2, 3),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=lambda seen, item: seen[-1][item].tolist(),
    pipeline_call={
        "height": 32, "width": 48, "num_frames": 5, "max_sequence_length": 24, "guidance_scale": 1.0
    },
    first_level=lambda pipeline: 1.0,
    frames=5,
)  # fmt: skip
