"""Denoising by a pipeline's own call, and by one step of ours, to be compared."""

from __future__ import annotations

from typing import Any

import torch

from refam_analysis.models import DiffusionModel
from refam_analysis.models.schedules import step
from refam_analysis.prompts import Prompt


def pipeline_latents(model: DiffusionModel, prompt: Prompt, *, seed: int, **call: Any) -> list[torch.Tensor]:
    """The latents after each step of the pipeline's own call, as the pipeline holds them."""
    seen: list[torch.Tensor] = []

    def note(_: Any, __: int, ___: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append(tensors["latents"].clone())
        return tensors

    generator = torch.Generator().manual_seed(seed)
    model.pipeline(
        prompt=prompt.text, generator=generator, callback_on_step_end=note, output_type="latent", **call
    )  # fmt: skip
    return seen


@torch.no_grad()
def our_step(
    model: DiffusionModel, mixture: torch.Tensor, prompt: Prompt, *, level: float, to: float, guidance: float | None
) -> torch.Tensor:
    """The mixture at another noise level; guided against the empty prompt unless ``guidance`` is None."""
    conditioning = model.encode_prompts([prompt])
    both = mixture
    if guidance is not None:
        conditioning, both = conditioning + model.encode_empty(1), torch.cat((mixture, mixture))
    output = model.transformer(**model.inputs_of(both, conditioning, noise_level=level).kwargs)[0]
    predicted = model.predicted(output, both)
    if guidance is not None:
        conditional, unconditional = predicted.chunk(2)
        predicted = model.guided(conditional, unconditional, guidance)
    return step(model.schedule, mixture, predicted, noise_level=level, to=to)
