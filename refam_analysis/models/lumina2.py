"""Lumina Image 2.0: text before image in one sequence of single-stream blocks; Gemma reads the prompt.

The text begins with an instruction. Padding is dropped before the main stack, so each item has a sequence of its own
length; a shorter one of a batch is filled up behind its image, masked. Time is reversed. Before the main stack,
refiners run over the text and over the image alone; they are stacks of their own. Everything here gives the transformer
what diffusers' Lumina2Pipeline gives it; the tests compare with the pipeline's own call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline

from refam_analysis.models.base import Batched, Conditioning, DiffusionModel
from refam_analysis.models.chat import without_padding
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.layout import TokenLayout, text_then_image
from refam_analysis.models.schedules import FlowSchedule, Schedule
from refam_analysis.prompts import Prompt, Token, align_tokens

BEFORE_PROMPT = " <Prompt Start> "
"""What the pipeline writes between the instruction and the prompt."""


class Lumina2Model(DiffusionModel):
    """A Lumina Image 2.0 pipeline. ``text_length`` is the most tokens that a prompt may have, instruction included."""

    family: ClassVar[Family] = Family(
        name="lumina2",
        transformer_class="Lumina2Transformer2DModel",
        remarks=(
            "Gemma reads an instruction before every prompt but the empty one; its tokens are part of the text "
            "segment, as template.",
            "Padding is dropped before the main stack, so it is not there to record.",
            "Refiners have run over image and text before block 0: its text tokens have seen one another. They are "
            "recorded with stack='noise_refiner' (the image) and stack='context_refiner' (the text).",
        ),
    )

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """The defaults of diffusers' own call."""
        side = pipeline.default_sample_size * pipeline.vae_scale_factor
        return ModelDefaults(image_size=(side, side), text_length=256, steps=30, guidance=4.0)

    @property
    def schedule(self) -> Schedule:
        """The model is told 1 - t, and predicts image - noise."""
        return FlowSchedule(reversed=True)

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """Gemma's tokens of the instruction and the prompt, without padding; of the empty prompt its first alone."""
        before = self.pipeline.system_prompt + BEFORE_PROMPT if prompt.text else ""
        padded = align_tokens(
            prompt, self.pipeline.tokenizer, length=self.text_length, encoder="gemma", template=(before, "")
        )
        return without_padding(padded)

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """The last layer's states but one as ``encoder_hidden_states``, and which of them are no padding.

        The empty text has no instruction before it, as the pipeline's own negative prompt has none.
        """
        encoded = [self._encode_prompt(text) for text in texts]
        return {
            "encoder_hidden_states": torch.cat([states for states, _ in encoded]).to(self.dtype),
            "encoder_attention_mask": torch.cat([attended for _, attended in encoded]),
        }

    def _encode_prompt(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        unconditional = not text.strip()
        encoded = self.pipeline.encode_prompt(text, unconditional, max_sequence_length=self.text_length)
        states, attended = encoded[2:] if unconditional else encoded[:2]
        return states, attended

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what Lumina2Pipeline decodes: (mean - shift) * scaling."""
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        return ((latents - vae.config.shift_factor) * vae.config.scaling_factor).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """The text of each item, and its image at once behind it."""
        height, width = (side // self.pipeline.transformer.config.patch_size for side in latents.shape[2:])
        return tuple(text_then_image(len(tokens), (height, width)) for tokens in conditioning.tokens)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """The latents as they are, what is left of the noise level, and the texts up to the end of the longest.

        The pipeline pads further, which changes nothing: padding is masked in the refiner, and then dropped. So the
        refiner's sequence is that of the layout.
        """
        timestep = torch.full((len(mixture),), self.schedule.timestep(noise_level), device=mixture.device)
        attended = inputs["encoder_attention_mask"]
        longest = int(torch.as_tensor(attended).sum(1).max())
        texts = {name: value[:, :longest] for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        return {"hidden_states": mixture, "timestep": timestep, "return_dict": False, **texts}

    def guided(self, conditional: torch.Tensor, unconditional: torch.Tensor, guidance: float) -> torch.Tensor:
        """As the pipeline has it: each row of the guided prediction has the length of the conditional one's."""
        combined = super().guided(conditional, unconditional, guidance)
        return combined * (conditional.norm(dim=-1, keepdim=True) / combined.norm(dim=-1, keepdim=True))
