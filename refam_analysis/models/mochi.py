"""Mochi 1: the image stands before the text in one joint sequence, and every item of a batch attends by itself.

Its attention drops a prompt's padding before the softmax, so padding is no key and no query: the text segment of an
item is its own tokens alone. Time runs from noise to image. An attention call outside the blocks pools T5's states
to the vector that modulates them; it is not recorded.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline

from refam_analysis.errors import RefamError
from refam_analysis.models.base import Batched, Conditioning
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.layout import TokenLayout
from refam_analysis.models.schedules import FlowSchedule, Schedule
from refam_analysis.models.t5_video import T5VideoModel, per_channel
from refam_analysis.prompts import Prompt, Token

# diffusers asks for positions in float32 by an autocast that CPUs do not know; without it they are float32 as well.
warnings.filterwarnings(
    "ignore", "In CPU autocast, but the target dtype", module="diffusers.models.transformers.transformer_mochi"
)


class HiddenEmptyPromptError(RefamError, ValueError):
    """The pipeline masks every token of an empty prompt, so that its branch has no text."""

    def __init__(self) -> None:
        super().__init__(
            "This pipeline hides all tokens of an empty prompt (force_zeros_for_empty_prompt), so the unconditional "
            "branch has no text to record. Record without guidance, or load the pipeline with "
            "force_zeros_for_empty_prompt=False."
        )


class TooFewStepsError(RefamError, ValueError):
    """Mochi's schedule is linear for the first half of its steps, so that there must be two."""

    def __init__(self, steps: int) -> None:
        super().__init__(f"Mochi cannot draw a clip in {steps} step. Give at least 2 steps.")


class MochiModel(T5VideoModel):
    """A Mochi pipeline."""

    family: ClassVar[Family] = Family(
        name="mochi",
        transformer_class="MochiTransformer3DModel",
        one_call_an_item=True,
        is_video=True,
        remarks=(
            "Mochi drops the padding of a prompt inside its attention: there is none to record, and the text segment "
            "is as long as the prompt.",
            "The attention call that pools the text before the first block is not recorded.",
        ),
    )

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As MochiPipeline's own call has it: 19 frames of 480 x 848 pixels, 64 steps, guidance 4.5."""
        size = (pipeline.default_height, pipeline.default_width)
        return ModelDefaults(image_size=size, text_length=256, steps=64, guidance=4.5, frames=19)

    @property
    def schedule(self) -> Schedule:
        """The timestep is a thousand times the share of the image, and the model predicts image - noise."""
        return FlowSchedule(timesteps=1000.0, reversed=True)

    @property
    def pixels_per_token(self) -> int:
        """16: the autoencoder makes one latent of 8 pixels a side, and a patch has 2 latents a side."""
        return int(self.pipeline.vae_spatial_scale_factor * self.pipeline.transformer.config.patch_size)

    @property
    def frames_per_latent(self) -> int:
        """6 frames, after the first."""
        return int(self.pipeline.vae_temporal_scale_factor)

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """T5's tokens without the padding. The prompt must fit ``text_length`` all the same."""
        return tuple(token for token in super().tokens(prompt) if token.kind != "padding")

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """T5's states, with the mask by which the attention picks the prompt's own tokens.

        Raises:
            HiddenEmptyPromptError: the pipeline hides empty prompts, and there is one.
        """
        if self.pipeline.config.force_zeros_for_empty_prompt and "" in texts:
            raise HiddenEmptyPromptError
        states, mask, *_ = self.pipeline.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=self.text_length
        )
        return {"encoder_hidden_states": states.to(self.dtype), "encoder_attention_mask": mask}

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what MochiPipeline decodes: (latents - mean) / deviation * scaling, each channel its own.

        Of the variational autoencoder the mean is taken, so nothing is random.
        """
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        if vae.config.latents_mean is not None and vae.config.latents_std is not None:
            mean, deviation = vae.config.latents_mean, vae.config.latents_std
            latents = (latents - per_channel(mean, latents)) / per_channel(deviation, latents)
        return (latents * vae.config.scaling_factor).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """Image, then as much text as the item has."""
        patch = self.pipeline.transformer.config.patch_size
        frames, height, width = latents.shape[2:]
        grid = (frames, height // patch, width // patch)
        image = slice(0, grid[0] * grid[1] * grid[2])
        return tuple(
            TokenLayout(text=slice(image.stop, image.stop + len(tokens)), image=image, grid=grid)
            for tokens in conditioning.tokens
        )

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """The latents as they are, and the timestep in the model's dtype, as the pipeline rounds it."""
        timestep = torch.full((len(mixture),), self.schedule.timestep(noise_level), device=mixture.device)
        return {"hidden_states": mixture, "timestep": timestep.to(self.dtype), "return_dict": False, **inputs}

    def call_options(self, text: str, steps: int, guidance: float) -> dict[str, Any]:
        """The strength of guidance, where there are steps enough.

        Raises:
            TooFewStepsError: fewer than two steps.
        """
        if steps < 2:
            raise TooFewStepsError(steps)
        return super().call_options(text, steps, guidance)
