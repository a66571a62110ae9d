"""The embedded model and the small SAM as files for a page: five graphs, the noise, and what has to be known of them.

Everything that depends on settings is read from them: blocks, heads, direction, normalisation, noise levels and number
of draws decide the graph of the transformer, the rest goes into ``about.json``. What a page cannot do (sinks are
handled in a second pass that is changed) is switched off, and ``about.json`` says so.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from refam_analysis.models.base import Conditioning, DiffusionModel, add_noise
from refam_analysis.models.flux import FluxModel
from refam_analysis.prompts import DEFAULT_MAGNETS, make_prompt
from refam_analysis.recording import record
from refam_analysis.scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES
from refam_analysis.segmentation.heatmap import site_weights
from refam_analysis.segmentation.pipeline import default_settings, segment
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.widgets.browser.graphs import onnx_graph
from refam_analysis.widgets.browser.parts import (
    AttentionPart,
    BrowserModelError,
    PicturePart,
    SegmenterMaskPart,
    SegmenterPicturePart,
    SentencePart,
    positions_as_constants,
)
from refam_analysis.widgets.browser.words import word_tables

SEED = 0
"""Of the noise, as ``segment`` has it; further draws take the seeds after it."""

_EXAMPLE = "the red circle on the left"


@dataclass(frozen=True)
class Attention:
    """The transformer as a page runs it.

    Attributes:
        part: the network.
        settings: how it reads, without what a page cannot do.
        noise: (draw, channel, y, x).
    """

    part: AttentionPart
    settings: HeatmapSettings
    noise: Tensor

    def inputs(self, latents: Tensor, conditioning: Conditioning) -> tuple[Tensor, ...]:
        """What the network is given for a picture and a sentence."""
        return (latents, self.noise, *(conditioning.inputs[name] for name in self.part.text))  # type: ignore[arg-type]


def browser_settings(model: DiffusionModel) -> HeatmapSettings:
    """How the model's heatmaps are read by default, without what a page cannot do: the handling of sinks.

    A noun phrase is found by rules there (``noun_phrase(..., parser="rules")``), for want of a parser.

    Args:
        model: from ``load_model``.
    """
    return dataclasses.replace(default_settings(model), gas="none")


def attention_of(model: DiffusionModel, settings: HeatmapSettings | None = None) -> Attention:
    """The transformer of a model, for a page.

    Args:
        model: a FLUX, such as the embedded model, computed on the CPU in float32.
        settings: None for :func:`browser_settings`.

    Raises:
        BrowserModelError: another family.
    """
    if not isinstance(model, FluxModel):
        raise BrowserModelError(f"A page runs models of the family flux, and this one is {model.family.name}.")
    settings = settings or browser_settings(model)
    height, width = model.default_size
    picture = np.zeros((height, width, 3), np.uint8)
    recording = record(model, picture, _EXAMPLE, noise_level=settings.noise_levels[0], keep=[settings.direction])
    latents, conditioning = model.encode_images([picture]), model.encode_prompts([make_prompt(_EXAMPLE)])
    noise = add_noise(
        torch.zeros(settings.seeds, *latents.shape[1:]), noise_level=1.0, seeds=range(SEED, SEED + settings.seeds)
    )
    layout = model.layouts(latents, conditioning)[0]
    part = AttentionPart(model, settings, site_weights(recording, [settings])[0], layout, tuple(conditioning.inputs))
    return Attention(part.eval(), settings, noise)


def export_model(model: DiffusionModel, sam: Sam, attention: Attention) -> dict[str, bytes]:
    """Write model and segmenter for a page.

    Args:
        model: a FLUX, computed on the CPU in float32.
        sam: the segmenter, likewise.
        attention: from :func:`attention_of`.

    Returns:
        Content by name: ``sentence.onnx``, ``picture.onnx``, ``attention.onnx``, ``segmenter-picture.onnx``,
        ``segmenter-mask.onnx``, ``noise.bin`` (float32) and ``about.json``.

    Raises:
        BrowserModelError: a tokenizer or the transformer is not of the kind that the scripts are written for.
    """
    height, width = model.default_size
    inside = ResizeLongestSide.get_preprocess_shape(height, width, sam.image_encoder.img_size)
    pixels = torch.zeros(1, 3, height, width)
    about = describe(model, sam, attention)
    return {
        "sentence.onnx": _sentence(model),
        "picture.onnx": onnx_graph(PicturePart(model), [pixels], takes=["pixels"], gives=["latents"]),
        "attention.onnx": _attention(model, attention),
        "segmenter-picture.onnx": onnx_graph(
            SegmenterPicturePart(sam, inside), [pixels], takes=["pixels"], gives=["embedding"]
        ),
        "segmenter-mask.onnx": onnx_graph(
            SegmenterMaskPart(sam, inside, (height, width)),
            [torch.zeros(1, *_embedding_shape(sam)), torch.zeros(2)],
            takes=["embedding", "point"],
            gives=["logits", "scores"],
        ),
        "noise.bin": attention.noise.numpy().astype("<f4").tobytes(),
        "about.json": json.dumps(about, separators=(",", ":"), sort_keys=True).encode(),
    }


def describe(model: DiffusionModel, sam: Sam, attention: Attention) -> dict[str, Any]:
    """What the page's scripts have to know of the model; numbers, words and names, as JSON has them."""
    layout = attention.part.layout
    return {
        "name": model.name,
        "size": list(model.default_size),
        "grid": list(layout.grid),
        "textStart": layout.text.start,
        "blocks": len(attention.part.sites),
        "noiseShape": list(attention.noise.shape),
        "seed": SEED,
        "settings": attention.settings.to_dict(),
        "off": [] if default_settings(model).gas == "none" else ["gas"],
        "magnets": list(DEFAULT_MAGNETS),
        "maskChoice": inspect.signature(segment).parameters["mask_choice"].default,
        "maskThreshold": float(sam.mask_threshold),
        "words": word_tables(model),
        "vocabulary": vocabulary(),
    }


def vocabulary() -> Mapping[str, Any]:
    """What scenes can be drawn of in the browser.

    >>> vocabulary()["shapes"][0]
    'circle'
    """
    colours, sizes, backgrounds = ({word: list(of[word]) for word in of} for of in (COLOURS, SIZES, BACKGROUNDS))
    return {"colours": colours, "sizes": sizes, "shapes": list(SHAPES), "backgrounds": backgrounds}


def _sentence(model: DiffusionModel) -> bytes:
    lengths = (model.pipeline.tokenizer_max_length, model.text_length)
    ids = [torch.ones(1, length, dtype=torch.int64) for length in lengths]
    names = ["encoder_hidden_states", "pooled_projections"]
    return onnx_graph(SentencePart(model), ids, takes=["clip_ids", "t5_ids"], gives=names)


def _attention(model: DiffusionModel, attention: Attention) -> bytes:
    conditioning = model.encode_prompts([make_prompt(_EXAMPLE)])
    height, width = model.default_size
    latents = model.encode_images([np.zeros((height, width, 3), np.uint8)])
    inputs = attention.inputs(latents, conditioning)
    arguments = model.arguments(latents, conditioning.inputs, attention.settings.noise_levels[0])
    with positions_as_constants(model, arguments):
        return onnx_graph(
            attention.part,
            inputs,
            takes=["latents", "noise", *attention.part.text],
            gives=["token_maps", "block_maps", "received_from_text", "received_from_image"],
        )


def _embedding_shape(sam: Sam) -> tuple[int, int, int]:
    encoder = sam.prompt_encoder
    return (encoder.embed_dim, *encoder.image_embedding_size)
