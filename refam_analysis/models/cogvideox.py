"""CogVideoX: the text stands before the image in one joint sequence, and padding takes part.

T5 alone gives the text; nothing is masked. The noise schedule is that of discrete diffusion with no signal left at its
last timestep, and the model predicts the velocity of its mixture. The pipeline holds latents as (batch, frame, channel,
y, x); here they are (batch, channel, frame, y, x) as in every video family. CogVideoX 1.5 makes one token of two latent
frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline

from refam_analysis.models.base import Batched, Conditioning
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.layout import TokenLayout, text_then_image
from refam_analysis.models.schedules import DiffusionSchedule, Schedule
from refam_analysis.models.t5_video import T5VideoModel

SIZE_OF_1_5 = (768, 1360)
"""Height and width in pixels that CogVideoX 1.5 is published for; its configuration names the largest it can take."""


class CogVideoXModel(T5VideoModel):
    """A CogVideoX pipeline: 2b (positions added to the latents), 5b (rotary embedding) or 1.5 (two frames a token)."""

    family: ClassVar[Family] = Family(
        name="cogvideox",
        transformer_class="CogVideoXTransformer3DModel",
        is_video=True,
        remarks=(
            "CogVideoX 1.5 makes a token of two latent frames; where their number is odd, a copy of the first stands "
            "before them, as in the pipeline.",
        ),
    )

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published: 49 frames of 480 x 720 pixels, 81 of 768 x 1360 for 1.5; 50 steps, guidance 6."""
        config, cell = pipeline.transformer.config, pipeline.vae_scale_factor_spatial
        size = (config.sample_height * cell, config.sample_width * cell)
        if config.patch_size_t is not None:
            size = SIZE_OF_1_5
        length, frames = config.max_text_seq_length, config.sample_frames
        return ModelDefaults(image_size=size, text_length=length, steps=50, guidance=6.0, frames=frames)

    @property
    def schedule(self) -> Schedule:
        """The scheduler's own, with its timesteps 0 to 999."""
        return DiffusionSchedule.of(self.pipeline.scheduler)

    @property
    def pixels_per_token(self) -> int:
        """16: the autoencoder makes one latent of 8 pixels a side, and a patch has 2 latents a side."""
        return int(self.pipeline.vae_scale_factor_spatial * self.pipeline.transformer.config.patch_size)

    @property
    def frames_per_latent(self) -> int:
        """4 frames, after the first."""
        return int(self.pipeline.vae_scale_factor_temporal)

    @property
    def _latents_per_token(self) -> int:
        """Latent frames of one token."""
        return int(self.pipeline.transformer.config.patch_size_t or 1)

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """T5's states; padding is not masked, neither in T5 nor in the transformer."""
        states, _ = self.pipeline.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=self.text_length
        )
        return {"encoder_hidden_states": states.to(self.dtype)}

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what CogVideoXPipeline decodes: latents * scaling.

        Of the variational autoencoder the mean is taken, so nothing is random. Where 1.5 needs one more latent frame,
        a copy of the first stands before all, as its image-to-video pipeline does; the pipelines drop it at the end.
        """
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode() * vae.config.scaling_factor
        lacking = -latents.shape[2] % self._latents_per_token
        latents = torch.cat((latents[:, :, :1].expand(-1, -1, lacking, -1, -1), latents), dim=2)
        return latents.to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """Text, then image; the same for every item, since padding takes part."""
        patch = self.pipeline.transformer.config.patch_size
        frames, height, width = latents.shape[2:]
        grid = (frames // self._latents_per_token, height // patch, width // patch)
        return (text_then_image(self.text_length, grid),) * len(latents)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """Latents with the frame before the channel, the timestep, and the rotary embedding where there is one.

        The timestep is not rounded: between two of the scheduler's it is a fraction.
        """
        frames, height, width = mixture.shape[2:]
        timestep = self.schedule.timestep(noise_level)
        rotary = None
        if self.pipeline.transformer.config.use_rotary_positional_embeddings:
            cell = self.pipeline.vae_scale_factor_spatial
            rotary = self.pipeline._prepare_rotary_positional_embeddings(
                height * cell, width * cell, frames, mixture.device
            )
        return {
            "hidden_states": mixture.transpose(1, 2),
            "timestep": torch.full((len(mixture),), timestep, device=mixture.device),
            "image_rotary_emb": rotary,
            "return_dict": False,
            **inputs,
        }

    def predicted(self, output: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
        """The channel before the frame again."""
        return output.transpose(1, 2)
