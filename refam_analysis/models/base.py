"""What every family of diffusion transformers offers: text, images and noise in, one transformer call out.

A family is one file beside this one: a subclass of :class:`DiffusionModel` and a :class:`Family` that says, as data,
how its transformer is built. Nothing here, nor in the files of the families, records or measures anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import nn

from refam_analysis.errors import RefamError
from refam_analysis.models.images import ImageSource, load_image
from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts import Prompt, Token


class NoiseLevelError(RefamError, ValueError):
    """A noise level outside [0, 1]."""

    def __init__(self, noise_level: float) -> None:
        super().__init__(f"The noise level is {noise_level}. Give a number from 0 (the image) to 1 (noise alone).")


class BatchError(RefamError, ValueError):
    """What should come one an item comes in different numbers."""

    def __init__(self, **numbers: int) -> None:
        listed = ", ".join(f"{number} {name}" for name, number in numbers.items())
        super().__init__(f"A batch needs one of each for every item, and has {listed}. Give as many of each.")


class ModelSizeError(RefamError, ValueError):
    """A picture size that the model cannot cut into tokens."""

    def __init__(self, size: tuple[int, int], cell: int) -> None:
        near = tuple(_nearest_multiple(side, cell) for side in size)
        super().__init__(f"The size {size} (height, width) is no multiple of {cell} pixels a side. Take {near}.")


@dataclass(frozen=True)
class Family:
    """What is peculiar to the transformer class of a family, as data.

    Attributes:
        name: such as "flux".
        transformer_class: name of the diffusers class.
        block_lists: the module lists that hold the blocks, in the order of the forward pass, each with the type that
            its blocks are recorded under. Blocks are counted through all of them.
        calls_per_block: attention calls that one block makes in one forward pass.
    """

    name: str
    transformer_class: str
    block_lists: tuple[tuple[str, str], ...]
    calls_per_block: int = 1


@dataclass(frozen=True)
class ModelDefaults:
    """What a model does where the caller does not say.

    Attributes:
        image_size: height and width in pixels.
        text_length: tokens of the text segment, padding included.
        steps: denoising steps of ``generate``.
        guidance: of ``generate``; 1 is none.
        grounding: settings for heatmaps that were chosen on validation scenes; empty where nothing was searched.
    """

    image_size: tuple[int, int]
    text_length: int
    steps: int
    guidance: float
    grounding: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Conditioning:
    """A batch of encoded prompts.

    Attributes:
        inputs: what the transformer is given on their account, by the name of its argument.
        tokens: of each prompt, what stands at every position of the text segment.
    """

    inputs: Mapping[str, torch.Tensor]
    tokens: tuple[tuple[Token, ...], ...]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class ForwardInputs:
    """One call of the transformer: ``model.transformer(**inputs.kwargs)``.

    Attributes:
        kwargs: all its arguments.
        layout: where text and image stand in the sequence.
        noise_level: of the latents among the arguments.
    """

    kwargs: Mapping[str, Any]
    layout: TokenLayout
    noise_level: float


class DiffusionModel(ABC):
    """A diffusion transformer with all that it needs around it. Get one from :func:`refam_analysis.load_model`.

    Attributes:
        name: what it was loaded by.
        revision: the commit on the model hub, or None.
        pipeline: the diffusers pipeline that holds the parts.
        transformer: the part whose attention is recorded.
        defaults: what it does where the caller does not say.
    """

    family: ClassVar[Family]

    def __init__(
        self, pipeline: DiffusionPipeline, defaults: ModelDefaults, *, name: str, revision: str | None = None
    ) -> None:
        self.pipeline = pipeline
        self.defaults = defaults
        self.name = name
        self.revision = revision
        self.transformer: nn.Module = pipeline.transformer

    @classmethod
    @abstractmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """What the family does by itself, where the folder has no ``refam.json``."""

    @property
    def device(self) -> torch.device:
        """Where it computes; with offloading, the device that the parts are moved to."""
        return torch.device(self.pipeline._execution_device)

    @property
    def dtype(self) -> torch.dtype:
        """Of the transformer's inputs."""
        return self.pipeline.transformer.dtype

    @property
    def default_size(self) -> tuple[int, int]:
        """Height and width in pixels that images are resized to."""
        return self.defaults.image_size

    @property
    def text_length(self) -> int:
        """Tokens of the text segment, padding included."""
        return self.defaults.text_length

    @property
    @abstractmethod
    def pixels_per_token(self) -> int:
        """Side of the square of pixels that one image token stands for."""

    @abstractmethod
    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """What stands at every position of the text segment.

        Raises:
            PromptTooLongError: the prompt does not fit; nothing is cut.
        """

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[Prompt]) -> Conditioning:
        """Encode a batch of prompts.

        Raises:
            PromptTooLongError: one does not fit; nothing is cut.
        """

    @abstractmethod
    def encode_images(self, images: Sequence[ImageSource], *, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Clean latents, scaled as in training.

        Args:
            images: anything that :func:`~refam_analysis.models.images.load_image` reads.
            size: height and width that all are resized to, multiples of ``pixels_per_token``; ``default_size`` when
                left out. ``own_size(image)`` is the one that keeps a picture's own resolution and shape.

        Returns:
            Axes (batch, channel, y, x), on the model's device and of its dtype.

        Raises:
            ImageError: one cannot be read or used.
            ModelSizeError: the size does not cut into tokens.
        """

    @abstractmethod
    def forward_inputs(
        self, latents: torch.Tensor, conditioning: Conditioning, *, noise_level: float, seeds: Sequence[int]
    ) -> ForwardInputs:
        """The arguments of one transformer call on noised latents, x_t = (1 - t) image + t noise.

        Args:
            latents: clean, axes (batch, channel, y, x), from ``encode_images``.
            conditioning: as many prompts, from ``encode_prompts``.
            noise_level: t in [0, 1].
            seeds: one an item. An item's noise depends on its seed alone, not on the batch, the device or the dtype.

        Raises:
            BatchError: the numbers of latents, prompts and seeds differ.
            NoiseLevelError: t is outside [0, 1].
        """

    @abstractmethod
    def generate(
        self, prompt: str, *, seed: int = 0, steps: int | None = None, guidance: float | None = None
    ) -> Image.Image:
        """Draw a picture.

        Args:
            prompt: the text; empty for an unconditional picture.
            seed: of the noise that it starts from.
            steps: denoising steps; the model's default when left out.
            guidance: strength; the model's default when left out.
        """

    def own_size(self, image: Image.Image) -> tuple[int, int]:
        """The multiple of ``pixels_per_token`` nearest to the picture's own size: (height, width)."""
        height, width = (_nearest_multiple(side, self.pixels_per_token) for side in (image.height, image.width))
        return height, width

    def _pixels(self, images: Sequence[ImageSource], size: tuple[int, int] | None) -> torch.Tensor:
        """Pictures as the autoencoder takes them: (batch, 3, height, width) in [-1, 1], float32 on the CPU."""
        height, width = size or self.default_size
        if height < 1 or width < 1 or height % self.pixels_per_token or width % self.pixels_per_token:
            raise ModelSizeError((height, width), self.pixels_per_token)
        pictures = [load_image(image) for image in images]
        resized = [picture.resize((width, height), Image.Resampling.LANCZOS) for picture in pictures]
        stacked = torch.stack(
            [torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8) for picture in resized]
        )
        return stacked.view(-1, height, width, 3).permute(0, 3, 1, 2).float() / 127.5 - 1


def add_noise(latents: torch.Tensor, *, noise_level: float, seeds: Sequence[int]) -> torch.Tensor:
    """Flow matching's x_t = (1 - t) image + t noise, standard normal noise from one CPU generator an item.

    Args:
        latents: clean, axes (batch, ...).
        noise_level: t in [0, 1].
        seeds: one an item.

    Returns:
        Axes, device and dtype of the latents.

    Raises:
        BatchError: not one seed an item.
        NoiseLevelError: t is outside [0, 1].

    >>> add_noise(torch.ones(1, 2), noise_level=0.0, seeds=[0]).tolist()
    [[1.0, 1.0]]
    """
    if not 0 <= noise_level <= 1:
        raise NoiseLevelError(noise_level)
    if len(seeds) != len(latents):
        raise BatchError(images=len(latents), seeds=len(seeds))
    noise = torch.stack(
        [torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )
    return (1 - noise_level) * latents + noise_level * noise.to(latents)


def _nearest_multiple(side: int, cell: int) -> int:
    return max(1, round(side / cell)) * cell
