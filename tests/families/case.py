"""What a family's tests need to know of it, stated independently of the library's own data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

Arguments = dict[str, Any]


@dataclass(frozen=True)
class FamilyCase:
    """A row of the table in ``test_families.py``.

    Attributes:
        name: as ``Family.name`` has it.
        build: the smallest pipeline of the real classes, with random weights.
        settings: the folder's ``refam.json``: image_size (not square), text_length, steps, guidance.
        blocks: path and type of every block of the main stack, in the order in which they run.
        calls: for each block the roles of its attention calls, in order.
        grid: of the image tokens at ``settings["image_size"]``: (y, x), or (frame, y, x).
        mark_text: changes what the transformer is told at one position of one item's text segment.
        encoder_ids: from all token ids that the text encoders were given, (encoder, item, position), those of the text
            segment of one item.
        pipeline_call: arguments of the pipeline's own call that lead to the same transformer call, without guidance.
        first_level: noise level of the pipeline's own first step.
        frames: frames of a clip in pixels; 0 for a family of images.
        text_first: whether the text stands before the image in a joint sequence.
        refined: paths of modules that mix text tokens before the first block; silenced where one token is to be found.
        refiners: the stacks of blocks before the main one, by name, each with the paths of its blocks.
    """

    name: str
    build: Callable[[], DiffusionPipeline]
    settings: Mapping[str, Any]
    blocks: tuple[tuple[str, str], ...]
    calls: tuple[tuple[str, ...], ...]
    grid: tuple[int, ...]
    mark_text: Callable[[Arguments, int, int], Arguments]
    encoder_ids: Callable[[list[torch.Tensor], int], list[int]]
    pipeline_call: Mapping[str, Any]
    first_level: Callable[[DiffusionPipeline], float]
    frames: int = 0
    text_first: bool = True
    refined: tuple[str, ...] = field(default=())
    refiners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        """Of the blocks of the main stack."""
        return [path for path, _ in self.blocks]

    def __str__(self) -> str:
        return self.name


def randomise(pipeline: DiffusionPipeline, *, seed: int = 0, std: float = 0.25) -> DiffusionPipeline:
    """Fill every weight of every part with random numbers, none of them zero, and set everything to evaluation.

    Weights of norms stay near 1, so that scores are of a size that trained models have.
    """
    generator = torch.Generator().manual_seed(seed)
    for part in pipeline.components.values():
        if not isinstance(part, nn.Module):
            continue
        for name, weights in part.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            with torch.no_grad():
                weights.copy_(centre + std * torch.randn(weights.shape, generator=generator))
        part.eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def add_at(arguments: Arguments, name: str, item: int, position: int, *, by: float = 3.0) -> Arguments:
    """The arguments with something added to one position of one item of a batched (item, position, channel) tensor."""
    given = arguments[name]
    if isinstance(given, list):
        changed: Any = [part.clone() for part in given]
        changed[item][position] += by
    else:
        changed = given.clone()
        changed[item, position] += by
    return {**arguments, name: changed}
