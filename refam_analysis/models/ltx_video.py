"""LTX-Video: image tokens attend to one another, and in a second attention to T5's tokens; one latent is one token.

A latent stands for 32 x 32 pixels and 8 frames (the first for one), so a token does too. Positions are in seconds and
pixels, which is why the frame rate enters. The transformer predicts the velocity noise - image, and noise levels are
called 0 to 1000. Two pipelines drive the same transformer: LTXPipeline, and from version 0.9.5 on LTXConditionPipeline,
which writes the positions another way and takes longer prompts; here it is used without its conditions. The tests
compare with the pipelines' own calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline

from refam_analysis.models.base import Batched, Conditioning
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.layout import TokenLayout, text_then_image
from refam_analysis.models.schedules import FlowSchedule, Schedule
from refam_analysis.models.t5_video import T5VideoModel, per_channel

FRAME_RATE = 25
"""Frames a second that clips are taken to have: what the pipelines' own calls take."""


class LtxVideoModel(T5VideoModel):
    """An LTX-Video pipeline for text alone (LTXPipeline)."""

    family: ClassVar[Family] = Family(
        name="ltx_video",
        transformer_class="LTXVideoTransformer3DModel",
        attention="separate",
        is_video=True,
        remarks=(
            "Padding of the text is masked, so it draws no attention.",
            f"Positions are in seconds: clips are taken to have {FRAME_RATE} frames a second.",
        ),
    )

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published: 161 frames of 512 x 704 pixels."""
        return ModelDefaults(image_size=(512, 704), text_length=128, steps=50, guidance=3.0, frames=161)

    @property
    def schedule(self) -> Schedule:
        """The timestep is the noise level in thousandths."""
        return FlowSchedule(timesteps=1000.0)

    @property
    def pixels_per_token(self) -> int:
        """Side of the square of pixels that one image token stands for: 32."""
        return int(self.pipeline.vae_spatial_compression_ratio)

    @property
    def frames_per_latent(self) -> int:
        """8, after the first."""
        return int(self.pipeline.vae_temporal_compression_ratio)

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """T5's states, and which of them are no padding."""
        states, mask, _, _ = self.pipeline.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=self.text_length
        )
        return {"encoder_hidden_states": states.to(self.dtype), "encoder_attention_mask": mask}

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what the pipeline decodes: each channel less its mean, over its standard deviation.

        The mean of the autoencoder's distribution is taken, so nothing is random.
        """
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        mean, deviation = (per_channel(part.tolist(), latents) for part in (vae.latents_mean, vae.latents_std))
        return ((latents - mean) * vae.config.scaling_factor / deviation).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """The same for every item, since padding is masked and not dropped."""
        return (text_then_image(self.text_length, tuple(latents.shape[2:]), "separate"),) * len(latents)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """A token a latent, the timestep, and what positions follow from."""
        timestep = torch.full((len(mixture),), self.schedule.timestep(noise_level), device=mixture.device)
        return {
            "hidden_states": mixture.flatten(2).transpose(1, 2),
            "timestep": timestep,
            "return_dict": False,
            **self.positions(mixture),
            **inputs,
        }

    def positions(self, mixture: torch.Tensor) -> dict[str, Any]:
        """The transformer's arguments that say where in the clip each token is.

        Args:
            mixture: axes (batch, channel, frame, y, x).
        """
        frames, height, width = mixture.shape[2:]
        scale = (self.frames_per_latent / FRAME_RATE, self.pixels_per_token, self.pixels_per_token)
        return {"num_frames": frames, "height": height, "width": width, "rope_interpolation_scale": scale}

    def predicted(self, output: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
        """Tokens put back in their places in the clip."""
        return output.transpose(1, 2).reshape(mixture.shape)


class LtxConditionModel(LtxVideoModel):
    """An LTX-Video pipeline that can be given frames (LTXConditionPipeline), and here is not."""

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published: longer prompts than before."""
        return ModelDefaults(image_size=(512, 704), text_length=256, steps=50, guidance=3.0, frames=161)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """As before, with the timestep as one for all tokens of an item."""
        arguments = super().arguments(mixture, inputs, noise_level)
        return {**arguments, "timestep": arguments["timestep"].unsqueeze(-1)}

    def positions(self, mixture: torch.Tensor) -> dict[str, Any]:
        """The same places in seconds and pixels, as the tokens' own coordinates.

        The first latent frame stands for one frame and every other one for eight, so they begin at 0, 1, 9, 17 ...
        """
        axes = [torch.arange(side, device=mixture.device) for side in mixture.shape[2:]]
        frame, y, x = torch.meshgrid(*axes, indexing="ij")
        begins = (frame * self.frames_per_latent + 1 - self.frames_per_latent).clamp(min=0)
        places = (begins * (1.0 / FRAME_RATE), y * self.pixels_per_token, x * self.pixels_per_token)
        coordinates = torch.stack([place.float() for place in places]).flatten(1)
        return {"video_coords": coordinates.expand(len(mixture), -1, -1)}
