"""HunyuanVideo: image first, double- and single-stream blocks, a refiner before them; padding is masked as keys."""

from __future__ import annotations

import re

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from families.case import FamilyCase, add_at, randomise
from families.parts import WORDS, tiny_clip_tokenizer

FRAMES, TEXT_LENGTH = 5, 28
DROPPED = 95
"""LLaMA's tokens of what the pipeline writes before the prompt, with the token that begins every text."""

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How LLaMA 3 cuts a text before its byte pairs."""

_CONTROL = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<pad>")


def tiny_llama_tokenizer(*, begins: bool = True) -> PreTrainedTokenizerFast:
    """LLaMA 3's with a small vocabulary: whole words of the template and of the scenes, bytes for the rest.

    Args:
        begins: whether every text begins with a special token, as LLaMA's do.
    """
    cut = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_SPLIT), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    texts = [*re.split(r"<\|\w+\|>|\{\}", DEFAULT_PROMPT_TEMPLATE["template"]), *WORDS, *(f" {word}" for word in WORDS)]
    whole = [piece for text in texts for piece, _ in cut.pre_tokenize_str(text)]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *whole]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer, tokenizer.decoder = cut, decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _CONTROL])
    if begins:
        first = _CONTROL[0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, tokenizer.token_to_id(first))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=_CONTROL[0], eos_token=_CONTROL[1], pad_token=_CONTROL[-1]
    )


def tiny_transformer(*, guidance: bool = True, image_condition: str | None = None) -> HunyuanVideoTransformer3DModel:
    """Two blocks of each type, and two that refine the text."""
    channels = 2 * 4 + 1 if image_condition == "latent_concat" else 4
    return HunyuanVideoTransformer3DModel(
        in_channels=channels, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2,
        num_single_layers=2, num_refiner_layers=2, mlp_ratio=2.0, text_embed_dim=24, pooled_projection_dim=16,
        rope_axes_dim=(4, 6, 6), guidance_embeds=guidance, image_condition_type=image_condition,
    )  # fmt: skip


def build(*, guidance: bool = True) -> HunyuanVideoPipeline:
    torch.manual_seed(0)
    llama_tokenizer, clip_tokenizer = tiny_llama_tokenizer(), tiny_clip_tokenizer()
    llama = LlamaConfig(
        vocab_size=len(llama_tokenizer), hidden_size=24, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=3, num_key_value_heads=1, max_position_embeddings=512,
        bos_token_id=llama_tokenizer.bos_token_id, eos_token_id=llama_tokenizer.eos_token_id,
        pad_token_id=llama_tokenizer.pad_token_id,
    )  # fmt: skip
    clip = CLIPTextConfig(
        vocab_size=len(clip_tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=77, bos_token_id=clip_tokenizer.bos_token_id,
        eos_token_id=clip_tokenizer.eos_token_id, projection_dim=16,
    )  # fmt: skip
    autoencoder = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )
    pipeline = HunyuanVideoPipeline(
        LlamaModel(llama), llama_tokenizer, tiny_transformer(guidance=guidance), autoencoder,
        FlowMatchEulerDiscreteScheduler(shift=7.0), CLIPTextModel(clip), clip_tokenizer,
    )  # fmt: skip
    return randomise(pipeline)


def llama_ids(seen: list[torch.Tensor], item: int) -> list[int]:
    """LLaMA is asked first, then CLIP."""
    return seen[0][item, DROPPED:].tolist()


CASE = FamilyCase(
    name="hunyuan_video",
    build=build,
    settings={"image_size": (48, 64), "text_length": TEXT_LENGTH, "steps": 2, "guidance": 6.0, "frames": FRAMES},
    blocks=(
        ("transformer_blocks.0", "double"),
        ("transformer_blocks.1", "double"),
        ("single_transformer_blocks.0", "single"),
        ("single_transformer_blocks.1", "single"),
    ),
    calls=(("joint",),) * 4,
    grid=(2, 3, 4),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=llama_ids,
    pipeline_call={
        "height": 48, "width": 64, "num_frames": FRAMES, "max_sequence_length": TEXT_LENGTH, "guidance_scale": 6.0
    },
    first_level=lambda pipeline: float(pipeline.scheduler.sigmas[0]),
    frames=FRAMES,
    text_first=False,
    refined=("context_embedder",),
    refiners={
        "context_refiner": tuple(f"context_embedder.token_refiner.refiner_blocks.{number}" for number in range(2)),
    },
)  # fmt: skip
