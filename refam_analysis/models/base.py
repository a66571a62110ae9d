"""What every family of diffusion transformers offers: text, images and noise in, one transformer call out.

A family is one file beside this one: a subclass of :class:`DiffusionModel` and a :class:`Family` that says, as data,
how its transformer is built. Nothing here, nor in the files of the families, records or measures anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import nn

from refam_analysis.models.family import (
    BatchError,
    ClipLengthError,
    Family,
    MissingPartError,
    ModelDefaults,
    ModelSizeError,
    nearest_multiple,
)
from refam_analysis.models.images import MAX_PIXELS, ImageSizeError, ImageSource, load_image
from refam_analysis.models.layout import TokenLayout
from refam_analysis.models.schedules import FlowSchedule, Schedule, check_noise_level
from refam_analysis.prompts import Prompt, Token, make_prompt
from refam_analysis.scenes.sampling import Style

EMPTY_PROMPT = Prompt("", ())
"""The unconditional prompt."""


Batched = torch.Tensor | list[torch.Tensor]
"""One entry an item: along the first axis, or in a list where lengths differ."""


@dataclass(frozen=True)
class Conditioning:
    """A batch of encoded prompts.

    Attributes:
        inputs: what the transformer is given on their account, by the name of its argument.
        tokens: of each prompt, what stands at every position of the text segment.
    """

    inputs: Mapping[str, Batched]
    tokens: tuple[tuple[Token, ...], ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def __add__(self, other: Conditioning) -> Conditioning:
        """The prompts of both, these first."""
        joined = {name: _joined(value, other.inputs[name]) for name, value in self.inputs.items()}
        return Conditioning(joined, self.tokens + other.tokens)


@dataclass(frozen=True)
class ForwardInputs:
    """One call of the transformer: ``model.transformer(**inputs.kwargs)``.

    Attributes:
        kwargs: all its arguments.
        layouts: where text and image stand in the sequence of each item.
        mixture: the noised latents among the arguments, before they were packed.
        noise_level: of them.
    """

    kwargs: Mapping[str, Any]
    layouts: tuple[TokenLayout, ...]
    mixture: torch.Tensor
    noise_level: float

    @property
    def layout(self) -> TokenLayout:
        """The first item's, which is everyone's where the family does not drop padding."""
        return self.layouts[0]


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
    parts: ClassVar[tuple[str, ...]] = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    """Names of the pipeline's parts that are needed."""

    packing: ClassVar[int | None] = None
    """Latents a side that the pipeline packs to one token; None where the transformer cuts its own patches."""

    def __init__(
        self, pipeline: DiffusionPipeline, defaults: ModelDefaults, *, name: str, revision: str | None = None
    ) -> None:
        for part in self.parts:
            if getattr(pipeline, part, None) is None:
                raise MissingPartError(part)
        self.pipeline = pipeline
        self.defaults = defaults
        self.name = name
        self.revision = revision
        self.transformer: nn.Module = pipeline.transformer

    @classmethod
    @abstractmethod
    def pipeline_defaults(cls, pipeline: DiffusionPipeline) -> ModelDefaults:
        """What the family does by itself, where the folder has no ``refam.json``."""

    def transformer_at(self, noise_level: float) -> nn.Module:
        """The transformer that the pipeline runs at a noise level: one for all, but in Wan 2.2 A14B."""
        return self.transformer

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
    def scene_style(self) -> Style:
        """Style of the diagnostic scenes that it knows, and so is measured on where nothing else is asked for."""
        return self.defaults.scenes

    @property
    @abstractmethod
    def schedule(self) -> Schedule:
        """What noise levels are to the model."""

    @property
    def pixels_per_token(self) -> int:
        """Side of the square of pixels that one image token stands for."""
        latents = self.packing or self.pipeline.transformer.config.patch_size
        return int(self.pipeline.vae_scale_factor * latents)

    @property
    def frames_per_latent(self) -> int:
        """How many frames, after the first, the autoencoder makes one of; 1 where there are no clips."""
        return 1

    @abstractmethod
    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """What stands at every position of the text segment.

        Raises:
            PromptTooLongError: the prompt does not fit; nothing is cut.
        """

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> dict[str, Batched]:
        """Texts that are known to fit, as the transformer's arguments; an empty one is the unconditional prompt."""

    @abstractmethod
    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Clean latents, scaled as in training.

        Args:
            pixels: (batch, 3, height, width) in [-1, 1], of a video family (batch, 3, frame, height, width).

        Returns:
            Axes (batch, channel, y, x), with ``frame`` before y for video, on the model's device and of its dtype.
        """

    @abstractmethod
    def layouts(self, latents: torch.Tensor, conditioning: Conditioning) -> tuple[TokenLayout, ...]:
        """Where text and image stand in the sequence of each item."""

    @abstractmethod
    def arguments(self, mixture: torch.Tensor, inputs: Mapping[str, Batched], noise_level: float) -> dict[str, Any]:
        """All arguments of one transformer call.

        Args:
            mixture: noised latents, axes as from ``encode_pixels``.
            inputs: from ``encode_texts``, as many.
            noise_level: of the mixture.
        """

    def call_options(self, text: str, steps: int, guidance: float) -> dict[str, Any]:
        """What the pipeline's own call is told beside text, size, steps and seed: here the strength of guidance.

        Args:
            text: the prompt; empty for an unconditional picture.
            steps: denoising steps.
            guidance: strength; 1 is none.
        """
        return {"guidance_scale": guidance}

    def generate(
        self, prompt: str, *, seed: int = 0, steps: int | None = None, guidance: float | None = None
    ) -> Image.Image | list[Image.Image]:
        """Draw a picture, or the frames of a clip: the pipeline's own call, at the model's own size and prompt length.

        Args:
            prompt: the text; empty for an unconditional picture.
            seed: of the noise that it starts from.
            steps: denoising steps; the model's default when left out.
            guidance: strength; the model's default when left out.

        Raises:
            PromptTooLongError: the prompt does not fit; nothing is cut.
        """
        whole = make_prompt(prompt) if prompt.strip() else EMPTY_PROMPT
        self.tokens(whole)
        steps, guidance = steps or self.defaults.steps, self.defaults.guidance if guidance is None else guidance
        height, width = self.default_size
        drawn = self.pipeline(**{
            "prompt": whole.text, "height": height, "width": width, "num_inference_steps": steps,
            "max_sequence_length": self.text_length, "generator": torch.Generator().manual_seed(seed),
            "output_type": "pil", **({"num_frames": self.defaults.frames} if self.family.is_video else {}),
            **self.call_options(whole.text, steps, guidance),
        })  # fmt: skip
        return list(drawn.frames[0]) if self.family.is_video else drawn.images[0]

    def predicted(self, output: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
        """The transformer's output with the axes of the mixture; channels beyond its own (a variance) are left out."""
        return output[:, : mixture.shape[1]]

    def guided(self, conditional: torch.Tensor, unconditional: torch.Tensor, guidance: float) -> torch.Tensor:
        """Classifier-free guidance: the unconditional prediction, and so many times the way to the conditional one."""
        return unconditional + guidance * (conditional - unconditional)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[Prompt]) -> Conditioning:
        """Encode a batch of prompts.

        Raises:
            PromptTooLongError: one does not fit; nothing is cut.
        """
        tokens = tuple(self.tokens(prompt) for prompt in prompts)
        return Conditioning(self.encode_texts([prompt.text for prompt in prompts]), tokens)

    @torch.no_grad()
    def encode_empty(self, number: int) -> Conditioning:
        """The unconditional prompt of classifier-free guidance, once an item."""
        return Conditioning(self.encode_texts([""] * number), (self.tokens(EMPTY_PROMPT),) * number)

    @torch.no_grad()
    def encode_images(
        self, images: Sequence[ImageSource | Sequence[ImageSource]], *, size: tuple[int, int] | None = None
    ) -> torch.Tensor:
        """Clean latents, scaled as in training.

        Args:
            images: anything that :func:`~refam_analysis.models.images.load_image` reads; for a video family also
                clips, each a sequence of such frames.
            size: height and width that all are resized to, multiples of ``pixels_per_token``; ``default_size`` when
                left out. ``own_size(image)`` is the one that keeps a picture's own resolution and shape.

        Returns:
            Axes (batch, channel, y, x), with ``frame`` before y for video, on the model's device and of its dtype.

        Raises:
            ImageError: one cannot be read or used.
            ModelSizeError: the size does not cut into tokens.
            BatchError, ClipLengthError: clips of different lengths, or of one that the autoencoder cannot take.
        """
        if not self.family.is_video:
            return self.encode_pixels(self._pixels([_picture(image) for image in images], size))
        clips = [_frames(image) for image in images]
        lengths = {len(clip) for clip in clips}
        if len(lengths) != 1:
            raise BatchError(**{f"frames in clip {i}": len(clip) for i, clip in enumerate(clips)})
        (frames,) = lengths
        if (frames - 1) % self.frames_per_latent or not frames:
            raise ClipLengthError(frames, self.frames_per_latent)
        pixels = self._pixels([frame for clip in clips for frame in clip], size)
        return self.encode_pixels(pixels.unflatten(0, (len(clips), frames)).transpose(1, 2))

    def noised(self, latents: torch.Tensor, *, noise_level: float, seeds: Sequence[int]) -> torch.Tensor:
        """Latents with noise, in the scale that the model was trained with.

        Args:
            latents: clean, from ``encode_images``.
            noise_level: t in [0, 1].
            seeds: one an item. An item's noise depends on its seed alone, not on the batch, the device or the dtype.

        Raises:
            BatchError, NoiseLevelError: as for :func:`add_noise`.
        """
        on_device = latents.to(self.device, self.dtype)
        return add_noise(on_device, noise_level=noise_level, seeds=seeds, schedule=self.schedule)

    def inputs_of(self, mixture: torch.Tensor, conditioning: Conditioning, *, noise_level: float) -> ForwardInputs:
        """The arguments of one transformer call on latents, as from ``encode_images``, that are noised already.

        Raises:
            BatchError: the numbers of latents and prompts differ.
            NoiseLevelError: t is outside [0, 1].
        """
        if len(mixture) != len(conditioning):
            raise BatchError(images=len(mixture), prompts=len(conditioning))
        arguments = self.arguments(mixture, conditioning.inputs, check_noise_level(noise_level))
        return ForwardInputs(arguments, self.layouts(mixture, conditioning), mixture, noise_level)

    def forward_inputs(
        self, latents: torch.Tensor, conditioning: Conditioning, *, noise_level: float, seeds: Sequence[int]
    ) -> ForwardInputs:
        """The arguments of one transformer call on latents that this adds noise to: ``noised``, then ``inputs_of``.

        Raises:
            BatchError, NoiseLevelError: as those two.
        """
        if len(latents) != len(conditioning):
            raise BatchError(images=len(latents), prompts=len(conditioning))
        mixture = self.noised(latents, noise_level=noise_level, seeds=seeds)
        return self.inputs_of(mixture, conditioning, noise_level=noise_level)

    def own_size(self, image: Image.Image) -> tuple[int, int]:
        """The multiple of ``pixels_per_token`` nearest to the picture's own size: (height, width)."""
        height, width = (nearest_multiple(side, self.pixels_per_token) for side in (image.height, image.width))
        return height, width

    def _pixels(self, images: Sequence[ImageSource], size: tuple[int, int] | None) -> torch.Tensor:
        """Pictures as the autoencoder takes them: (batch, 3, height, width) in [-1, 1], float32 on the CPU."""
        height, width = size or self.default_size
        if height < 1 or width < 1 or height % self.pixels_per_token or width % self.pixels_per_token:
            raise ModelSizeError((height, width), self.pixels_per_token)
        if height * width > MAX_PIXELS:
            raise ImageSizeError(width, height)
        pictures = [load_image(image) for image in images]
        resized = [picture.resize((width, height), Image.Resampling.LANCZOS) for picture in pictures]
        stacked = torch.stack(
            [torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8) for picture in resized]
        )
        return stacked.view(-1, height, width, 3).permute(0, 3, 1, 2).float() / 127.5 - 1


def add_noise(
    latents: torch.Tensor, *, noise_level: float, seeds: Sequence[int], schedule: Schedule | None = None
) -> torch.Tensor:
    """Image and noise at a noise level, standard normal noise from one CPU generator an item.

    Args:
        latents: clean, axes (batch, ...).
        noise_level: t in [0, 1].
        seeds: one an item; every whole number is one.
        schedule: None for flow matching's x_t = (1 - t) image + t noise.

    Returns:
        Axes, device and dtype of the latents.

    Raises:
        BatchError: not one seed an item.
        NoiseLevelError: t is outside [0, 1].

    >>> add_noise(torch.ones(1, 2), noise_level=0.0, seeds=[0]).tolist()
    [[1.0, 1.0]]
    """
    image_scale, noise_scale = (schedule or FlowSchedule()).scales(check_noise_level(noise_level))
    if len(seeds) != len(latents):
        raise BatchError(images=len(latents), seeds=len(seeds))
    noise = torch.stack(
        [torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(seed % 2**64)) for seed in seeds]
    )
    return image_scale * latents + noise_scale * noise.to(latents)


def _joined(first: Batched, second: Batched) -> Batched:
    if isinstance(first, list) or isinstance(second, list):
        return [*first, *second]
    return torch.cat((first, second))


def _frames(image: ImageSource | Sequence[ImageSource]) -> Sequence[ImageSource]:
    return [image] if isinstance(image, str | Path | Image.Image | np.ndarray | torch.Tensor) else image


def _picture(image: ImageSource | Sequence[ImageSource]) -> ImageSource:
    frames = _frames(image)
    if len(frames) != 1:
        raise ClipLengthError(len(frames), 1)
    return frames[0]
