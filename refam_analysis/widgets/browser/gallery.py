"""The pictures that a reader can choose from, and the answers to their own expressions, found when the book is built.

The answers are for readers whose browser cannot run the model, and are found by the package's own pipeline. Each has
the form of an answer of ``static/engine_model.js``, maps as bytes in base64, so that the page shows both alike.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from refam_analysis.models.base import DiffusionModel
from refam_analysis.scenes import SceneOptions, Scenes, SceneSample
from refam_analysis.segmentation.pipeline import segment_expressions
from refam_analysis.segmentation.result import SegmentationResult, run_lengths
from refam_analysis.widgets.browser.export import SEED, Attention
from refam_analysis.widgets.browser.parts import BrowserModelError

SIZE = 60
"""Scenes of the gallery."""
AGREES = 1e-3
"""The most by which a map of the page's network may differ from the recorded one: more, and nothing is written."""
COLUMNS = 10
"""Of the sheet of small pictures."""


def gallery(model: DiffusionModel, number: int = SIZE) -> Scenes:
    """The first scenes of the test split, of the sort that the model is measured on, at the model's own size.

    Args:
        model: says the size of the pictures.
        number: how many.
    """
    options = SceneOptions(objects=(2, 4), shared_attribute=True, style=model.scene_style)
    return Scenes("test", length=number, size=model.default_size[0], options=options, kinds=("attribute", "location"))


def pixels_of(samples: Sequence[SceneSample]) -> bytes:
    """All pictures, RGB, one after the other."""
    return b"".join(np.ascontiguousarray(sample.image).tobytes() for sample in samples)


def sheet(samples: Sequence[SceneSample]) -> bytes:
    """All pictures in one, :data:`COLUMNS` in a row, as WebP: what a reader chooses from before the model is loaded."""
    height, width = samples[0].image.shape[:2]
    rows = -(-len(samples) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * width, rows * height))
    for number, sample in enumerate(samples):
        whole.paste(Image.fromarray(sample.image), (number % COLUMNS * width, number // COLUMNS * height))
    return _webp(np.asarray(whole))


def answers(model: DiffusionModel, attention: Attention, samples: Sequence[SceneSample]) -> list[dict[str, Any]]:
    """What the package answers to the scenes' own expressions, with the default magnets.

    Args:
        model: from ``load_model``.
        attention: the same model as the page runs it; its maps must agree with those of the pipeline.
        samples: the scenes.

    Returns:
        For each, ``picture``, a data: address of it (a page that was opened as a file may read no other pixels), and
        ``answers`` by expression.

    Raises:
        BrowserModelError: the maps do not agree.
    """
    found = []
    for sample in samples:
        texts = [expression.text for expression in sample.expressions]
        results = segment_expressions(model, sample.image, texts, settings=attention.settings, seed=SEED)
        answered = [_answer(result, _received(model, attention, result)) for result in results]
        own = dict(zip(texts, answered, strict=True))
        found.append({"picture": f"data:image/webp;base64,{_base64(_webp(sample.image))}", "answers": own})
    return found


@torch.no_grad()
def _received(
    model: DiffusionModel, attention: Attention, result: SegmentationResult
) -> dict[str, NDArray[np.floating]]:
    """Received mass of the text's tokens, (block, token), as the page's network finds it."""
    latents = model.encode_images([result.stages["image"]])
    inputs = attention.inputs(latents, model.encode_prompts([result.stages["prompt"]]))
    maps, _, *received = attention.part(*inputs)
    recorded = result.stages["token_maps"].values.reshape(maps.shape)
    if (off := float(np.abs(maps.numpy() - recorded).max())) > AGREES:
        raise BrowserModelError(
            f"The maps of the page's network differ from the recorded ones by {off:.2g}, more than {AGREES}: the "
            "transformer computes something that the network leaves out."
        )
    text = attention.part.layout.text
    return {side: one[:, text].numpy() for side, one in zip(("text", "image"), received, strict=True)}


def _answer(result: SegmentationResult, received: dict[str, NDArray[np.floating]]) -> dict[str, Any]:
    stages = result.stages
    (first, *_) = stages["recordings"]
    maps = stages["word_maps"]
    words = zip(maps["text"].values.tolist(), maps["word"].values.tolist(), maps.values, strict=True)
    return {
        "expression": stages["prompt"].expression,
        "text": stages["prompt"].text,
        "magnets": list(stages["prompt"].magnets),
        "tokens": [[token.text, token.word, token.kind, token.word_index] for token in first.tokens],
        "words": [{"text": word, "index": index, **_bytes(values)} for word, index, values in words],
        "heatmap": {"rows": result.heatmap.sizes["y"], "columns": result.heatmap.sizes["x"], **_bytes(result.heatmap)},
        "places": [place.text for place in stages["places"]],
        "point": list(result.point),
        "mask": run_lengths(result.mask)["counts"],
        "score": round(float(stages["scores"][stages["chosen"]]), 4),
        "received": {side: [_bytes(block) for block in blocks] for side, blocks in received.items()},
    }


def _bytes(values: ArrayLike) -> dict[str, Any]:
    """Not negative numbers in 256 steps from 0 to the largest."""
    numbers = np.asarray(values, dtype=np.float64).ravel()
    limit = float(numbers.max()) or 1.0
    steps = np.rint(numbers / limit * 255).astype(np.uint8)
    return {"limit": float(f"{limit:.5g}"), "bytes": _base64(steps.tobytes())}


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    """A picture for the eye, a tenth of its size without loss."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "WEBP", quality=88, method=6)
    return written.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
