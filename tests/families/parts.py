"""Small real parts that several families are built from: tokenizers, text encoders, autoencoders.

Nothing here is downloaded and nothing has learnt anything. The tokenizers know a few words of the scenes and every
printable ASCII character, so that an unknown word falls into pieces, as it does with the real ones.
"""

from __future__ import annotations

import string

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

WORDS = "the a an with and is on of in left right red blue green circle square ring small large one".split()
TINY_IMAGE_SIZE, TINY_TEXT_LENGTH = (32, 40), 24
"""Height and width, and prompt length, of the tiny folder: 4 x 5 image tokens of 8 x 8 pixels, 24 text tokens."""


def tiny_t5_tokenizer(length: int = 512) -> T5Tokenizer:
    """A unigram tokenizer: whole words of the scenes, single characters for the rest, ``<unk>`` beyond ASCII."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [(f"▁{word}", -2.0) for word in WORDS] + [("▁", -3.0)]
    letters = [(letter, -6.0) for letter in string.printable.strip()]
    return T5Tokenizer(vocab=special + pieces + letters, extra_ids=0, model_max_length=length)


def tiny_clip_tokenizer(length: int = 77) -> CLIPTokenizer:
    """A byte-pair tokenizer without merges: a token a letter, so that every word is split."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer({piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=length)


def tiny_autoencoder(kind: str) -> AutoencoderTiny | AutoencoderKL:
    """Four latent channels at a quarter of the resolution."""
    widths = (8, 8, 8)
    if kind == "tiny":
        return AutoencoderTiny(
            encoder_block_out_channels=widths, decoder_block_out_channels=widths, num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1), latent_channels=4, scaling_factor=0.7, shift_factor=0.2,
        )  # fmt: skip
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4,
        block_out_channels=widths, norm_num_groups=4, scaling_factor=0.36, shift_factor=0.12,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def make_tiny_flux(*, autoencoder: str = "tiny", guidance: bool = False) -> FluxPipeline:
    """A FluxPipeline of two double-stream and two single-stream blocks, about 100,000 random weights, seeded."""
    torch.manual_seed(0)
    clip, t5 = tiny_clip_tokenizer(), tiny_t5_tokenizer()
    clip_config = CLIPTextConfig(
        vocab_size=len(clip), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=77, bos_token_id=clip.bos_token_id, eos_token_id=clip.eos_token_id, projection_dim=16,
    )  # fmt: skip
    t5_config = T5Config(
        vocab_size=len(t5), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu"
    )
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=16, guidance_embeds=guidance, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    pipeline = FluxPipeline(
        FlowMatchEulerDiscreteScheduler(), tiny_autoencoder(autoencoder), CLIPTextModel(clip_config), clip,
        T5EncoderModel(t5_config), t5, transformer,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        part.eval()
    return pipeline
