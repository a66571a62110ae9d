"""Sana: image tokens attend to each other linearly, without a softmax, and to the text by cross-attention.

The text is what Gemma makes of a written instruction with the prompt behind it, of which the first token and those of
the prompt are kept; padding is masked. The transformer predicts the velocity noise - image. Everything here gives it
what diffusers' SanaPipeline and SanaSprintPipeline give it; the tests compare with the pipelines' own calls.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline

from refam_analysis.models.base import Batched, Conditioning, DiffusionModel
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.layout import TokenLayout, text_then_image
from refam_analysis.models.schedules import FlowSchedule, Schedule
from refam_analysis.prompts import Prompt, Token, align_tokens

_LINEAR = "image tokens attend to each other linearly in Sana: without a softmax there are no probabilities"
_ABSENT: Mapping[str, str] = MappingProxyType(
    {
        "full": f"{_LINEAR}. Keep 'image_to_text'.",
        "image_to_image": f"{_LINEAR}.",
        "entropy": f"{_LINEAR}. Keep 'entropy_over_text'.",
        "entropy_over_image": f"{_LINEAR}.",
        "mass_on_text": "the only softmax is over text keys, so each is 1.",
    }
)


class SanaModel(DiffusionModel):
    """A Sana or Sana 1.5 pipeline."""

    family: ClassVar[Family] = Family(
        name="sana",
        transformer_class="SanaTransformer2DModel",
        attention="cross",
        absent=_ABSENT,
        remarks=(
            "Only the cross-attention is recorded: the attention among image tokens is linear.",
            "Gemma reads an instruction before every prompt but the empty one. Of all its tokens the first and the "
            "prompt's are the text; the instruction reaches the image through these alone.",
            "Padding is masked: no image query attends to it.",
            "Prompts are lower-cased, as the pipeline does.",
        ),
    )

    def __init__(
        self, pipeline: DiffusionPipeline, defaults: ModelDefaults, *, name: str, revision: str | None = None
    ) -> None:
        super().__init__(pipeline, defaults, name=name, revision=revision)
        # As the pipeline itself sets it before it encodes; Gemma's own is left.
        pipeline.tokenizer.padding_side = "right"

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published: 512 to 4096 pixels a side by the transformer's configuration, 300 tokens."""
        side = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
        return ModelDefaults(image_size=(side, side), text_length=300, steps=20, guidance=4.5)

    @property
    def schedule(self) -> Schedule:
        """The timestep is the noise level in thousandths, in the transformer's own scale."""
        told = self.pipeline.scheduler.config.num_train_timesteps * self.pipeline.transformer.config.timestep_scale
        return FlowSchedule(timesteps=float(told))

    @property
    def instruction(self) -> list[str]:
        """The lines that the pipeline writes before a prompt."""
        called = inspect.signature(type(self.pipeline).__call__).parameters
        return list(called["complex_human_instruction"].default)

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """Gemma's first token, then those of the prompt in lower case, then padding.

        The pipeline keeps as many of the last tokens as there is room for. What of the instruction is among them
        (a lone space, where the tokenizer does not join it to the prompt) is ``template``.
        """
        before = "\n".join(self.instruction) if prompt.text else ""
        whole = self.text_length + (len(self.pipeline.tokenizer.encode(before)) - 2 if before else 0)
        read = align_tokens(
            prompt, self.pipeline.tokenizer, length=whole, encoder="gemma", template=(before, ""), lower_case=True
        )
        kept = (read[0], *read[len(read) - self.text_length + 1 :])
        return tuple(replace(token, index=index) for index, token in enumerate(kept))

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """Gemma's states as ``encoder_hidden_states``, and which of them are no padding.

        The empty text has no instruction before it, as the pipeline's own negative prompt has none.
        """
        encoded = [self._encode_prompt(text) for text in texts]
        return {
            "encoder_hidden_states": torch.cat([one[0] for one in encoded]).to(self.dtype),
            "encoder_attention_mask": torch.cat([one[1] for one in encoded]),
        }

    def _encode_prompt(self, text: str) -> tuple[torch.Tensor, ...]:
        encoded: tuple[torch.Tensor, ...] = self.pipeline.encode_prompt(
            text, False, max_sequence_length=self.text_length, **self._instructed(text)
        )
        return encoded

    def _instructed(self, text: str) -> dict[str, list[str] | None]:
        return {"complex_human_instruction": self.instruction if text.strip() else None}

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what the pipeline decodes: latents, scaled. The autoencoder is not variational."""
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype)).latent
        return (latents * vae.config.scaling_factor).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """The same for every item: masked padding keeps its positions."""
        height, width = (side // self.pipeline.transformer.config.patch_size for side in latents.shape[2:])
        layout = text_then_image(self.text_length, (height, width), self.family.attention)
        return (layout,) * len(latents)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """The latents as they are, and the timestep."""
        timestep = torch.full((len(mixture),), self._timestep(noise_level), device=mixture.device)
        return {"hidden_states": mixture, "timestep": timestep, "return_dict": False, **inputs}

    def _timestep(self, noise_level: float) -> float:
        scheduler = self.pipeline.scheduler.config
        if not scheduler.get("use_flow_sigmas", False):
            return self.schedule.timestep(noise_level)
        # The multistep schedulers tell whole timesteps, rounded down; FlowMatchEulerDiscreteScheduler does not.
        whole = math.floor(noise_level * scheduler.num_train_timesteps)
        return float(whole * self.pipeline.transformer.config.timestep_scale)

    def call_options(self, text: str, steps: int, guidance: float) -> dict[str, Any]:
        """Guided against the empty prompt; the size is not changed."""
        return {"guidance_scale": guidance, "use_resolution_binning": False, **self._instructed(text)}


class SanaSprintModel(SanaModel):
    """A Sana-Sprint pipeline: distilled to a few steps, and told the strength of its guidance.

    It denoises along a quarter circle, cos(s) image + sin(s) noise, but scales that to (1 - t) image + t noise and the
    velocity's timestep before its transformer sees it.
    """

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published: two steps."""
        return replace(super().pipeline_defaults(pipeline), steps=2)

    @property
    def schedule(self) -> Schedule:
        """The timestep is the noise level itself."""
        return FlowSchedule()

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """The latents as they are, the noise level, and the strength of guidance."""
        level, strength = self.schedule.timestep(noise_level), self.defaults.guidance
        guidance = torch.full((len(mixture),), strength, device=mixture.device, dtype=self.dtype)
        return {
            "hidden_states": mixture,
            "timestep": torch.full((len(mixture),), level, device=mixture.device),
            "guidance": guidance * self.pipeline.transformer.config.guidance_embeds_scale,
            "return_dict": False,
            **inputs,
        }

    def _encode_prompt(self, text: str) -> tuple[torch.Tensor, ...]:
        encoded: tuple[torch.Tensor, ...] = self.pipeline.encode_prompt(
            text, max_sequence_length=self.text_length, **self._instructed(text)
        )
        return encoded

    def call_options(self, text: str, steps: int, guidance: float) -> dict[str, Any]:
        """As before, and that steps have their usual places where there are not two, the only number with others."""
        usual = {} if steps == 2 else {"intermediate_timesteps": None}
        return {**super().call_options(text, steps, guidance), **usual}
