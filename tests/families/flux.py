"""FLUX.1: text first, double- and single-stream blocks, padding takes part."""

from __future__ import annotations

import torch
from diffusers import FluxPipeline

from families.case import FamilyCase, add_at, randomise
from families.parts import make_tiny_flux


def build() -> FluxPipeline:
    return randomise(make_tiny_flux(autoencoder="kl", guidance=True))


def t5_ids(seen: list[torch.Tensor], item: int) -> list[int]:
    """CLIP is asked first, then T5."""
    return seen[-1][item].tolist()


CASE = FamilyCase(
    name="flux",
    build=build,
    settings={"image_size": (32, 40), "text_length": 24, "steps": 2, "guidance": 3.5},
    blocks=(
        ("transformer_blocks.0", "double"),
        ("transformer_blocks.1", "double"),
        ("single_transformer_blocks.0", "single"),
        ("single_transformer_blocks.1", "single"),
    ),
    calls=(("joint",),) * 4,
    grid=(4, 5),
    mark_text=lambda arguments, item, position: add_at(arguments, "encoder_hidden_states", item, position),
    encoder_ids=t5_ids,
    pipeline_call={"height": 32, "width": 40, "max_sequence_length": 24, "guidance_scale": 3.5},
    first_level=lambda pipeline: float(pipeline.scheduler.sigmas[0]),
)
