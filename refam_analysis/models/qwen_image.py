"""Qwen-Image: text before image in one joint sequence; Qwen2.5-VL reads the prompt inside a template.

The states of the template's first 34 tokens are dropped, and prompts of different lengths are padded to the longest of
the batch. That padding is masked, and stands between text and image. 2 x 2 latents are packed to one token. Everything
here gives the transformer what diffusers' QwenImagePipeline gives it; the tests compare with the pipeline's own call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline

from refam_analysis.models.base import Batched, Conditioning, DiffusionModel
from refam_analysis.models.chat import text_around, without_padding
from refam_analysis.models.family import Family, ModelDefaults
from refam_analysis.models.flux import PACKING, pack_latents, unpack_latents
from refam_analysis.models.layout import TokenLayout
from refam_analysis.models.schedules import FlowSchedule, Schedule
from refam_analysis.prompts import Prompt, Token, align_tokens


class QwenImageModel(DiffusionModel):
    """A Qwen-Image pipeline. ``text_length`` is the longest text segment; each has the length of its own prompt."""

    family: ClassVar[Family] = Family(
        name="qwen_image",
        transformer_class="QwenImageTransformer2DModel",
        remarks=(
            "The text segment is as long as the prompt and what follows it in the template.",
            "A shorter prompt of a batch is padded up to the image. That padding is masked, and no part of the text "
            "segment.",
        ),
    )

    packing: ClassVar[int | None] = PACKING

    @classmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """The defaults of diffusers' own call."""
        side = pipeline.default_sample_size * pipeline.vae_scale_factor
        return ModelDefaults(image_size=(side, side), text_length=512, steps=50, guidance=4.0)

    @property
    def schedule(self) -> Schedule:
        """The timestep is the noise level itself."""
        return FlowSchedule()

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """Qwen2.5-VL's tokens of the prompt and of what the template writes behind it, without padding."""
        dropped = self.pipeline.prompt_template_encode_start_idx
        padded = align_tokens(
            prompt, self.pipeline.tokenizer, length=self.text_length + dropped, encoder="qwen2.5-vl",
            template=text_around(prompt.text, self.pipeline.prompt_template_encode.format),
        )  # fmt: skip
        return without_padding(padded, dropped=dropped)

    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """The last layer's states of each prompt, a list, since the lengths differ."""
        states, attended = self.pipeline.encode_prompt(list(texts), max_sequence_length=self.text_length)
        lengths = [states.shape[1]] * len(states) if attended is None else attended.sum(1).tolist()
        return {
            "encoder_hidden_states": [
                item[:length].to(self.dtype) for item, length in zip(states, lengths, strict=True)
            ]
        }

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The inverse of what QwenImagePipeline decodes: a clip of one frame, normalised channel by channel.

        The mean of the autoencoder's distribution is taken, so nothing is random.
        """
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype).unsqueeze(2)).latent_dist.mode().squeeze(2)
        mean, deviation = (
            torch.tensor(values).view(1, -1, 1, 1).to(latents)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return ((latents - mean) / deviation).to(self.device, self.dtype)

    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """Text, then what pads it to the longest of the batch, then image."""
        height, width = (side // PACKING for side in latents.shape[2:])
        lengths = [len(tokens) for tokens in conditioning.tokens]
        image = slice(max(lengths), max(lengths) + height * width)
        return tuple(TokenLayout(text=slice(0, length), image=image, grid=(height, width)) for length in lengths)

    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """Packed latents, the timestep, padded states with their mask, and the grid for the rotary embedding."""
        height, width = (side // PACKING for side in mixture.shape[2:])
        timestep = torch.full((len(mixture),), 1000 * self.schedule.timestep(noise_level), device=mixture.device)
        states = list(inputs["encoder_hidden_states"])
        lengths = torch.tensor([len(item) for item in states], device=mixture.device)
        attended = (torch.arange(int(lengths.max()), device=mixture.device) < lengths[:, None]).long()
        return {
            "hidden_states": pack_latents(mixture),
            # Rounded as the pipeline rounds it: thousandths in the model's dtype.
            "timestep": timestep.to(self.dtype) / 1000,
            "encoder_hidden_states": torch.nn.utils.rnn.pad_sequence(states, batch_first=True),
            "encoder_hidden_states_mask": None if attended.all() else attended,
            "img_shapes": [[(1, height, width)]] * len(mixture),
            "guidance": None,
            "return_dict": False,
        }

    def predicted(self, output: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
        """Tokens unpacked to latents."""
        return unpack_latents(output, mixture.shape)

    def guided(self, conditional: torch.Tensor, unconditional: torch.Tensor, guidance: float) -> torch.Tensor:
        """As the pipeline has it: each token of the guided prediction has the length of the conditional one."""
        combined = pack_latents(super().guided(conditional, unconditional, guidance))
        lengths = pack_latents(conditional).norm(dim=-1, keepdim=True) / combined.norm(dim=-1, keepdim=True)
        return unpack_latents(combined * lengths, conditional.shape)

    def call_options(self, text: str, steps: int, guidance: float) -> dict[str, Any]:
        """Guided against the empty prompt."""
        return {"true_cfg_scale": guidance, "negative_prompt": "" if guidance > 1 else None}
