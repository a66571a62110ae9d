"""FLUX.1: the text stands before the image in one joint sequence, 2 x 2 latents are packed to one token.

T5 gives the text tokens, CLIP a pooled vector that modulates the blocks. The transformer predicts the velocity
noise - image, and its timestep is the noise level itself. Everything here gives the transformer what diffusers'
FluxPipeline gives it; the tests compare with the pipeline's own call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline

from refam_analysis.models.base import Batched, Conditioning, DiffusionModel
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.layout import TokenLayout, text_then_image
from refam_analysis.models.schedules import FlowSchedule, Schedule
from refam_analysis.prompts import Prompt, Token, align_tokens

PACKING = 2
"""Latents a side that make one token."""


class FluxModel(DiffusionModel):
    """A FLUX.1 pipeline, distilled with guidance (dev) or without (schnell, and the embedded model)."""

    family: ClassVar[Family] = Family(
        name="flux",
        transformer_class="FluxTransformer2DModel",
    )

    parts: ClassVar[tuple[str, ...]] = (*DiffusionModel.parts, "text_encoder_2", "tokenizer_2")
    packing: ClassVar[int | None] = PACKING

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published for FLUX.1-dev where the transformer embeds guidance, for FLUX.1-schnell where it does not."""
        side = pipeline.default_sample_size * pipeline.vae_scale_factor
        if pipeline.transformer.config.guidance_embeds:
            return ModelDefaults(image_size=(side, side), text_length=512, steps=28, guidance=3.5)
        return ModelDefaults(image_size=(side, side), text_length=256, steps=4, guidance=1.0)

    @property
    def schedule(self) -> Schedule:
        """The timestep is the noise level itself."""
        return FlowSchedule()

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """T5's tokens. The prompt must fit CLIP's length (77) too, or the pooled vector would see it cut."""
        clip_length = self.pipeline.tokenizer_max_length
        align_tokens(prompt, self.pipeline.tokenizer, length=clip_length, encoder="clip")
        return align_tokens(prompt, self.pipeline.tokenizer_2, length=self.text_length, encoder="t5")

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """T5's states as ``encoder_hidden_states``, CLIP's vector as ``pooled_projections``; padding is not masked."""
        states, pooled, _ = self.pipeline.encode_prompt(list(texts), None, max_sequence_length=self.text_length)
        return {"encoder_hidden_states": states.to(self.dtype), "pooled_projections": pooled.to(self.dtype)}

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what FluxPipeline decodes: (latents - shift) * scaling.

        Of a variational autoencoder the mean is taken, so nothing is random. AutoencoderTiny's own mapping to [0, 1]
        is for storage; neither the pipeline nor we apply it.
        """
        vae = self.pipeline.vae
        encoded = vae.encode(pixels.to(self.device, vae.dtype))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        shift, scaling = vae.config.shift_factor or 0.0, vae.config.scaling_factor
        return ((latents - shift) * scaling).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """Text, then image; the same for every item, since padding takes part."""
        height, width = (side // PACKING for side in latents.shape[2:])
        return (text_then_image(self.text_length, (height, width)),) * len(latents)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """Packed latents, the timestep, and the positions for the rotary embedding."""
        batch, (height, width) = len(mixture), (side // PACKING for side in mixture.shape[2:])
        guidance = torch.full((batch,), self.defaults.guidance, device=mixture.device)
        timestep = torch.full((batch,), 1000 * self.schedule.timestep(noise_level), device=mixture.device)
        return {
            "hidden_states": pack_latents(mixture),
            # Rounded as the pipeline rounds it: thousandths in the model's dtype.
            "timestep": timestep.to(self.dtype) / 1000,
            "img_ids": image_ids(height, width).to(mixture.device, self.dtype),
            "txt_ids": torch.zeros(self.text_length, 3, device=mixture.device, dtype=self.dtype),
            "guidance": guidance if self.pipeline.transformer.config.guidance_embeds else None,
            "return_dict": False,
            **inputs,
        }

    def predicted(self, output: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
        """Tokens unpacked to latents."""
        return unpack_latents(output, mixture.shape)

    def call_options(self, text: str, steps: int, guidance: float) -> dict[str, Any]:
        """A model with embedded guidance is told its strength; any other is guided against the empty prompt."""
        if self.pipeline.transformer.config.guidance_embeds:
            return {"guidance_scale": guidance}
        return {"true_cfg_scale": guidance, "negative_prompt": ""}


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


def unpack_latents(tokens: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The inverse of :func:`pack_latents`.

    Args:
        tokens: axes (batch, token, 4 x channel).
        shape: of the latents, (batch, channel, y, x).

    >>> latents = torch.arange(16.0).view(1, 2, 2, 4)
    >>> torch.equal(unpack_latents(pack_latents(latents), latents.shape), latents)
    True
    """
    batch, channels, height, width = shape
    grid = (batch, height // PACKING, width // PACKING, channels, PACKING, PACKING)
    return tokens.reshape(grid).permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, height, width)


def image_ids(height: int, width: int) -> torch.Tensor:
    """Positions (0, y, x) of the image tokens, axes (token, 3), for the rotary embedding.

    >>> image_ids(1, 2).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((torch.zeros_like(y), y, x), dim=-1).flatten(0, 1).float()
