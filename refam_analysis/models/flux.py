"""FLUX.1: the text stands before the image in one joint sequence, 2 x 2 latents are packed to one token.

T5 gives the text tokens, CLIP a pooled vector that modulates the blocks. The transformer predicts the velocity
noise - image, and its timestep is the noise level itself. Everything here gives the transformer what diffusers'
FluxPipeline gives it; the tests compare with the pipeline's own call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from refam_analysis.errors import RefamError
from refam_analysis.models.base import (
    BatchError,
    Conditioning,
    DiffusionModel,
    Family,
    ForwardInputs,
    ModelDefaults,
    add_noise,
)
from refam_analysis.models.images import ImageSource
from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts import Prompt, Token, align_tokens, make_prompt

PACKING = 2
"""Latents a side that make one token."""


class MissingPartError(RefamError, ValueError):
    """A live pipeline was made without a part that is needed."""

    def __init__(self, part: str) -> None:
        super().__init__(f"The pipeline has no {part}. Load it with all its parts.")


class FluxModel(DiffusionModel):
    """A FLUX.1 pipeline, distilled with guidance (dev) or without (schnell, and the embedded model)."""

    family: ClassVar[Family] = Family(
        name="flux",
        transformer_class="FluxTransformer2DModel",
        block_lists=(("transformer_blocks", "double"), ("single_transformer_blocks", "single")),
    )

    def __init__(
        self, pipeline: DiffusionPipeline, defaults: ModelDefaults, *, name: str, revision: str | None = None
    ) -> None:
        for part in ("transformer", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "scheduler"):
            if getattr(pipeline, part, None) is None:
                raise MissingPartError(part)
        super().__init__(pipeline, defaults, name=name, revision=revision)

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published for FLUX.1-dev where the transformer embeds guidance, for FLUX.1-schnell where it does not."""
        side = pipeline.default_sample_size * pipeline.vae_scale_factor
        if pipeline.transformer.config.guidance_embeds:
            return ModelDefaults(image_size=(side, side), text_length=512, steps=28, guidance=3.5)
        return ModelDefaults(image_size=(side, side), text_length=256, steps=4, guidance=1.0)

    @property
    def pixels_per_token(self) -> int:
        """Side of the square of pixels that one image token stands for: 16 in FLUX.1, 8 in the embedded model."""
        return int(self.pipeline.vae_scale_factor) * PACKING

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """T5's tokens. The prompt must fit CLIP's length (77) too, or the pooled vector would see it cut."""
        clip_length = self.pipeline.tokenizer_max_length
        align_tokens(prompt, self.pipeline.tokenizer, length=clip_length, encoder="clip")
        return align_tokens(prompt, self.pipeline.tokenizer_2, length=self.text_length, encoder="t5")

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[Prompt]) -> Conditioning:
        """T5's states as ``encoder_hidden_states``, CLIP's vector as ``pooled_projections``; padding is not masked."""
        tokens = tuple(self.tokens(prompt) for prompt in prompts)
        texts = [prompt.text for prompt in prompts]
        states, pooled, text_ids = self.pipeline.encode_prompt(texts, None, max_sequence_length=self.text_length)
        inputs = {
            "encoder_hidden_states": states.to(self.dtype),
            "pooled_projections": pooled.to(self.dtype),
            "txt_ids": text_ids.to(self.dtype),
        }
        return Conditioning(inputs, tokens)

    @torch.no_grad()
    def encode_images(self, images: Sequence[ImageSource], *, size: tuple[int, int] | None = None) -> torch.Tensor:
        """The inverse of what FluxPipeline decodes: (latents - shift) * scaling.

        Of a variational autoencoder the mean is taken, so nothing is random. AutoencoderTiny's own mapping to [0, 1]
        is for storage; neither the pipeline nor we apply it.
        """
        vae = self.pipeline.vae
        encoded = vae.encode(self._pixels(images, size).to(self.device, vae.dtype))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        shift, scaling = vae.config.shift_factor or 0.0, vae.config.scaling_factor
        return ((latents - shift) * scaling).to(self.device, self.dtype)

    def forward_inputs(
        self, latents: torch.Tensor, conditioning: Conditioning, *, noise_level: float, seeds: Sequence[int]
    ) -> ForwardInputs:
        """Packed noised latents, the timestep, and the positions for the rotary embedding."""
        if len(latents) != len(conditioning):
            raise BatchError(images=len(latents), prompts=len(conditioning))
        noised = add_noise(latents.to(self.device, self.dtype), noise_level=noise_level, seeds=seeds)
        batch, (height, width) = len(noised), (side // PACKING for side in noised.shape[2:])
        text_length = conditioning.inputs["encoder_hidden_states"].shape[1]
        layout = TokenLayout(
            text=slice(0, text_length),
            image=slice(text_length, text_length + height * width),
            grid=(height, width),
        )
        guidance = torch.full((batch,), self.defaults.guidance, device=self.device)
        kwargs = {
            "hidden_states": pack_latents(noised),
            # Rounded as the pipeline rounds it: thousandths in the model's dtype.
            "timestep": torch.full((batch,), noise_level * 1000, device=self.device).to(self.dtype) / 1000,
            "img_ids": image_ids(height, width).to(self.device, self.dtype),
            "guidance": guidance if self.pipeline.transformer.config.guidance_embeds else None,
            "return_dict": False,
            **conditioning.inputs,
        }
        return ForwardInputs(kwargs, layout, noise_level)

    def generate(
        self, prompt: str, *, seed: int = 0, steps: int | None = None, guidance: float | None = None
    ) -> Image.Image:
        """FluxPipeline's own call, at the model's own size and prompt length.

        A model with embedded guidance is told its strength; any other is guided against the empty prompt.
        """
        if prompt.strip():
            self.tokens(make_prompt(prompt))
        guidance = self.defaults.guidance if guidance is None else guidance
        embedded = self.pipeline.transformer.config.guidance_embeds
        contrast = {"guidance_scale": guidance} if embedded else {"true_cfg_scale": guidance, "negative_prompt": ""}
        height, width = self.default_size
        drawn = self.pipeline(
            prompt=prompt, height=height, width=width, num_inference_steps=steps or self.defaults.steps,
            max_sequence_length=self.text_length, generator=torch.Generator().manual_seed(seed), **contrast,
        )  # fmt: skip
        return drawn.images[0]


def pack_latents(latents: torch.Tensor) -> torch.Tensor:
    """Latents to tokens: each 2 x 2 square becomes one, its channels outermost.

    Args:
        latents: axes (batch, channel, y, x), y and x even.

    Returns:
        Axes (batch, token, 4 x channel), tokens in row-major order.

    >>> pack_latents(torch.arange(8.0).view(1, 1, 2, 4)).tolist()
    [[[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]]
    """
    batch, channels, height, width = latents.shape
    squares = latents.view(batch, channels, height // PACKING, PACKING, width // PACKING, PACKING)
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def image_ids(height: int, width: int) -> torch.Tensor:
    """Positions (0, y, x) of the image tokens, axes (token, 3), for the rotary embedding.

    >>> image_ids(1, 2).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((torch.zeros_like(y), y, x), dim=-1).flatten(0, 1).float()
