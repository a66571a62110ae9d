"""Stable Diffusion 3 and 3.5: the image stands before the text in one joint sequence, 2 x 2 latents become one token.

The text is two segments in one: the tokens of both CLIP encoders, whose states share a position, then those of T5. CLIP
also gives a pooled vector that modulates the blocks. On a small GPU a pipeline often goes without T5, and its part of
the text is then zeros. The transformer predicts the velocity noise - image. Everything here gives it what diffusers'
StableDiffusion3Pipeline gives it; the tests compare with the pipeline's own call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline

from refam_analysis.errors import RefamError
from refam_analysis.models.base import Batched, Conditioning, DiffusionModel
from refam_analysis.models.family import Family, MissingPartError, ModelDefaults
from refam_analysis.models.layout import Role, TokenLayout
from refam_analysis.models.schedules import FlowSchedule, Schedule
from refam_analysis.prompts import Prompt, Token, align_tokens

ZEROS = "<zeros>"
"""What stands at a position of T5's where there is no T5."""


class TextLengthError(RefamError, ValueError):
    """The text segment has no room for T5."""

    def __init__(self, length: int, clip_length: int) -> None:
        super().__init__(
            f"A text segment of {length} tokens has no room behind CLIP's {clip_length} for those of T5. "
            f"Give a text_length of at least {clip_length + 1}."
        )


def _calls(config: Mapping[str, Any], block: int) -> tuple[Role, ...]:
    """In a block with dual attention a second call follows, in which the image attends to itself."""
    return ("joint", "other") if block in (config.get("dual_attention_layers") or ()) else ("joint",)


class StableDiffusion3Model(DiffusionModel):
    """A Stable Diffusion 3 or 3.5 pipeline, with T5 or without."""

    family: ClassVar[Family] = Family(
        name="stable_diffusion_3",
        transformer_class="SD3Transformer2DModel",
        calls=_calls,
        remarks=(
            "Text tokens 0 to 76 are those of the two CLIP encoders, whose states share a position; T5's follow. A "
            "word therefore has tokens of both.",
            "In blocks with dual attention (the first 13 of SD3.5-medium) the image also attends to itself in a "
            "second softmax, which is not recorded.",
            "The last block's text queries are recorded, though nothing reads what they gather.",
            "Without T5 its part of the text is zeros, recorded as padding.",
        ),
    )

    parts: ClassVar[tuple[str, ...]] = (*DiffusionModel.parts, "text_encoder_2", "tokenizer_2")

    def __init__(
        self, pipeline: DiffusionPipeline, defaults: ModelDefaults, *, name: str, revision: str | None = None
    ) -> None:
        super().__init__(pipeline, defaults, name=name, revision=revision)
        if getattr(pipeline, "text_encoder_3", None) is not None and getattr(pipeline, "tokenizer_3", None) is None:
            raise MissingPartError("tokenizer_3")
        if defaults.text_length <= pipeline.tokenizer_max_length:
            raise TextLengthError(defaults.text_length, pipeline.tokenizer_max_length)

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published for SD3-medium, SD3.5-large and SD3.5-medium, which the transformer's configuration tells.

        SD3.5-large-turbo is built like SD3.5-large: ask it for ``steps=4, guidance=1``.
        """
        side = pipeline.default_sample_size * pipeline.vae_scale_factor
        config = pipeline.transformer.config
        steps, guidance = 28, 7.0
        if config.dual_attention_layers:
            steps, guidance = 40, 4.5
        elif config.qk_norm:
            steps, guidance = 28, 3.5
        text_length = pipeline.tokenizer_max_length + 256
        return ModelDefaults(image_size=(side, side), text_length=text_length, steps=steps, guidance=guidance)

    @property
    def schedule(self) -> Schedule:
        """The timestep is the noise level in thousandths."""
        return FlowSchedule(timesteps=float(self.pipeline.scheduler.config.num_train_timesteps))

    @property
    def clip_length(self) -> int:
        """Tokens of the text segment that are CLIP's: 77."""
        return int(self.pipeline.tokenizer_max_length)

    @property
    def t5_length(self) -> int:
        """Tokens of the text segment that are T5's."""
        return self.text_length - self.clip_length

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """CLIP's tokens, then T5's. The prompt must fit all three encoders.

        Both CLIP encoders cut words alike; they differ in what they pad with, and the first one's names are given.
        """
        clip = align_tokens(prompt, self.pipeline.tokenizer, length=self.clip_length, encoder="clip")
        align_tokens(prompt, self.pipeline.tokenizer_2, length=self.clip_length, encoder="clip_2")
        behind = (replace(token, index=self.clip_length + token.index) for token in self._t5_tokens(prompt))
        return (*clip, *behind)

    def _t5_tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        if self.pipeline.text_encoder_3 is None:
            return tuple(Token(index, ZEROS, "", "padding", "t5", None) for index in range(self.t5_length))
        return align_tokens(prompt, self.pipeline.tokenizer_3, length=self.t5_length, encoder="t5")

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """All states as ``encoder_hidden_states``, CLIP's vectors as ``pooled_projections``; padding is not masked."""
        prompts = list(texts)
        states, _, pooled, _ = self.pipeline.encode_prompt(
            prompts, None, None, do_classifier_free_guidance=False, max_sequence_length=self.t5_length
        )
        return {"encoder_hidden_states": states.to(self.dtype), "pooled_projections": pooled.to(self.dtype)}

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what the pipeline decodes: (latents - shift) * scaling, the autoencoder's mean."""
        vae = self.pipeline.vae
        encoded = vae.encode(pixels.to(self.device, vae.dtype))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        shift, scaling = vae.config.shift_factor or 0.0, vae.config.scaling_factor
        return ((latents - shift) * scaling).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """Image, then text; the same for every item, since padding takes part."""
        height, width = (side // self.pipeline.patch_size for side in latents.shape[2:])
        text = slice(height * width, height * width + self.text_length)
        layout = TokenLayout(text=text, image=slice(0, height * width), grid=(height, width))
        return (layout,) * len(latents)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """The latents as they are, and the timestep."""
        timestep = torch.full((len(mixture),), self.schedule.timestep(noise_level), device=mixture.device)
        return {"hidden_states": mixture, "timestep": timestep, "return_dict": False, **inputs}

    def call_options(self, text: str, steps: int, guidance: float) -> dict[str, Any]:
        """Guided against the empty prompt. The length that the pipeline is told is T5's."""
        return {"guidance_scale": guidance, "max_sequence_length": self.t5_length}
