"""Z-Image: image before text in one sequence of single-stream blocks; Qwen 3 reads the prompt inside a template.

Image and text are each filled up to a multiple of 32 with a learnt token, which takes part in the attention: the
image's filling stands between image and text, the text's is the padding of the text segment. Texts of a batch differ in
length, so each item has a layout of its own. Time is reversed. Before the main stack, refiners run over the image and
over the text alone; they are stacks of their own. Everything here gives the transformer what diffusers' ZImagePipeline
gives it; the tests compare with the pipeline's own call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline

from refam_analysis.models.base import Batched, Conditioning, DiffusionModel
from refam_analysis.models.chat import text_around, without_padding
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.layout import TokenLayout
from refam_analysis.models.schedules import FlowSchedule, Schedule
from refam_analysis.prompts import Prompt, Token, align_tokens

PATCH = 2
"""Latents a side that make one token; the published weights have no other patch size."""

FILLED_TO = 32
"""Image and text are each filled up to a multiple of it."""


class ZImageModel(DiffusionModel):
    """A Z-Image pipeline. ``text_length`` is the most tokens that a prompt may have, template included, before filling.

    Its ``guidance`` is as everywhere here: 1 is none. ZImagePipeline adds its ``guidance_scale`` to the conditional
    prediction, and calls the same strength one less.
    """

    family: ClassVar[Family] = Family(
        name="z_image",
        transformer_class="ZImageTransformer2DModel",
        remarks=(
            "The text segment holds the chat template's tokens too, and learnt padding up to a multiple of 32 tokens.",
            "Between image and text stands learnt padding of the image, of the side 'other'.",
            "Refiners have run over image and text before block 0: its text tokens have seen one another. They are "
            "recorded with stack='noise_refiner' (the image) and stack='context_refiner' (the text).",
        ),
    )

    packing: ClassVar[int | None] = PATCH

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published: 50 steps and guidance for Z-Image; 8 steps without guidance for Z-Image-Turbo.

        The two differ in nothing but their weights and the shift of their schedules: 6, and 3 for the distilled one.
        """
        size = (1024, 1024)
        if pipeline.scheduler.config.shift == 3.0:
            return ModelDefaults(image_size=size, text_length=512, steps=8, guidance=1.0)
        return ModelDefaults(image_size=size, text_length=512, steps=50, guidance=5.0)

    @property
    def schedule(self) -> Schedule:
        """The model is told 1 - t, and predicts image - noise."""
        return FlowSchedule(reversed=True)

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """Qwen 3's tokens of the chat template with the prompt in it, then the learnt padding."""
        padded = align_tokens(
            prompt, self.pipeline.tokenizer, length=self.text_length, encoder="qwen3",
            template=text_around(prompt.text, self._chat),
        )  # fmt: skip
        tokens = without_padding(padded)
        filling = range(len(tokens), _filled(len(tokens)))
        return tokens + tuple(Token(index, "cap_pad_token", "", "padding", "qwen3", None) for index in filling)

    def _chat(self, text: str) -> str:
        """The text that the tokenizer is given for a prompt."""
        messages = [{"role": "user", "content": text}]
        options = {"add_generation_prompt": True, "enable_thinking": True}
        return str(self.pipeline.tokenizer.apply_chat_template(messages, tokenize=False, **options))

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """The last layer's states but one of each prompt, a list, since the lengths differ."""
        states, _ = self.pipeline.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=self.text_length
        )
        return {"cap_feats": [item.to(self.dtype) for item in states]}

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what ZImagePipeline decodes: (mean - shift) * scaling."""
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        return ((latents - vae.config.shift_factor) * vae.config.scaling_factor).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """Image, its filling, then the text of each item with its own."""
        height, width = (side // PATCH for side in latents.shape[2:])
        start = _filled(height * width)
        return tuple(
            TokenLayout(
                text=slice(start, start + len(tokens)), image=slice(0, height * width), grid=(height, width)
            )
            for tokens in conditioning.tokens
        )  # fmt: skip

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """The latents of each item as a clip of one frame, and what is left of the noise level."""
        timestep = torch.full((len(mixture),), 1000 * noise_level, device=mixture.device)
        return {
            "x": list(mixture.unsqueeze(2).unbind()),
            "t": (1000 - timestep) / 1000,
            "return_dict": False,
            **inputs,
        }

    def predicted(self, output: torch.Tensor | Sequence[torch.Tensor], mixture: torch.Tensor) -> torch.Tensor:
        """One tensor of the items' own, without the frame."""
        return torch.stack(list(output)).squeeze(2)

    def call_options(self, text: str, steps: int, guidance: float) -> dict[str, Any]:
        """Guided against the empty prompt; ZImagePipeline calls the same strength one less."""
        return {"guidance_scale": guidance - 1}


def _filled(length: int) -> int:
    """A length filled up."""
    return -(-length // FILLED_TO) * FILLED_TO
