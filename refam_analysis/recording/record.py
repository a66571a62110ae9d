"""From an image and a sentence to a Recording: text, image and noise encoded, one forward pass a noise level, recorded.

This composes a model (`models`) with a Recorder. No step is denoised: every noise level starts from the clean image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any

import torch
from PIL import Image

from refam_analysis.models.base import BatchError, DiffusionModel
from refam_analysis.models.images import ImageSource, load_image
from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts import Prompt, make_prompt
from refam_analysis.recording.blocks import find_blocks
from refam_analysis.recording.quantities import DEFAULT_KEEP
from refam_analysis.recording.recorder import Heads, Recorder
from refam_analysis.recording.recording import Recording

SMALL_BYTES = 16 * 2**20
"""Up to this size of the full attention of one item and pass in float32, `full` is kept by default."""

_LIBRARIES = ("refam-analysis", "torch", "diffusers", "transformers")


def record(
    model: DiffusionModel,
    image: ImageSource,
    expression: str,
    *,
    magnets: Sequence[str] = (),
    noise_level: float | Sequence[float] = 0.6,
    seed: int = 0,
    keep: Iterable[str] | None = None,
    blocks: Iterable[int] | None = None,
    heads: Heads = "each",
    dtype: torch.dtype = torch.float32,
) -> Recording:
    """Record what every block attends to, for one image and one expression.

    Args:
        model: from :func:`refam_analysis.load_model`.
        image: path, Pillow image, array or tensor; resized to the model's own size.
        expression: the referring expression.
        magnets: words appended to it.
        noise_level: t of x_t = (1 - t) image + t noise. Several give a step each, all from the clean image and the
            same noise.
        seed: of the noise.
        keep: names of quantities, see :class:`Recording`. By default the two text-image directions, entropy and
            received mass, and `full` for a model as small as the embedded one.
        blocks: numbers of the blocks to keep; all by default.
        heads: "each", or "mean" for the mean of each quantity over heads.
        dtype: of what is kept, torch.float32 or torch.float16.

    Returns:
        Axes ``(step, branch, block, head, ...)``; its ``attrs`` are enough to repeat the run.

    Raises:
        EmptyExpressionError: the expression has no visible character.
        PromptTooLongError: expression and magnets do not fit; nothing is cut.
        ImageError: the image cannot be read or used.
        NoiseLevelError: a noise level is outside [0, 1].
        UnknownQuantityError, UnknownBlockError: `keep` or `blocks` names something that does not exist.

    Example:
        recording = ra.record(ra.load_model("embedded"), "scene.png", "the red circle on the left")
        recording["image_to_text"].sel(block=3).mean("head")
    """
    return record_batch(
        model,
        [image],
        [make_prompt(expression, magnets)],
        noise_level=noise_level,
        seeds=[seed],
        keep=keep,
        blocks=blocks,
        heads=heads,
        dtype=dtype,
    )[0]


@torch.no_grad()
def record_batch(
    model: DiffusionModel,
    images: Sequence[ImageSource],
    prompts: Sequence[Prompt],
    *,
    noise_level: float | Sequence[float] = 0.6,
    seeds: Sequence[int] | None = None,
    keep: Iterable[str] | None = None,
    blocks: Iterable[int] | None = None,
    heads: Heads = "each",
    dtype: torch.dtype = torch.float32,
) -> list[Recording]:
    """Record several images, each with its prompt, in one forward pass a noise level.

    The recordings share memory: to keep a few of many, save or copy them.

    Args:
        model: from :func:`refam_analysis.load_model`.
        images: what :func:`record` takes.
        prompts: one an image, from :func:`make_prompt`.
        noise_level: one for all images, or several for a step each.
        seeds: of the noise, one an image; 0 for all by default.
        keep, blocks, heads, dtype: as for :func:`record`.

    Returns:
        One recording an image, the same as :func:`record` gives, up to the rounding of larger matrix products.

    Raises:
        BatchError: the numbers of images, prompts and seeds differ, or are zero.
        EmptyExpressionError and others: as :func:`record`.
    """
    seeds = [0] * len(images) if seeds is None else list(seeds)
    if not len(images) == len(prompts) == len(seeds) or not images:
        raise BatchError(images=len(images), prompts=len(prompts), seeds=len(seeds))
    levels = [float(noise_level)] if isinstance(noise_level, (int, float)) else [float(level) for level in noise_level]
    if not levels:
        raise BatchError(noise_levels=0)
    pictures = [load_image(image) for image in images]
    latents, conditioning = model.encode_images(pictures), model.encode_prompts(prompts)
    passes = [model.forward_inputs(latents, conditioning, noise_level=level, seeds=seeds) for level in levels]
    keep = default_keep(model.transformer, passes[0].layout) if keep is None else keep
    recorder = Recorder(model.transformer, passes[0].layout, keep, blocks=blocks, heads=heads, dtype=dtype)
    with recorder:
        for inputs in passes:
            model.transformer(**inputs.kwargs)
    described = _describe_run(model)
    return recorder.recordings(
        noise_levels=levels,
        tokens=conditioning.tokens,
        attributes=[
            {**described, **_describe_item(picture, prompt, seed)}
            for picture, prompt, seed in zip(pictures, prompts, seeds, strict=True)
        ],
    )


def default_keep(transformer: torch.nn.Module, layout: TokenLayout) -> tuple[str, ...]:
    """What is kept where nothing is asked for: `full` too, when all of it for one item is under `SMALL_BYTES`."""
    heads = int(getattr(transformer, "config", {}).get("num_attention_heads", 64))
    size = 4 * len(find_blocks(transformer)) * heads * layout.length**2
    return ("full", *DEFAULT_KEEP) if size <= SMALL_BYTES else DEFAULT_KEEP


def _describe_run(model: DiffusionModel) -> dict[str, Any]:
    return {
        "model": model.name,
        "revision": model.revision,
        "family": model.family.name,
        "model_dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "size": list(model.default_size),
        "versions": {name: version for name in _LIBRARIES if (version := _version_of(name))},
    }


def _describe_item(picture: Image.Image, prompt: Prompt, seed: int) -> dict[str, Any]:
    return {
        "prompt": prompt.text,
        "expression": prompt.expression,
        "magnets": list(prompt.magnets),
        "seed": int(seed),
        "image_size": [picture.height, picture.width],
        "image_sha256": hashlib.sha256(picture.tobytes()).hexdigest(),
    }


def _version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
