"""Noise schedules: what a noise level t in [0, 1] is to a model, and what its prediction says of image and noise.

The noise level is flow matching's: x_t = (1 - t) image + t noise, as in FLUX and SD3. A model with another schedule is
given, at the same t, the mixture with the same ratio of signal to noise, in the scale and with the timestep that it was
trained with. From a model's prediction follow the image and the noise that it sees, and from these the mixture at any
other level: one step of Euler's method for flow matching, and of DDIM for the others (Song et al. 2021, eq. 12).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from refam_analysis.errors import RefamError

Prediction = Literal["epsilon", "v_prediction", "sample"]


class NoiseLevelError(RefamError, ValueError):
    """A noise level outside [0, 1]."""

    def __init__(self, noise_level: float) -> None:
        super().__init__(f"The noise level is {noise_level}. Give a number from 0 (the image) to 1 (noise alone).")


class UnknownPredictionError(RefamError, ValueError):
    """A scheduler says that its model predicts something that is not known here."""

    def __init__(self, prediction: str) -> None:
        super().__init__(f"The model predicts {prediction!r}; known are epsilon, v_prediction and sample.")


class NotADiffusionScheduleError(RefamError, ValueError):
    """A schedule that does not say how much of the image each timestep keeps."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"{found}. Discrete diffusion needs the share of the image that every timestep keeps (alphas_cumprod), "
            "falling and within [0, 1]: give the pipeline the scheduler that its model was trained with."
        )


class HiddenPartError(RefamError, ValueError):
    """The mixture has none of what the model does not predict, so that this cannot be solved for."""

    def __init__(self, prediction: str, hidden: str, noise_level: float) -> None:
        level = "below" if hidden == "image" else "above"
        super().__init__(
            f"At noise level {noise_level} the mixture holds no {hidden}, which cannot be solved for with a model that "
            f"predicts {prediction!r}. Take a noise level {level} {noise_level}."
        )


def check_noise_level(noise_level: float) -> float:
    """The noise level, if it is one.

    Raises:
        NoiseLevelError: t is outside [0, 1].
    """
    if not 0.0 <= noise_level <= 1.0:
        raise NoiseLevelError(noise_level)
    return float(noise_level)


class Schedule(Protocol):
    """What a model needs to know of a noise level."""

    def scales(self, noise_level: float) -> tuple[float, float]:
        """Factors of image and noise in the model's mixture; their ratio is (1 - t) : t."""

    def timestep(self, noise_level: float) -> float:
        """What the transformer is told."""

    def split(self, mixture: Tensor, predicted: Tensor, noise_level: float) -> tuple[Tensor, Tensor]:
        """The image and the noise that the model sees in the mixture."""


@dataclass(frozen=True)
class FlowSchedule:
    """Flow matching: the mixture is (1 - t) image + t noise, and the model predicts a velocity.

    Attributes:
        timesteps: what t = 1 is called: 1000 in SD3, 1 in FLUX.
        reversed: time runs from noise to image, and so does the velocity (Mochi, Z-Image, Lumina 2): told is 1 - t, and
            predicted image - noise instead of noise - image.

    >>> FlowSchedule(timesteps=1000.0, reversed=True).timestep(0.25)
    750.0
    """

    timesteps: float = 1.0
    reversed: bool = False

    def scales(self, noise_level: float) -> tuple[float, float]:
        """(1 - t, t)."""
        return 1.0 - noise_level, noise_level

    def timestep(self, noise_level: float) -> float:
        """The noise level, or what is left of it, in the model's unit."""
        return self.timesteps * ((1.0 - noise_level) if self.reversed else noise_level)

    def split(self, mixture: Tensor, predicted: Tensor, noise_level: float) -> tuple[Tensor, Tensor]:
        """Image = mixture - t velocity, noise = mixture + (1 - t) velocity."""
        velocity = -predicted if self.reversed else predicted
        return mixture - noise_level * velocity, mixture + (1.0 - noise_level) * velocity


@dataclass(frozen=True)
class DiffusionSchedule:
    """Discrete diffusion: the mixture is sqrt(a) image + sqrt(1 - a) noise, with a falling over the timesteps.

    The timestep of a noise level is where a / (1 - a) = (1 - t)^2 / t^2, between whole timesteps by interpolation of
    the logarithm. A level that the schedule does not reach is given its first or its last timestep, and the mixture of
    that timestep.

    Attributes:
        kept: a (alphas_cumprod) of every training timestep, falling.
        prediction: what the model predicts: the noise (epsilon), sqrt(a) noise - sqrt(1 - a) image (v_prediction), or
            the image (sample).
    """

    kept: tuple[float, ...]
    prediction: Prediction = "epsilon"

    @classmethod
    def of(cls, scheduler: Any) -> DiffusionSchedule:
        """The schedule of a diffusers scheduler that has ``alphas_cumprod``.

        Raises:
            NotADiffusionScheduleError: it has none.
            UnknownPredictionError: it says that the model predicts something else, such as a flow.
        """
        kept = getattr(scheduler, "alphas_cumprod", None)
        if kept is None:
            raise NotADiffusionScheduleError(f"A {type(scheduler).__name__} has no alphas_cumprod")
        # DPM-Solver++ rescaled to no terminal signal writes 2^-24 for a zero, which is more than the value before it.
        falling = np.minimum.accumulate(kept.double().cpu().numpy())
        return cls(tuple(falling.tolist()), scheduler.config.prediction_type)

    def __post_init__(self) -> None:
        if self.prediction not in ("epsilon", "v_prediction", "sample"):
            raise UnknownPredictionError(self.prediction)
        falls = all(later <= earlier for earlier, later in pairwise(self.kept))
        if not self.kept or not falls or not 0 <= self.kept[-1] <= self.kept[0] <= 1:
            raise NotADiffusionScheduleError(f"The {len(self.kept)} values rise somewhere, or leave [0, 1]")

    def timestep(self, noise_level: float) -> float:
        """Between 0 and the last training timestep.

        >>> DiffusionSchedule((0.9, 0.5, 0.1)).timestep(0.5)
        1.0
        """
        wanted = _log_ratio((1 - noise_level) ** 2, noise_level**2)
        ratios = [_log_ratio(kept, 1 - kept) for kept in self.kept]
        return float(np.interp(-wanted, [-ratio for ratio in ratios], range(len(ratios))))

    def scales(self, noise_level: float) -> tuple[float, float]:
        """(sqrt(a), sqrt(1 - a)) at the noise level's timestep.

        >>> DiffusionSchedule((0.9, 0.5, 0.0)).scales(1.0)
        (0.0, 1.0)
        """
        first, last = _level(self.kept[0]), _level(self.kept[-1])
        reached = min(max(noise_level, first), last)
        length = math.hypot(1 - reached, reached)
        return (1 - reached) / length, reached / length

    def split(self, mixture: Tensor, predicted: Tensor, noise_level: float) -> tuple[Tensor, Tensor]:
        """Solved for what is not predicted.

        Raises:
            HiddenPartError: the mixture has none of it.
        """
        signal, noise = self.scales(noise_level)
        if self.prediction == "v_prediction":
            return signal * mixture - noise * predicted, noise * mixture + signal * predicted
        if self.prediction == "sample":
            if noise == 0:
                raise HiddenPartError(self.prediction, "noise", noise_level)
            return predicted, (mixture - signal * predicted) / noise
        if signal == 0:
            raise HiddenPartError(self.prediction, "image", noise_level)
        return (mixture - noise * predicted) / signal, predicted


def step(schedule: Schedule, mixture: Tensor, predicted: Tensor, *, noise_level: float, to: float) -> Tensor:
    """The mixture at another noise level, as the model's prediction at this one has it.

    Args:
        schedule: of the model.
        mixture: at ``noise_level``.
        predicted: by the model.
        noise_level: t of the mixture.
        to: t of the result, usually lower.

    >>> import torch
    >>> step(FlowSchedule(), torch.tensor([1.0]), torch.tensor([0.5]), noise_level=0.6, to=0.2)
    tensor([0.8000])
    """
    image, noise = schedule.split(mixture.float(), predicted.float(), noise_level)
    signal_scale, noise_scale = schedule.scales(to)
    return (signal_scale * image + noise_scale * noise).to(mixture.dtype)


def denoising_levels(noise_level: float, steps: int) -> Sequence[float]:
    """Noise levels of ``steps`` even steps from this one to the image, which itself is left out.

    >>> denoising_levels(0.8, 4)
    [0.8, 0.6, 0.4, 0.2]
    """
    return [round(noise_level * (steps - i) / steps, 12) for i in range(steps)]


def _level(kept: float) -> float:
    """The noise level at which the image and noise of a timestep have the same ratio.

    >>> _level(1.0), _level(0.5), _level(0.0)
    (0.0, 0.5, 1.0)
    """
    signal, noise = math.sqrt(kept), math.sqrt(1 - kept)
    return noise / (signal + noise)


def _log_ratio(signal: float, noise: float) -> float:
    """Log of a ratio whose ends are far away rather than infinite."""
    return math.log(max(signal, 1e-12)) - math.log(max(noise, 1e-12))
