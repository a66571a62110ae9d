"""Where in a picture a sentence tells the model something: what it knows, whatever its attention shows.

A denoiser that is told the sentence errs less where the sentence speaks of the picture. Patch by patch, this is an
estimate of the mutual information of picture and sentence (Kong et al. 2024, "Interpretable Diffusion via Information
Decomposition": its estimates i-s and i-o). It needs no attention, so it is a second witness of what a model knows. It
is no ceiling: errors are noisy, most of all on textures, and a map of the attention may have its maximum on an object
more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from refam_analysis.errors import RefamError
from refam_analysis.models.base import EMPTY_PROMPT, Conditioning, DiffusionModel
from refam_analysis.models.images import ImageSource
from refam_analysis.prompts import make_prompt

Estimate = Literal["gain", "change"]
ESTIMATES: tuple[Estimate, ...] = get_args(Estimate)
"""How much the squared error falls with the sentence, which may be negative; and how far the prediction moves, squared.
Of a perfect denoiser both are the same on average (Kong et al. 2024)."""

NOISE_LEVELS = (0.6, 0.75, 0.9)
DRAWS = 8


class NoNoiseError(RefamError, ValueError):
    """A noise level at which there is nothing to predict."""

    def __init__(self, noise_level: float) -> None:
        super().__init__(
            f"At noise level {noise_level:g} the picture is there already, and no sentence can tell the model more: "
            "give levels above 0, up to 1."
        )


def information_maps(
    model: DiffusionModel,
    images: Sequence[ImageSource | Sequence[ImageSource]],
    expressions: Sequence[str],
    *,
    noise_levels: Sequence[float] = NOISE_LEVELS,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[Estimate, NDArray[np.float32]]:
    """How much each patch of each picture owes to its sentence.

    Both predictions of a patch, with the sentence and without any, have the same noise. The mean over noise levels is
    taken as the training's loss takes it, not integrated over log signal-to-noise ratios; so the unit is the squared
    velocity of flow matching (Lipman et al. 2023) in latents of unit spread, and not nats.

    Args:
        model: from ``load_model``, of flow matching.
        images: what ``model.encode_images`` takes: pictures, or clips for a model of videos.
        expressions: one an image.
        noise_levels: t in (0, 1]: two passes each, for every draw.
        draws: of noise, to average over.
        seed: draw k of image i has the noise of seed + i times draws + k, at every level.

    Returns:
        For every one of :data:`ESTIMATES`, (item, y, x) or (item, frame, y, x), a value a patch: the mean over the
        patch's latents.

    Raises:
        BatchError: the numbers of images and expressions differ.
        NoNoiseError: t is 0.
        NoiseLevelError: t is outside [0, 1].
        PromptTooLongError: an expression does not fit.

    >>> import refam_analysis as ra
    >>> item = ra.evaluation.hard_items("validation", 1)[0]
    >>> maps = information_maps(ra.load_model("embedded"), [item.image], [item.expression], draws=1)
    >>> maps["gain"].shape, bool((maps["change"] >= 0).all())
    ((1, 12, 12), True)
    """
    (maps,) = information_of_each(model, images, [expressions], noise_levels=noise_levels, draws=draws, seed=seed)
    return maps


@torch.no_grad()
def information_of_each(
    model: DiffusionModel,
    images: Sequence[ImageSource | Sequence[ImageSource]],
    sayings: Sequence[Sequence[str]],
    *,
    noise_levels: Sequence[float] = NOISE_LEVELS,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[dict[Estimate, NDArray[np.float32]]]:
    """What :func:`information_maps` gives for each of several sayings about the same images, which are noised once.

    Args:
        model, images, noise_levels, draws, seed: as there.
        sayings: each of one expression an image.

    Returns:
        Maps, one dictionary a saying.

    The errors are those of :func:`information_maps`.
    """
    if 0 in noise_levels:
        raise NoNoiseError(0.0)
    latents = model.encode_images(images).to(model.device, model.dtype)
    told = [model.encode_prompts([make_prompt(expression) for expression in saying]) for saying in sayings]
    untold = model.encode_prompts([EMPTY_PROMPT] * len(latents))
    sums = [{name: torch.zeros(()) for name in ESTIMATES} for _ in sayings]
    for level, k in product(noise_levels, range(draws)):
        seeds = [seed + i * draws + k for i in range(len(latents))]
        without, *with_each = (
            denoised(model, latents, said, noise_level=level, seeds=seeds) for said in (untold, *told)
        )
        worse = (without - latents).square()
        for total, with_it in zip(sums, with_each, strict=True):
            found: dict[Estimate, Tensor] = {
                "gain": worse - (with_it - latents).square(),
                "change": (with_it - without).square(),
            }
            for name, values in found.items():
                # An error of the picture is t times one of the velocity.
                total[name] = total[name] + values.float() / level**2
    grid = model.layouts(latents, untold)[0].grid
    passes = len(noise_levels) * draws
    return [{name: (_patches(each, grid) / passes).cpu().numpy() for name, each in total.items()} for total in sums]


@torch.no_grad()
def denoised(
    model: DiffusionModel, latents: Tensor, conditioning: Conditioning, *, noise_level: float, seeds: Sequence[int]
) -> Tensor:
    """The clean latents that a model predicts from noised ones.

    Args:
        model: from ``load_model``.
        latents: clean, from ``model.encode_images``.
        conditioning: from ``model.encode_prompts``, as many.
        noise_level: t in (0, 1].
        seeds: of the noise, one an item.

    Returns:
        The shape of ``latents``.

    Raises:
        BatchError, NoiseLevelError: see ``model.forward_inputs``.
    """
    inputs = model.forward_inputs(latents, conditioning, noise_level=noise_level, seeds=seeds)
    output = model.transformer_at(noise_level)(**inputs.kwargs)
    predicted = model.predicted(output[0] if isinstance(output, tuple) else output, inputs.mixture)
    return model.schedule.split(inputs.mixture, predicted, noise_level)[0]


def _patches(values: Tensor, grid: tuple[int, ...]) -> Tensor:
    """(item, channel, (frame,) y, x) of latents to means over channels and patches."""
    return functional.interpolate(values.mean(1, keepdim=True), size=grid, mode="area")[:, 0]
