"""Sana: linear attention in the image, cross-attention to Gemma's tokens behind an instruction."""

from __future__ import annotations

import string
from collections.abc import Sequence

import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel
from diffusers import SchedulerMixin as Scheduler
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

from families.case import FamilyCase, add_at, randomise
from families.parts import WORDS

TEXT_LENGTH = 20


def tiny_gemma_tokenizer(*, joins: bool = True, words: Sequence[str] = WORDS) -> GemmaTokenizer:
    """Letters, which it joins to a known word and the space before it, as the real one does, or leaves apart."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = ["▁", "\n", *string.printable.strip()]
    merges = list(dict.fromkeys((f"▁{word[:i]}", word[i]) for word in words for i in range(len(word))))
    pieces = [*special, *letters, *(left + right for left, right in merges)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return GemmaTokenizer(vocabulary, merges if joins else [], add_bos_token=True, model_max_length=8192)


def tiny_deep_autoencoder() -> AutoencoderDC:
    """Four latent channels at an eighth of the resolution."""
    widths, layers, no_attention = (8, 8, 8, 8), (1, 1, 1, 1), ((),) * 4
    return AutoencoderDC(
        latent_channels=4, encoder_block_out_channels=widths, decoder_block_out_channels=widths,
        encoder_layers_per_block=layers, decoder_layers_per_block=layers, encoder_qkv_multiscales=no_attention,
        decoder_qkv_multiscales=no_attention, scaling_factor=0.41,
    )  # fmt: skip


def build(
    scheduler: Scheduler | None = None,
    kind: type = SanaPipeline,
    *,
    joins: bool = True,
    guidance: bool = False,
    qk_norm: str | None = None,
    timestep_scale: float = 1.0,
) -> SanaPipeline:
    """Six heads of self-attention and three of cross-attention, so that they are not mistaken for each other."""
    tokenizer = tiny_gemma_tokenizer(joins=joins)
    gemma = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=12, query_pre_attn_scalar=12, max_position_embeddings=4096, sliding_window=4096,
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=6, attention_head_dim=8, num_layers=2,
        num_cross_attention_heads=3, cross_attention_head_dim=16, cross_attention_dim=48, caption_channels=24,
        sample_size=8, qk_norm=qk_norm, guidance_embeds=guidance, timestep_scale=timestep_scale,
    )  # fmt: skip
    scheduler = scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0)
    parts = tokenizer, Gemma2Model(gemma), tiny_deep_autoencoder(), transformer, scheduler
    return randomise(kind(*parts), std=0.12)


def kept_ids(seen: list[torch.Tensor], item: int) -> list[int]:
    """Prompts are encoded one by one; of all tokens the first and the last are kept."""
    ids = seen[item][0].tolist()
    return [ids[0], *ids[1 - TEXT_LENGTH :]]


CASE = FamilyCase(
    name="sana",
    build=build,
    settings={"image_size": (32, 64), "text_length": TEXT_LENGTH, "steps": 2, "guidance": 4.5},
    blocks=(("transformer_blocks.0", "transformer"), ("transformer_blocks.1", "transformer")),
    calls=(("text",),) * 2,
    grid=(4, 8),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=kept_ids,
    pipeline_call={
        "height": 32, "width": 64, "max_sequence_length": TEXT_LENGTH, "guidance_scale": 1.0,
        "use_resolution_binning": False,
    },
    first_level=lambda pipeline: float(pipeline.scheduler.sigmas[0]),
)  # fmt: skip
