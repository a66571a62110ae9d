"""FLUX.2: text before image in one joint sequence, as in FLUX.1; the text encoder is a language model with a template.

FLUX.2 dev reads the prompt with Mistral 3, behind a system message, and is told its guidance; FLUX.2 klein reads it
with Qwen 3. Either way the states of three layers stand side by side at each token, and padding takes part. Latents
are packed 2 x 2 before they are normalised, so here they have the packed axes. Everything gives the transformer what
diffusers' Flux2Pipeline and Flux2KleinPipeline give it; the tests compare with the pipelines' own calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2 import format_input

from refam_analysis.models.base import Batched, Conditioning, DiffusionModel
from refam_analysis.models.chat import text_around
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.flux import PACKING
from refam_analysis.models.layout import TokenLayout, text_then_image
from refam_analysis.models.schedules import FlowSchedule, Schedule
from refam_analysis.prompts import Prompt, Token, align_tokens


class Flux2Model(DiffusionModel):
    """A FLUX.2 pipeline: dev, which is distilled with guidance, or klein, distilled to few steps or not.

    dev is told the strength of its guidance; klein is guided against the empty prompt, but not at all where it was
    distilled to few steps.
    """

    family: ClassVar[Family] = Family(
        name="flux2",
        transformer_class="Flux2Transformer2DModel",
        remarks=("The text segment holds the chat template's tokens too, and padding takes part in the attention.",),
    )

    packing: ClassVar[int | None] = PACKING

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """As published: 50 steps and guidance 4, or 4 steps without guidance where klein was distilled to few steps."""
        side = pipeline.default_sample_size * pipeline.vae_scale_factor
        if pipeline.config.get("is_distilled", False):
            return ModelDefaults(image_size=(side, side), text_length=512, steps=4, guidance=1.0)
        return ModelDefaults(image_size=(side, side), text_length=512, steps=50, guidance=4.0)

    @property
    def schedule(self) -> Schedule:
        """The timestep is the noise level itself."""
        return FlowSchedule()

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """The language model's tokens of the chat template with the prompt in it, and padding."""
        # The tokenizer of FLUX.2 dev lies in a processor, which would take pictures too.
        tokenizer = getattr(self.pipeline.tokenizer, "tokenizer", self.pipeline.tokenizer)
        template = text_around(prompt.text, self._chat)
        has_bos = bool(tokenizer.bos_token) and template[0].startswith(tokenizer.bos_token)
        return align_tokens(
            prompt, tokenizer, length=self.text_length, encoder="mistral3" if self._is_dev else "qwen3",
            template=template, add_special_tokens=not (self._is_dev and has_bos),
        )  # fmt: skip

    @property
    def _is_dev(self) -> bool:
        return isinstance(self.pipeline, Flux2Pipeline)

    def _chat(self, text: str) -> str:
        """The text that the tokenizer is given for a prompt."""
        if self._is_dev:
            messages = format_input([text], self.pipeline.system_message)[0]
            options = {"add_generation_prompt": False}
        else:
            messages = [{"role": "user", "content": text}]
            options = {"add_generation_prompt": True, "enable_thinking": False}
        return str(self.pipeline.tokenizer.apply_chat_template(messages, tokenize=False, **options))

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """The states of three layers side by side; the transformer is given padding like any other token."""
        states, _ = self.pipeline.encode_prompt(list(texts), max_sequence_length=self.text_length)
        return {"encoder_hidden_states": states.to(self.dtype)}

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what the pipelines decode: packed, then normalised by the autoencoder's running statistics.

        The mean of the autoencoder's distribution is taken, so nothing is random.
        """
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        packed = torch.nn.functional.pixel_unshuffle(latents, PACKING)
        mean, variance = (values.view(1, -1, 1, 1).to(packed) for values in (vae.bn.running_mean, vae.bn.running_var))
        return ((packed - mean) / torch.sqrt(variance + vae.config.batch_norm_eps)).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """Text, then image; the same for every item, since padding takes part."""
        height, width = latents.shape[2:]
        return (text_then_image(self.text_length, (height, width)),) * len(latents)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """The latents row by row, the timestep, and the positions (frame, y, x, token) for the rotary embedding."""
        batch, (height, width) = len(mixture), mixture.shape[2:]
        timestep = torch.full((batch,), 1000 * self.schedule.timestep(noise_level), device=mixture.device)
        guidance = torch.full((batch,), self.defaults.guidance, device=mixture.device) if self._is_dev else None
        return {
            "hidden_states": mixture.flatten(2).transpose(1, 2),
            # Rounded as the pipeline rounds it: thousandths in the model's dtype.
            "timestep": timestep.to(self.dtype) / 1000,
            "img_ids": positions(y=height, x=width).to(mixture.device).expand(batch, -1, -1),
            "txt_ids": positions(token=self.text_length).to(mixture.device).expand(batch, -1, -1),
            "guidance": guidance,
            "return_dict": False,
            **inputs,
        }

    def predicted(self, output: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
        """Tokens put back in rows."""
        return output.transpose(1, 2).reshape(mixture.shape)


def positions(*, y: int = 1, x: int = 1, token: int = 1) -> torch.Tensor:
    """Positions (frame, y, x, token) of image tokens, or of text tokens, axes (position, 4).

    >>> positions(y=1, x=2).tolist(), positions(token=2).tolist()
    ([[0, 0, 0, 0], [0, 0, 1, 0]], [[0, 0, 0, 0], [0, 0, 0, 1]])
    """
    return torch.cartesian_prod(*(torch.arange(size) for size in (1, y, x, token)))
