"""Wan 2.1 and 2.2: image tokens attend to each other, and in a second attention to the text; no text queries.

UMT5 gives the text. Behind the prompt its states are set to zero, and the transformer attends to these places too:
they all become one and the same key. The transformer predicts the velocity noise - image. An image-to-video
transformer attends, before the text, to the tokens of its first frame's CLIP embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import nn

from refam_analysis.models.base import Batched, Conditioning
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.layout import Role, TokenLayout, text_then_image
from refam_analysis.models.schedules import FlowSchedule, Schedule
from refam_analysis.models.t5_video import T5VideoModel, per_channel
from refam_analysis.prompts import Prompt, PromptError, Token, align_tokens


class CleanedPromptError(PromptError):
    """The pipeline would not read the prompt as it is written."""

    def __init__(self, prompt: str, read_as: str) -> None:
        super().__init__(f"Wan's pipeline reads the prompt {prompt!r} as {read_as!r}. Write it like that.")


def _calls(config: Mapping[str, Any], block: int) -> tuple[Role, ...]:
    """An image-to-video transformer attends to CLIP's tokens between the two."""
    return ("image", "text") if config.get("added_kv_proj_dim") is None else ("image", "other", "text")


class WanModel(T5VideoModel):
    """A Wan text-to-video pipeline: 2.1, or 2.2 with two transformers (A14B), or with a timestep a token (5B)."""

    family: ClassVar[Family] = Family(
        name="wan",
        transformer_class="WanTransformer3DModel",
        attention="separate",
        calls=_calls,
        is_video=True,
        remarks=(
            "Wan 2.2 A14B has two transformers. Each step is recorded from the one that the pipeline runs at its noise "
            "level: below boundary_ratio from the second. attrs['transformers'] then names that of each step.",
            "Behind the prompt the text is zeros, which are attended to as equal keys.",
            "An image-to-video transformer also attends to the tokens of its first frame's CLIP embedding; that call "
            "is not recorded.",
        ),
    )

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published: 81 frames of 480 x 832 pixels for 2.1, of 720 x 1280 for 2.2 A14B; 121 of 704 x 1280 for 5B."""
        if pipeline.config.boundary_ratio is not None:
            return ModelDefaults(image_size=(720, 1280), text_length=512, steps=40, guidance=4.0, frames=81)
        if pipeline.config.expand_timesteps:
            return ModelDefaults(image_size=(704, 1280), text_length=512, steps=50, guidance=5.0, frames=121)
        return ModelDefaults(image_size=(480, 832), text_length=512, steps=50, guidance=5.0, frames=81)

    @property
    def schedule(self) -> Schedule:
        """The timestep is a thousand times the noise level."""
        return FlowSchedule(timesteps=1000.0)

    def transformer_at(self, noise_level: float) -> nn.Module:
        """Below the noise level ``boundary_ratio`` the second, where there is one."""
        ratio, second = self.pipeline.config.boundary_ratio, self.pipeline.transformer_2
        return self.transformer if ratio is None or second is None or noise_level >= ratio else second

    @property
    def pixels_per_token(self) -> int:
        """16 with the autoencoder of 2.1, 32 with that of 2.2 5B."""
        _, _, patch = self.pipeline.transformer.config.patch_size
        return int(self.pipeline.vae_scale_factor_spatial * patch)

    @property
    def frames_per_latent(self) -> int:
        """4 frames, after the first."""
        return int(self.pipeline.vae_scale_factor_temporal)

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """UMT5's tokens, padding included.

        Raises:
            CleanedPromptError: the pipeline would change the text before it cuts it into tokens (HTML entities, and
                what ftfy mends where that is installed).
            PromptTooLongError: it does not fit.
        """
        if (read_as := prompt_clean(prompt.text)) != prompt.text:
            raise CleanedPromptError(prompt.text, read_as)
        return align_tokens(prompt, self.pipeline.tokenizer, length=self.text_length, encoder="umt5")

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """UMT5's states, zeros behind the prompt; nothing is masked."""
        states, _ = self.pipeline.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=self.text_length
        )
        return {"encoder_hidden_states": states.to(self.dtype)}

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what WanPipeline decodes: (latents - mean) / deviation, each channel its own.

        Of the variational autoencoder the mean is taken, so nothing is random.
        """
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        mean, deviation = per_channel(vae.config.latents_mean, latents), per_channel(vae.config.latents_std, latents)
        return ((latents - mean) / deviation).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """Text and image in sequences of their own; the same for every item, since padding takes part."""
        return (text_then_image(self.text_length, self._grid(latents), "separate"),) * len(latents)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """The latents as they are, and the timestep: one an item, or one a token where the pipeline says so (2.2 5B).

        The timestep is not rounded, whereas UniPC's schedule cuts it to a whole number.
        """
        frames, height, width = self._grid(mixture)
        a_token_each = (frames * height * width,) if self.pipeline.config.expand_timesteps else ()
        timestep = torch.full((len(mixture), *a_token_each), self.schedule.timestep(noise_level), device=mixture.device)
        return {"hidden_states": mixture, "timestep": timestep, "return_dict": False, **inputs}

    def _grid(self, latents: torch.Tensor) -> tuple[int, int, int]:
        """Tokens along frame, y and x."""
        patch = self.pipeline.transformer.config.patch_size
        frames, height, width = (side // size for side, size in zip(latents.shape[2:], patch, strict=True))
        return frames, height, width
