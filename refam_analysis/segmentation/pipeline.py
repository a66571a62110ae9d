"""The whole path: an image and sentences in, masks out, with every step on the way kept by name.

What each step does is in its own file; here they follow one another, and nothing is chosen that the settings do not
say. Sentences about one image share all that does not depend on the sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from refam_analysis.errors import RefamError
from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.images import ImageSource, load_image
from refam_analysis.prompts import DEFAULT_MAGNETS, Prompt, make_prompt
from refam_analysis.recording import Recording, record_batch
from refam_analysis.segmentation.asked import phrase_of
from refam_analysis.segmentation.finish import places_of, prior, upsampled
from refam_analysis.segmentation.gas import SinkHandling, look_for_sinks
from refam_analysis.segmentation.heatmap import content_words, sentence_maps
from refam_analysis.segmentation.informative import with_numbered_blocks
from refam_analysis.segmentation.mask_choice import MASK_CHOICES, MaskChoice, choose_mask
from refam_analysis.segmentation.point import peak
from refam_analysis.segmentation.remembering import remembering
from refam_analysis.segmentation.result import SegmentationResult
from refam_analysis.segmentation.segmenters import Segmenter, load_segmenter_for
from refam_analysis.segmentation.settings import Gas, HeatmapSettings
from refam_analysis.segmentation.spatial_bias import DEFAULT_STRENGTH


class ExpressionsError(RefamError, TypeError):
    """One sentence stands where several should."""

    def __init__(self, expressions: str) -> None:
        super().__init__(f"expressions={expressions!r} is one sentence: give a list of them, or call segment.")


class MaskChoiceError(RefamError, ValueError):
    """There is no such way to choose among a segmenter's masks."""

    def __init__(self, mask_choice: object) -> None:
        super().__init__(f"mask_choice={mask_choice!r} is unknown: choose {' or '.join(MASK_CHOICES)}.")


def segment(
    model: DiffusionModel,
    image: ImageSource,
    expression: str,
    *,
    magnets: Sequence[str] = DEFAULT_MAGNETS,
    segmenter: str | Path | Segmenter | None = None,
    settings: HeatmapSettings | None = None,
    gas: Gas | None = None,
    noun_phrase: bool | None = None,
    spatial_bias: bool | float | None = None,
    mask_choice: MaskChoice = "score",
    seed: int = 0,
) -> SegmentationResult:
    """Find the object that a sentence refers to.

    The magnets are appended to the expression, the noised image runs through the transformer once for each noise level
    and draw, the content words' attention becomes a heatmap, its peak a point, and one of the segmenter's answers to
    the point is the mask.

    Args:
        model: from ``load_model``.
        image: anything that ``load_image`` reads; the model sees it resized to its own size.
        expression: what to look for, such as "the red circle on the left".
        magnets: appended to the expression and never read; ``()`` for none. Colours that the expression names are left
            out of them.
        segmenter: what ``load_segmenter`` takes, computed where the model is, but those that ship on the CPU; None for
            the one that ships for the scenes that the model knows. To load one once for many calls, give the loaded
            one, which stays where it is.
        settings: how the heatmap is read; None for what the model brings, or else the documented defaults.
        gas: what is done to global attention sinks: "none", "suppress" or "redirect", see
            :func:`~refam_analysis.segmentation.gas.handle_sinks`; None for what the settings say.
        noun_phrase: whether only the words of the expression's noun phrase are read, see
            :func:`~refam_analysis.segmentation.heatmap.words_to_read`; None for what the settings say.
        spatial_bias: strength, from 0 (off) to 1, of the prior that words of place put on the heatmap, see
            :func:`~refam_analysis.segmentation.spatial_bias.spatial_bias`. True for the settings' strength, or for
            ``DEFAULT_STRENGTH`` where they have it off; None for what the settings say.
        mask_choice: among the segmenter's candidates: "score", the highest guess of its IoU, or "agreement", the one
            that the heatmap agrees with most, see :mod:`refam_analysis.segmentation.mask_choice`.
        seed: of the noise; further draws (``settings.seeds``) take the seeds after it.

    Returns:
        Mask, point and heatmap, with every intermediate in ``stages``.

    Raises:
        EmptyExpressionError, PromptTooLongError: the expression is empty, or too long with its magnets.
        NoContentWordsError: it holds only stop words.
        ImageError: the image cannot be used.
        HeatmapSettingsError: the settings mean nothing, or name blocks or heads that the model does not have.
        NoMagnetsError: the mass of sinks should go onto magnets, and there are none.
        UnknownSegmenterError, SegmenterFolderError: there is no such segmenter.
        MaskChoiceError: there is no such choice.

    Source: RefAM, section 3; the switches are those of its ablation.
    """
    (result,) = segment_expressions(
        model, image, [expression], magnets=magnets, segmenter=segmenter, settings=settings, gas=gas,
        noun_phrase=noun_phrase, spatial_bias=spatial_bias, mask_choice=mask_choice, seed=seed,
    )  # fmt: skip
    return result


def segment_expressions(
    model: DiffusionModel,
    image: ImageSource,
    expressions: Sequence[str],
    *,
    magnets: Sequence[str] = DEFAULT_MAGNETS,
    segmenter: str | Path | Segmenter | None = None,
    settings: HeatmapSettings | None = None,
    gas: Gas | None = None,
    noun_phrase: bool | None = None,
    spatial_bias: bool | float | None = None,
    mask_choice: MaskChoice = "score",
    seed: int = 0,
    batch_size: int = 16,
) -> list[SegmentationResult]:
    """Find the objects that several sentences about one image refer to.

    The image is read once, encoded once by the model and once by the segmenter, and the sentences run through the
    transformer together. All have the same noise, that of ``seed``, so that each result is what :func:`segment` gives
    for its sentence alone, but for the rounding of matrix products (heatmaps agree to about 1e-5 of their largest
    value in float32).

    Args:
        model: from ``load_model``.
        image: as for :func:`segment`.
        expressions: what to look for; repeated ones are answered each.
        batch_size: sentences a forward pass. Recordings of all of them are held, in the results.
        magnets, segmenter, settings, gas, noun_phrase, spatial_bias, mask_choice, seed: as :func:`segment` takes them,
            for every sentence alike.

    Returns:
        One result an expression, in their order.

    Raises:
        ExpressionsError: a single string.

    The other errors are those of :func:`segment`; all sentences are checked before anything is computed.
    """
    if isinstance(expressions, str):
        raise ExpressionsError(expressions)
    picture = load_image(image)
    prompts = [make_prompt(expression, magnets) for expression in expressions]
    for prompt in prompts:
        content_words(model.tokens(prompt))
    settings = chosen_settings(model, settings, gas=gas, noun_phrase=noun_phrase, spatial_bias=spatial_bias)
    if mask_choice not in MASK_CHOICES:
        raise MaskChoiceError(mask_choice)
    asked, encoding = load_segmenter_for(model, segmenter), remembering(model)
    found: list[dict[str, Any]] = []
    for first in range(0, len(prompts), batch_size):
        found += _read(encoding, picture, prompts[first : first + batch_size], settings, seed)
    return masked(found, picture, asked, mask_choice)


def chosen_settings(
    model: DiffusionModel,
    settings: HeatmapSettings | None = None,
    *,
    gas: Gas | None = None,
    noun_phrase: bool | None = None,
    spatial_bias: bool | float | None = None,
) -> HeatmapSettings:
    """The settings that a call of :func:`segment` with these arguments reads heatmaps with; blocks have numbers.

    Args:
        model: whose own settings fill what is not given.
        settings: all of them, or None.
        gas: what is done to sinks, in the place of theirs.
        noun_phrase: the switch NP, likewise.
        spatial_bias: the switch SB, likewise: on, off, or a strength in [0, 1].

    Returns:
        Complete settings; what was not given is the model's own choice.

    Raises:
        HeatmapSettingsError: an argument means nothing.
    """
    base = default_settings(model) if settings is None else with_numbered_blocks(model, settings)
    if isinstance(spatial_bias, bool):
        spatial_bias = (base.spatial_bias or DEFAULT_STRENGTH) if spatial_bias else 0.0
    given = {"gas": gas, "noun_phrase": noun_phrase, "spatial_bias": spatial_bias}
    return replace(base, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def default_settings(model: DiffusionModel) -> HeatmapSettings:
    """How heatmaps are read from a model where the caller does not say.

    Args:
        model: of any family.

    Returns:
        What was found best for it on validation scenes and is written in its ``refam.json``; the defaults of
        :class:`~refam_analysis.segmentation.settings.HeatmapSettings` where there is no such file.

    Raises:
        HeatmapSettingsError: the file says something that means nothing.
    """
    return with_numbered_blocks(model, HeatmapSettings.from_dict(model.defaults.grounding))


def record_for_heatmaps(
    model: DiffusionModel,
    images: Sequence[ImageSource | Sequence[ImageSource]],
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
        images: one an item, or the frames of a clip.
        prompts: one an item.
        settings: noise levels, number of seeds, blocks, direction, and what is done to sinks.
        seeds: of each item's first noise draw.
        keep: what to record; None for the direction of the settings alone.
        handling: what is done about each item's sinks; None to find out as the settings say.

    Returns:
        For each item, a recording a seed, with a step a noise level.
    """
    encoding = remembering(model)
    if handling is None:
        handling = look_for_sinks(encoding, images, prompts, settings, seeds=seeds)
    groups: list[list[Recording]] = [[] for _ in images]
    for intervention in dict.fromkeys(one.intervention for one in handling):
        items = [item for item, one in enumerate(handling) if one.intervention == intervention]
        for draw in range(settings.seeds):
            batch = record_batch(
                encoding,
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


def _read(
    model: DiffusionModel, picture: Image.Image, prompts: Sequence[Prompt], settings: HeatmapSettings, seed: int
) -> list[dict[str, Any]]:
    """The stages of some sentences, up to the point."""
    pictures, seeds = [picture] * len(prompts), [seed] * len(prompts)
    handling = look_for_sinks(model, pictures, prompts, settings, seeds=seeds)
    groups = record_for_heatmaps(model, pictures, prompts, settings, seeds=seeds, handling=handling)
    return stages_to_point(groups, prompts, handling, settings, size=(picture.height, picture.width))


def stages_to_point(
    groups: Sequence[Sequence[Recording]],
    prompts: Sequence[Prompt],
    handling: Sequence[SinkHandling],
    settings: HeatmapSettings,
    *,
    size: tuple[int, int],
) -> list[dict[str, Any]]:
    """What recordings become, up to the point: everything between the last forward pass and the segmenter.

    Args:
        groups: for each sentence its recordings, one a seed, as from :func:`record_for_heatmaps`. They may hold more
            than the settings read.
        prompts: one a sentence.
        handling: what was done about each one's sinks.
        settings: how all are read, with numbers for blocks.
        size: (height, width) of the picture in pixels.

    Returns:
        For each sentence the stages from ``prompt`` to ``point``, see
        :class:`~refam_analysis.segmentation.result.SegmentationResult`.

    The errors are those of :func:`~refam_analysis.segmentation.heatmap.word_maps`.
    """
    stages = []
    for prompt, one, recordings, maps in zip(prompts, handling, groups, sentence_maps(groups, settings), strict=True):
        before = upsampled(_first_frame(maps.patch_heatmap), settings.upsampling)
        bias = prior(before, settings, prompt.expression)
        heatmap = before * bias if settings.spatial_bias else before
        stages.append(
            {
                "prompt": prompt,
                "settings": settings,
                "noun_phrase": phrase_of(prompt.expression) if settings.noun_phrase else None,
                "places": places_of(prompt.expression) if settings.spatial_bias else (),
                "sinks": one.sinks,
                "recordings": tuple(recordings),
                **maps._asdict(),
                "heatmap_before_bias": before,
                "spatial_bias": bias,
                "heatmap": heatmap,
                "point": peak(heatmap, size),
            }
        )
    return stages


def masked(
    found: Sequence[dict[str, Any]], picture: Image.Image, segmenter: Segmenter, mask_choice: MaskChoice = "score"
) -> list[SegmentationResult]:
    """The results of some sentences: the segmenter is given the image once, and all points together.

    Args:
        found: from :func:`stages_to_point`.
        picture: what all sentences are about.
        segmenter: a loaded one.
        mask_choice: as for :func:`segment`.
    """
    if not found:
        return []
    pixels = np.array(picture)
    segmenter.set_image(pixels)
    masks, scores = segmenter.predict([stages["point"] for stages in found])
    results = []
    for stages, candidates, guesses in zip(found, masks, scores, strict=True):
        chosen = choose_mask(candidates, guesses, stages["heatmap"], by=mask_choice)
        answer = {"masks": candidates, "scores": guesses, "chosen": chosen, "mask": candidates[chosen]}
        whole = {"image": pixels, **stages, **answer}
        results.append(SegmentationResult(whole["mask"], whole["point"], whole["heatmap"], whole))
    return results


def _first_frame(maps: xr.DataArray) -> xr.DataArray:
    """The map itself, or where a video family saw the image as a clip, that of its first frame."""
    return maps.isel(frame=0, drop=True) if "frame" in maps.dims else maps
