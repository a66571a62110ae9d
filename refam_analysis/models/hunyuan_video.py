"""HunyuanVideo: the image stands before the text in one joint sequence; LLaMA gives the tokens, CLIP one vector.

LLaMA reads the prompt inside a chat template that asks it to describe a video. The states of all that stands before
the prompt are dropped, so the text segment begins with the prompt itself. A refiner inside the transformer mixes the
text tokens before the first block; it is a stack of its own. Padding is masked as keys. The transformer predicts the
velocity noise - image, and noise levels are called 0 to 1000. The tests compare with HunyuanVideoPipeline's own call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

from refam_analysis.errors import RefamError
from refam_analysis.models.base import Batched, Conditioning, DiffusionModel
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.layout import TokenLayout
from refam_analysis.models.schedules import FlowSchedule, Schedule
from refam_analysis.prompts import Prompt, Token, align_tokens

CLIP_LENGTH = 77
"""Tokens of CLIP's prompt; the pipeline knows no other number."""

BEFORE, BEHIND = DEFAULT_PROMPT_TEMPLATE["template"].split("{}")
"""What the pipeline writes around the prompt for LLaMA."""

DROPPED = int(DEFAULT_PROMPT_TEMPLATE["crop_start"])
"""How many of LLaMA's first tokens the pipeline takes for what stands before the prompt."""


class ImageConditionError(RefamError, ValueError):
    """The transformer wants to be given a picture beside the text."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"This HunyuanVideo transformer starts from a picture (image_condition_type={kind!r}), which this pipeline "
            "does not give it. Load a text-to-video model, or use Recorder on the transformer with a TokenLayout."
        )


class TemplateLengthError(RefamError, ValueError):
    """The pipeline would drop the prompt's first tokens together with the template."""

    def __init__(self, dropped: str) -> None:
        super().__init__(
            f"With this tokenizer what stands before the prompt has fewer than {DROPPED} tokens, so the pipeline would "
            f"drop {dropped!r} with it. Use LLaMA 3's own tokenizer, which begins every text with a special token."
        )


class HunyuanVideoModel(DiffusionModel):
    """A HunyuanVideo text-to-video pipeline, distilled with guidance (as published) or without."""

    family: ClassVar[Family] = Family(
        name="hunyuan_video",
        transformer_class="HunyuanVideoTransformer3DModel",
        is_video=True,
        remarks=(
            "A refiner mixes the text tokens before the first block. It is recorded with stack='context_refiner'; "
            "there padding attends to the first token alone.",
            "LLaMA reads a template before the prompt; its states are dropped, so it draws no attention here.",
            "CLIP gives one vector and no tokens.",
            "Padding of the text is masked as keys, so it draws no attention; its queries are computed all the same.",
        ),
    )

    parts: ClassVar[tuple[str, ...]] = (*DiffusionModel.parts, "text_encoder_2", "tokenizer_2")

    def __init__(
        self, pipeline: DiffusionPipeline, defaults: ModelDefaults, *, name: str, revision: str | None = None
    ) -> None:
        super().__init__(pipeline, defaults, name=name, revision=revision)
        if (kind := pipeline.transformer.config.image_condition_type) is not None:
            raise ImageConditionError(kind)

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published: 129 frames of 720 x 1280 pixels."""
        embedded = pipeline.transformer.config.guidance_embeds
        guidance = 6.0 if embedded else 1.0
        return ModelDefaults(image_size=(720, 1280), text_length=256, steps=50, guidance=guidance, frames=129)

    @property
    def schedule(self) -> Schedule:
        """The timestep is the noise level in thousandths."""
        return FlowSchedule(timesteps=1000.0)

    @property
    def pixels_per_token(self) -> int:
        """Side of the square of pixels that one image token stands for: 16."""
        return int(self.pipeline.vae_scale_factor_spatial * self.pipeline.transformer.config.patch_size)

    @property
    def frames_per_latent(self) -> int:
        """4, after the first."""
        return int(self.pipeline.vae_scale_factor_temporal)

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """LLaMA's tokens from the prompt on. The prompt must fit CLIP too, or the pooled vector would see it cut.

        Raises:
            PromptTooLongError: it does not fit.
            TemplateLengthError: the tokenizer is not the one that the pipeline counts on.
        """
        align_tokens(prompt, self.pipeline.tokenizer_2, length=CLIP_LENGTH, encoder="clip")
        tokens = align_tokens(
            prompt, self.pipeline.tokenizer, length=DROPPED + self.text_length, encoder="llama",
            template=(BEFORE, BEHIND),
        )  # fmt: skip
        if dropped := [token.text for token in tokens[:DROPPED] if token.word]:
            raise TemplateLengthError(" ".join(dropped))
        return tuple(replace(token, index=index) for index, token in enumerate(tokens[DROPPED:]))

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """LLaMA's states with their mask, and CLIP's vector as ``pooled_projections``."""
        states, pooled, mask = self.pipeline.encode_prompt(list(texts), max_sequence_length=self.text_length)
        return {
            "encoder_hidden_states": states.to(self.dtype),
            "encoder_attention_mask": mask.to(self.dtype),
            "pooled_projections": pooled.to(self.dtype),
        }

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what the pipeline decodes: latents * scaling.

        The mean of the autoencoder's distribution is taken, so nothing is random.
        """
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        return (latents * vae.config.scaling_factor).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """Image, then text; the same for every item, since padding is masked and not dropped."""
        config = self.pipeline.transformer.config
        frames, height, width = latents.shape[2:]
        grid = (frames // config.patch_size_t, height // config.patch_size, width // config.patch_size)
        tokens = grid[0] * grid[1] * grid[2]
        layout = TokenLayout(text=slice(tokens, tokens + self.text_length), image=slice(0, tokens), grid=grid)
        return (layout,) * len(latents)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """The latents as they are, timestep and guidance in thousandths; these are rounded as the pipeline does.

        The pipeline's timesteps have the dtype of its latents, which after the first step is the model's.
        """
        batch = len(mixture)
        timestep = torch.full((batch,), self.schedule.timestep(noise_level), device=mixture.device)
        guidance = torch.full((batch,), self.defaults.guidance, dtype=self.dtype, device=mixture.device)
        return {
            "hidden_states": mixture,
            "timestep": timestep.to(self.dtype),
            "guidance": guidance * 1000.0,
            "return_dict": False,
            **inputs,
        }

    def call_options(self, text: str, steps: int, guidance: float) -> dict[str, Any]:
        """A model with embedded guidance is told its strength; any other is guided against the empty prompt."""
        if self.pipeline.transformer.config.guidance_embeds:
            return {"guidance_scale": guidance}
        return {"true_cfg_scale": guidance, "negative_prompt": ""}
