"""Which forward passes a recording consists of: noise levels or denoising steps, with one branch or two.

At several noise levels every pass starts from the clean image and the same noise. Denoising starts from one noise level
and goes on with what the model predicts, guided where it is asked for. Guidance runs the unconditional prompt in the
same batch, behind the conditional one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from refam_analysis.errors import RefamError
from refam_analysis.models.base import Conditioning, DiffusionModel, ForwardInputs
from refam_analysis.models.family import BatchError
from refam_analysis.models.images import ImageSource, load_image
from refam_analysis.models.layout import TokenLayout
from refam_analysis.models.schedules import check_noise_level, denoising_levels, step
from refam_analysis.prompts import Prompt, Token
from refam_analysis.recording.recording import UnknownWordError

CONDITIONAL, UNCONDITIONAL = "conditional", "unconditional"

Picture = Image.Image | list[Image.Image]
"""A loaded image, or the frames of a clip."""


class StepsError(RefamError, ValueError):
    """Denoising steps that mean nothing."""


class RegionError(RefamError, ValueError):
    """A region that does not fit the image grid."""


@dataclass(frozen=True)
class Run:
    """The forward passes of one recording.

    Attributes:
        model: from ``load_model``.
        levels: noise level of every pass.
        denoises: whether each pass goes on from what the one before predicted.
        guidance: strength, with an unconditional branch; None without.
    """

    model: DiffusionModel
    levels: tuple[float, ...]
    denoises: bool = False
    guidance: float | None = None

    @property
    def branches(self) -> tuple[str, ...]:
        """Their names, in the order in which the batch has them."""
        return (CONDITIONAL,) if self.guidance is None else (CONDITIONAL, UNCONDITIONAL)

    @property
    def transformers(self) -> tuple[nn.Module, ...]:
        """Those that run, each once, in the order in which they come up."""
        return tuple(dict.fromkeys(self.model.transformer_at(level) for level in self.levels))

    def first(self, latents: torch.Tensor, conditioning: Conditioning, seeds: Sequence[int]) -> ForwardInputs:
        """The arguments of the first pass."""
        mixture = self.model.noised(latents, noise_level=self.levels[0], seeds=seeds)
        return self._inputs(mixture, conditioning, self.levels[0])

    def through(
        self, first: ForwardInputs, latents: torch.Tensor, conditioning: Conditioning, seeds: Sequence[int]
    ) -> None:
        """Run every pass."""
        inputs = first
        for place, level in enumerate(self.levels):
            if place and not self.denoises:
                mixture = self.model.noised(latents, noise_level=level, seeds=seeds)
                inputs = self._inputs(mixture, conditioning, level)
            output = self.model.transformer_at(level)(**inputs.kwargs)
            if self.denoises and place + 1 < len(self.levels):
                mixture = self._denoised(output, inputs.mixture, level, self.levels[place + 1])
                inputs = self._inputs(mixture, conditioning, self.levels[place + 1])

    def _inputs(self, mixture: torch.Tensor, conditioning: Conditioning, level: float) -> ForwardInputs:
        if self.guidance is not None:
            conditioning = conditioning + self.model.encode_empty(len(conditioning))
            mixture = torch.cat((mixture, mixture))
        return self.model.inputs_of(mixture, conditioning, noise_level=level)

    def _denoised(self, output: Any, mixture: torch.Tensor, level: float, to: float) -> torch.Tensor:
        sample = output[0] if isinstance(output, tuple) else output
        predicted = self.model.predicted(sample, mixture)
        if self.guidance is not None:
            conditional, unconditional = predicted.chunk(2)
            predicted = self.model.guided(conditional, unconditional, self.guidance)
            mixture = mixture.chunk(2)[0]
        return step(self.model.schedule, mixture, predicted, noise_level=level, to=to)


def noise_levels(noise_level: float | Sequence[float], steps: int) -> tuple[float, ...]:
    """The noise level of every pass.

    Raises:
        BatchError: no noise level.
        NoiseLevelError: one is outside [0, 1].
        StepsError: no step, or several steps from several noise levels.

    >>> noise_levels(0.8, 2), noise_levels([0.2, 0.7], 1)
    ((0.8, 0.4), (0.2, 0.7))
    >>> noise_levels(np.float32(0.5), 1)
    (0.5,)
    """
    levels = list(noise_level) if isinstance(noise_level, Iterable) else [noise_level]
    if not levels:
        raise BatchError(noise_levels=0)
    checked = [check_noise_level(float(level)) for level in levels]
    if steps < 1 or (steps > 1 and len(checked) > 1):
        raise StepsError(
            f"steps={steps} from the noise levels {checked}: give at least one step, and several steps from one level."
        )
    return tuple(checked if steps == 1 else denoising_levels(checked[0], steps))


def loaded(image: ImageSource | Sequence[ImageSource]) -> Picture:
    """The picture, or the pictures of a clip, read once."""
    if isinstance(image, list | tuple):
        return [load_image(frame) for frame in image]
    return load_image(image)  # type: ignore[arg-type]


def choosing(
    model: DiffusionModel, prompt: Prompt, words: Iterable[str] | None, region: np.ndarray | None
) -> Callable[[TokenLayout], list[int]] | None:
    """What gives for a layout the queries of :func:`choose_queries`; None where neither words nor region are given."""
    if words is None and region is None:
        return None
    return partial(choose_queries, tokens=model.tokens(prompt), words=words, region=region)


def choose_queries(
    layout: TokenLayout, *, tokens: Sequence[Token], words: Iterable[str] | None, region: np.ndarray | None
) -> list[int]:
    """Positions of the queries of some words, and of some image tokens.

    Args:
        layout: where text and image stand.
        tokens: of the text segment.
        words: of the prompt, upper or lower case; one, or several.
        region: bool, in the shape of the image grid.

    Raises:
        UnknownWordError: the prompt has no such word.
        RegionError: the region has another shape, or is empty.
    """
    wanted = {word.casefold(): word for word in ([words] if isinstance(words, str) else words or ())}
    known = {token.word.casefold() for token in tokens if token.word}
    if missing := [word for folded, word in wanted.items() if folded not in known]:
        raise UnknownWordError(missing, list(dict.fromkeys(token.word for token in tokens if token.word)))
    positions = [layout.text.start + place for place, token in enumerate(tokens) if token.word.casefold() in wanted]
    if region is not None:
        chosen = np.asarray(region)
        if chosen.shape != tuple(layout.grid) or chosen.dtype != bool or not chosen.any():
            raise RegionError(
                f"The region has shape {chosen.shape}, type {chosen.dtype}, {int(chosen.astype(bool).sum())} tokens. "
                f"Give a bool array of shape {tuple(layout.grid)} with at least one True."
            )
        positions += (layout.image.start + np.flatnonzero(chosen)).tolist()
    return positions
