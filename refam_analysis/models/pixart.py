"""PixArt-alpha and PixArt-sigma: image queries attend to the image, then, in a second attention, to T5's tokens.

The schedule is DDPM's: the transformer is told a timestep and predicts the noise, and, in further channels, its
variance. Padding is masked. Everything here gives the transformer what PixArtAlphaPipeline and PixArtSigmaPipeline
give it; the tests compare with the pipelines' own calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, PixArtSigmaPipeline

from refam_analysis.models.base import Batched, Conditioning, DiffusionModel
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.layout import TokenLayout, text_then_image
from refam_analysis.models.schedules import DiffusionSchedule, Schedule
from refam_analysis.prompts import Prompt, Token, align_tokens


class PixArtModel(DiffusionModel):
    """A PixArt-alpha or PixArt-sigma pipeline."""

    family: ClassVar[Family] = Family(
        name="pixart",
        transformer_class="PixArtTransformer2DModel",
        attention="separate",
        remarks=(
            "Padding is masked: no image query attends to it.",
            "Prompts are lower-cased, as the pipelines do, but not cleaned of punctuation, links and marks, which the "
            "pipelines' clean_caption=True would remove: tokens must be found again in the prompt.",
        ),
    )

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published: 120 tokens for alpha, 300 for sigma."""
        side = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
        text_length = 300 if isinstance(pipeline, PixArtSigmaPipeline) else 120
        return ModelDefaults(image_size=(side, side), text_length=text_length, steps=20, guidance=4.5)

    @property
    def schedule(self) -> Schedule:
        """Of the pipeline's scheduler."""
        return DiffusionSchedule.of(self.pipeline.scheduler)

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """T5's tokens of the prompt in lower case."""
        tokenizer = self.pipeline.tokenizer
        return align_tokens(prompt, tokenizer, length=self.text_length, encoder="t5", lower_case=True)

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """T5's states as ``encoder_hidden_states``, and which of them are no padding."""
        states, attended, _, _ = self.pipeline.encode_prompt(
            list(texts), False, clean_caption=False, max_sequence_length=self.text_length
        )
        return {"encoder_hidden_states": states.to(self.dtype), "encoder_attention_mask": attended}

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what the pipelines decode: the autoencoder's mean, scaled."""
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        return (latents * vae.config.scaling_factor).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """The same for every item: masked padding keeps its positions."""
        height, width = (side // self.pipeline.transformer.config.patch_size for side in latents.shape[2:])
        layout = text_then_image(self.text_length, (height, width), self.family.attention)
        return (layout,) * len(latents)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """The latents as they are, the timestep, and for PixArt-alpha at 1024 pixels the picture's size and shape."""
        timestep = torch.full((len(mixture),), self.schedule.timestep(noise_level), device=mixture.device)
        return {
            "hidden_states": mixture,
            "timestep": timestep,
            "added_cond_kwargs": self._size_conditions(mixture),
            "return_dict": False,
            **inputs,
        }

    def _size_conditions(self, mixture: torch.Tensor) -> dict[str, torch.Tensor | None]:
        if not self.pipeline.transformer.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        height, width = (side * self.pipeline.vae_scale_factor for side in mixture.shape[2:])
        size, shape = torch.tensor([[height, width]]), torch.tensor([[height / width]])
        return {
            "resolution": size.to(mixture.device, self.dtype).repeat(len(mixture), 1),
            "aspect_ratio": shape.to(mixture.device, self.dtype).repeat(len(mixture), 1),
        }

    def call_options(self, text: str, steps: int, guidance: float) -> dict[str, Any]:
        """Guided against the empty prompt; the caption is not cleaned, nor the size changed."""
        return {"guidance_scale": guidance, "clean_caption": False, "use_resolution_binning": False}
