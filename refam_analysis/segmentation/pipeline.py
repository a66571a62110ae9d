"""The whole path: an image and a sentence in, a mask out, with every step on the way kept by name.

What each step does is in its own file; here they follow one another, and nothing is chosen that the settings do not
say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.images import ImageSource, load_image
from refam_analysis.prompts import DEFAULT_MAGNETS, Prompt, make_prompt
from refam_analysis.recording import Recording, record_batch
from refam_analysis.segmentation.heatmap import content_words, heatmap, token_maps, word_maps
from refam_analysis.segmentation.point import peak
from refam_analysis.segmentation.segmenters import Segmenter, load_segmenter
from refam_analysis.segmentation.settings import HeatmapSettings


@dataclass(frozen=True)
class SegmentationResult:
    """What :func:`segment` found.

    Attributes:
        mask: bool (height, width), of the given image.
        point: (x, y) in pixels of the given image, SAM's convention: whole numbers are the middles of pixels.
        heatmap: axes (y, x), one value a patch of the model.
        stages: every intermediate, by name, in the order in which they came about:

            - ``image``: uint8 (height, width, 3), as it was read;
            - ``prompt``: :class:`~refam_analysis.prompts.Prompt`, the expression with its magnets;
            - ``settings``: :class:`~refam_analysis.segmentation.settings.HeatmapSettings`;
            - ``recordings``: tuple of Recording, one a seed, each with a step a noise level;
            - ``token_maps``: axes (token, y, x), all tokens of the text, with their kinds;
            - ``word_maps``: axes (word, y, x), the content words alone;
            - ``heatmap``, ``point``: as above;
            - ``masks``: bool (candidate, height, width), and ``scores`` (candidate,), the segmenter's guesses of IoU;
            - ``mask``: the candidate with the highest score.
    """

    mask: NDArray[np.bool_]
    point: tuple[float, float]
    heatmap: xr.DataArray
    stages: Mapping[str, Any]


def segment(
    model: DiffusionModel,
    image: ImageSource,
    expression: str,
    *,
    magnets: Sequence[str] = DEFAULT_MAGNETS,
    segmenter: str | Path | Segmenter = "embedded",
    settings: HeatmapSettings | None = None,
    seed: int = 0,
) -> SegmentationResult:
    """Find the object that a sentence refers to.

    The magnets are appended to the expression, the noised image runs through the transformer once for each noise
    level, the content words' attention becomes a heatmap, its peak a point, and the segmenter's best answer to the
    point is the mask.

    Args:
        model: from ``load_model``.
        image: anything that ``load_image`` reads; the model sees it resized to its own size.
        expression: what to look for, such as "the red circle on the left".
        magnets: appended to the expression and never read; ``()`` for none.
        segmenter: what ``load_segmenter`` takes. To load one once for many calls, give the loaded one.
        settings: how the heatmap is read; None for what the model brings, or else the documented defaults.
        seed: of the noise; further draws (``settings.seeds``) take the seeds after it.

    Raises:
        EmptyExpressionError, PromptTooLongError: the expression is empty, or too long with its magnets.
        NoContentWordsError: it holds only stop words.
        ImageError: the image cannot be used.
        HeatmapSettingsError: the settings name blocks or heads that the model does not have.
        UnknownSegmenterError, SegmenterFolderError: there is no such segmenter.

    Source: RefAM, section 3.
    """
    picture = load_image(image)
    prompt = make_prompt(expression, magnets)
    content_words(model.tokens(prompt))
    settings = settings or default_settings(model)
    asked = load_segmenter(segmenter)
    (recordings,) = record_for_heatmaps(model, [picture], [prompt], settings, seeds=[seed])
    stages: dict[str, Any] = {"image": np.array(picture), "prompt": prompt, "settings": settings}
    stages["recordings"] = tuple(recordings)
    stages["token_maps"] = token_maps(recordings, settings)
    stages["word_maps"] = word_maps(recordings, settings)
    stages["heatmap"] = heatmap(recordings, settings)
    stages["point"] = peak(stages["heatmap"], (picture.height, picture.width))
    asked.set_image(stages["image"])
    masks, scores = asked.predict([stages["point"]])
    stages["masks"], stages["scores"] = masks[0], scores[0]
    stages["mask"] = masks[0, scores[0].argmax()]
    return SegmentationResult(stages["mask"], stages["point"], stages["heatmap"], stages)


def default_settings(model: DiffusionModel) -> HeatmapSettings:
    """How heatmaps are read from a model where the caller does not say.

    Returns:
        What was found best for it on validation scenes and is written in its ``refam.json``; the defaults of
        :class:`~refam_analysis.segmentation.settings.HeatmapSettings` where there is no such file.

    Raises:
        HeatmapSettingsError: the file says something that means nothing.
    """
    return HeatmapSettings.from_dict(model.defaults.grounding)


def record_for_heatmaps(
    model: DiffusionModel,
    images: Sequence[ImageSource],
    prompts: Sequence[Prompt],
    settings: HeatmapSettings,
    *,
    seeds: Sequence[int],
    keep: Sequence[str] | None = None,
) -> list[list[Recording]]:
    """Record what heatmaps are read from, a batch of images and sentences in each forward pass.

    Args:
        model: from ``load_model``.
        images: one an item.
        prompts: one an item.
        settings: noise levels, number of seeds, blocks and direction.
        seeds: of each item's first noise draw.
        keep: what to record; None for the direction of the settings alone.

    Returns:
        For each item, a recording a seed, with a step a noise level.
    """
    groups: list[list[Recording]] = [[] for _ in images]
    for draw in range(settings.seeds):
        batch = record_batch(
            model,
            images,
            prompts,
            noise_level=settings.noise_levels,
            seeds=[seed + draw for seed in seeds],
            keep=keep or [settings.direction],
            blocks=settings.recorded_blocks,
        )
        for group, recording in zip(groups, batch, strict=True):
            group.append(recording)
    return groups
