"""The whole path: an image and a sentence in, a mask out, with every step on the way kept by name.

What each step does is in its own file; here they follow one another, and nothing is chosen that the settings do not
say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.images import ImageSource, load_image
from refam_analysis.prompts import DEFAULT_MAGNETS, Prompt, make_prompt
from refam_analysis.recording import Recording, record_batch
from refam_analysis.segmentation.gas import SinkHandling, look_for_sinks
from refam_analysis.segmentation.heatmap import content_words, heatmap, token_maps, word_maps
from refam_analysis.segmentation.point import peak
from refam_analysis.segmentation.segmenters import Segmenter, load_segmenter
from refam_analysis.segmentation.settings import Gas, HeatmapSettings


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
            - ``sinks``: the table of :class:`~refam_analysis.segmentation.gas.SinkHandling`; empty where sinks are not
              handled;
            - ``recordings``: tuple of Recording, one a seed, each with a step a noise level; where sinks are handled,
              of the passes in which they are;
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
    gas: Gas | None = None,
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
        gas: what is done to global attention sinks: "none", "suppress" or "redirect", see
            :func:`~refam_analysis.segmentation.gas.handle_sinks`; None for what the settings say.
        seed: of the noise; further draws (``settings.seeds``) take the seeds after it.

    Raises:
        EmptyExpressionError, PromptTooLongError: the expression is empty, or too long with its magnets.
        NoContentWordsError: it holds only stop words.
        ImageError: the image cannot be used.
        HeatmapSettingsError: the settings name blocks or heads that the model does not have.
        NoMagnetsError: the mass of sinks should go onto magnets, and there are none.
        UnknownSegmenterError, SegmenterFolderError: there is no such segmenter.

    Source: RefAM, section 3.
    """
    picture = load_image(image)
    prompt = make_prompt(expression, magnets)
    content_words(model.tokens(prompt))
    settings = settings or default_settings(model)
    settings = settings if gas is None else replace(settings, gas=gas)
    asked = load_segmenter(segmenter)
    stages: dict[str, Any] = {"image": np.array(picture), "prompt": prompt, "settings": settings}
    (handling,) = look_for_sinks(model, [picture], [prompt], settings, seeds=[seed])
    stages["sinks"] = handling.sinks
    (recordings,) = record_for_heatmaps(model, [picture], [prompt], settings, seeds=[seed], handling=[handling])
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
    handling: Sequence[SinkHandling] | None = None,
) -> list[list[Recording]]:
    """Record what heatmaps are read from, a batch of images and sentences in each forward pass.

    Items whose sinks are handled run with those of the same sinks, mostly alone.

    Args:
        model: from ``load_model``.
        images: one an item.
        prompts: one an item.
        settings: noise levels, number of seeds, blocks, direction, and what is done to sinks.
        seeds: of each item's first noise draw.
        keep: what to record; None for the direction of the settings alone.
        handling: what is done about each item's sinks; None to find out as the settings say.

    Returns:
        For each item, a recording a seed, with a step a noise level.
    """
    if handling is None:
        handling = look_for_sinks(model, images, prompts, settings, seeds=seeds)
    groups: list[list[Recording]] = [[] for _ in images]
    for intervention in dict.fromkeys(one.intervention for one in handling):
        items = [item for item, one in enumerate(handling) if one.intervention == intervention]
        for draw in range(settings.seeds):
            batch = record_batch(
                model,
                [images[item] for item in items],
                [prompts[item] for item in items],
                noise_level=settings.noise_levels,
                seeds=[seeds[item] + draw for item in items],
                keep=keep or [settings.direction],
                blocks=settings.recorded_blocks,
                intervention=intervention,
            )
            for item, recording in zip(items, batch, strict=True):
                groups[item].append(recording)
    return groups
