"""The families whose text encoder is a language model: small real parts, and what all of them are compared by.

The tokenizers know every byte and some whole words of the templates, so that a prompt's words fall into pieces. Their
chat templates are written in the manner of the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PixtralImageProcessor,
    PixtralProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from refam_analysis.models import DiffusionModel, ForwardInputs
from refam_analysis.models.schedules import step
from refam_analysis.prompts import Prompt

QWEN_IMAGE_WORDS = (
    "system user assistant Describe Ġthe Ġimage Ġby Ġdetailing Ġcolor Ġshape Ġsize Ġtexture Ġquantity Ġtext Ġspatial "
    "Ġrelationships Ġof Ġobjects Ġand Ġbackground"
).split()
"""Of the template of Qwen-Image, so that its beginning has the 34 tokens that are dropped."""
QWEN_CHAT = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)
MISTRAL_CHAT = (
    "{{- bos_token }}{%- for message in messages %}"
    "{%- if message.role == 'system' %}{{- '[SYSTEM_PROMPT]' + message.content[0].text + '[/SYSTEM_PROMPT]' }}"
    "{%- else %}{{- '[INST]' + message.content[0].text + '[/INST]' }}{%- endif %}{%- endfor %}"
)
MISTRAL_CONTROLS = "[INST] [/INST] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [IMG] [IMG_BREAK] [IMG_END]".split()


def byte_pairs(words: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level vocabulary and its merges: every byte, and these words, put together from their left end."""
    starts = [word[:end] for word in words for end in range(2, len(word) + 1)]
    pieces = list(dict.fromkeys((*sorted(pre_tokenizers.ByteLevel.alphabet()), *starts)))
    merges = list(dict.fromkeys((start[:-1], start[-1]) for start in starts))
    return {piece: number for number, piece in enumerate(pieces)}, merges


def tiny_qwen_tokenizer(words: Sequence[str] = ()) -> Qwen2Tokenizer:
    """Qwen's own class: a token a byte but for some words, ``<|im_start|>`` and the like special, padding behind."""
    vocabulary, merges = byte_pairs(words)
    tokenizer = Qwen2Tokenizer(
        vocabulary, merges, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = QWEN_CHAT
    return tokenizer


def tiny_pixtral_processor() -> PixtralProcessor:
    """Mistral 3's tokenizer in its processor: byte-level, padding on the left, and a first token of its own."""
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    vocabulary, merges = byte_pairs("You Ġare Ġan ĠAI Ġthat Ġreasons Ġabout Ġimage Ġdescriptions".split())
    backend = Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, padding_side="left", additional_special_tokens=MISTRAL_CONTROLS, **names
    )
    first = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[first])
    return PixtralProcessor(PixtralImageProcessor(), tokenizer, chat_template=MISTRAL_CHAT)


def tiny_qwen3(tokenizer: Qwen2Tokenizer, *, layers: int) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def tiny_mistral3(processor: PixtralProcessor, *, layers: int) -> Mistral3ForConditionalGeneration:
    config = Mistral3Config(
        text_config={
            "model_type": "mistral", "vocab_size": len(processor.tokenizer), "hidden_size": 16,
            "intermediate_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": processor.tokenizer.pad_token_id,
        },
        vision_config={
            "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "head_dim": 8, "image_size": 16, "patch_size": 8,
        },
        image_token_index=processor.image_token_id,
    )  # fmt: skip
    return Mistral3ForConditionalGeneration(config)


def tiny_qwen_vl(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    rotary: dict[str, Any] = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "rope_parameters": rotary,
            "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            "patch_size": 4, "window_size": 16,
        },
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config)


def spread(count: int, *, seed: int, low: float) -> torch.Tensor:
    """Random numbers in [low, low + 1), for statistics of autoencoders that must not look like 0 and 1."""
    return low + torch.rand(count, generator=torch.Generator().manual_seed(seed))


def pictures(number: int = 1, size: tuple[int, int] = (32, 40)) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (number, *size, 3), np.uint8)
    return [Image.fromarray(array) for array in pixels]


def inputs_of(
    model: DiffusionModel, prompts: Sequence[Prompt], *, noise_level: float = 0.6, first_seed: int = 0
) -> ForwardInputs:
    latents, seeds = model.encode_images(pictures(len(prompts))), [first_seed + item for item in range(len(prompts))]
    return model.forward_inputs(latents, model.encode_prompts(prompts), noise_level=noise_level, seeds=seeds)


@torch.no_grad()
def euler_step(model: DiffusionModel, inputs: ForwardInputs) -> torch.Tensor:
    """From the noise level of the inputs to the image, by our schedule."""
    output = model.transformer(**inputs.kwargs)[0]
    predicted = model.predicted(output, inputs.mixture)
    return step(model.schedule, inputs.mixture, predicted, noise_level=inputs.noise_level, to=0.0)


@torch.no_grad()
def pipeline_call(model: DiffusionModel, latents: torch.Tensor, noise_level: float, **given: Any) -> dict[str, Any]:
    """One step of the pipeline's own call from given latents: the transformer's arguments, and the latents after."""
    seen: dict[str, Any] = {}

    def note_arguments(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.update(dict(zip(("x", "t", "cap_feats"), args, strict=False)), **kwargs)

    def note_latents(pipeline: Any, number: int, timestep: Any, named: dict[str, torch.Tensor]) -> dict[str, Any]:
        seen["latents"] = named["latents"]
        return {}

    model.pipeline.scheduler = FlowMatchEulerDiscreteScheduler()  # no shift: the step starts where it is told to
    handle = model.transformer.register_forward_pre_hook(note_arguments, with_kwargs=True)
    height, width = model.default_size
    model.pipeline(
        height=height, width=width, sigmas=[noise_level], num_inference_steps=1, latents=latents,
        max_sequence_length=model.text_length, output_type="latent", callback_on_step_end=note_latents, **given,
    )  # fmt: skip
    handle.remove()
    return seen


@torch.no_grad()
def decoded_latents(model: DiffusionModel, latents: torch.Tensor, **given: Any) -> torch.Tensor:
    """What the pipeline gives its autoencoder to decode, of latents that a step of size zero left as they were."""
    seen: list[torch.Tensor] = []
    vae, height, width = model.pipeline.vae, *model.default_size
    model.pipeline.scheduler = FlowMatchEulerDiscreteScheduler()
    first = vae.post_quant_conv or vae.decoder
    handle = first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.pipeline(
        prompt="a", height=height, width=width, sigmas=[0.0], num_inference_steps=1, latents=latents,
        max_sequence_length=model.text_length, **given,
    )  # fmt: skip
    handle.remove()
    return seen[0]


@torch.no_grad()
def encoded_mean(model: DiffusionModel, picture: Image.Image, *, frames: bool = False) -> torch.Tensor:
    """What the autoencoder alone makes of a picture, without any scaling."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    return model.pipeline.vae.encode(pixels[:, :, None] if frames else pixels).latent_dist.mean
