"""What heatmap, point and mask become when the sentence is asked or read in another way (C5, C6, C10, C12).

Every way of asking has the same pictures and the same noise, so differences are paired.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refam_analysis.analysis.localisation import average_precision, maps_of_tokens
from refam_analysis.analysis.regions import tokens_on
from refam_analysis.analysis.sharpness import background_clusters
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.evaluation.metrics import mask_ious, points_on
from refam_analysis.experiments.magnet_conditions import OTHER_WORDS
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS, make_prompt
from refam_analysis.recording import Recording
from refam_analysis.segmentation.finish import finished_values
from refam_analysis.segmentation.heatmap import ContentWord, content_words, heatmaps
from refam_analysis.segmentation.pipeline import record_for_heatmaps
from refam_analysis.segmentation.point import peaks
from refam_analysis.segmentation.segmenters import Segmenter
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.segmentation.spatial_bias import DEFAULT_STRENGTH

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """One way of asking and reading, for a batch of scenes.

    Attributes:
        precision: (scene,), average precision of the heatmap against the target's mask.
        hit: (scene,), 1.0 where the point is on the target.
        overlap: (scene,), IoU of the mask.
        cluster: (scene,), mean number of image tokens in a cluster of activation off the target; NaN where there is
            none.
    """

    precision: Floats
    hit: Floats
    overlap: Floats
    cluster: Floats


def about_readings(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    settings: HeatmapSettings,
    segmenter: Segmenter,
    *,
    seeds: Sequence[int],
) -> dict[str, Floats]:
    """What the criteria about words, magnets, noun phrase and spatial bias ask of a batch of scenes.

    Args:
        model: from ``load_model``.
        items: the scenes.
        settings: how heatmaps are read; noun phrase, upsampling and spatial bias are switched here.
        segmenter: asked for the masks.
        seeds: of each item's noise, and of its control words.

    Returns:
        Criterion, or criterion with ``_control`` -> (scene,), turned as the rules say.
    """
    settings = settings.attention_alone
    asked: dict[str, list[tuple[str, ...]]] = {
        "plain": [() for _ in items],
        "magnets": [DEFAULT_MAGNETS for _ in items],
        "other words": [other_words(item.expression, seed) for item, seed in zip(items, seeds, strict=True)],
    }
    groups = {
        name: record_for_heatmaps(
            model,
            [item.shown for item in items],
            [make_prompt(item.expression, words) for item, words in zip(items, appended, strict=True)],
            settings,
            seeds=seeds,
        )
        for name, appended in asked.items()
    }
    heat = {name: _heat(recordings, settings) for name, recordings in groups.items()}
    stop = [content_words(group[0].tokens, kinds=("content", "stop")) for group in groups["plain"]]
    heat["stop words read"] = _heat(groups["plain"], settings, stop)
    heat["noun phrase"] = _heat(groups["plain"], dataclasses.replace(settings, noun_phrase=True))
    heat["spatial bias"] = _heat(groups["plain"], dataclasses.replace(settings, spatial_bias=DEFAULT_STRENGTH))
    found = _judged(heat, items, segmenter)
    plain, magnets, others = (found[name] for name in asked)
    surplus = [surplus_of_stop_words(group, item) for group, item in zip(groups["plain"], items, strict=True)]
    return {
        "c5_surplus": np.array(surplus),
        "c5_filtering": plain.precision - found["stop words read"].precision,
        "c6_clusters": plain.cluster - magnets.cluster,
        "c6_clusters_control": plain.cluster - others.cluster,
        "c6_sharper": magnets.precision - plain.precision,
        "c6_sharper_control": others.precision - plain.precision,
        "c10_magnets": magnets.overlap - plain.overlap,
        "c10_noun_phrase": found["noun phrase"].overlap - plain.overlap,
        "c10_spatial_bias": found["spatial bias"].overlap - plain.overlap,
        "c12_magnets": magnets.hit - plain.hit,
        "c12_noun_phrase": found["noun phrase"].hit - plain.hit,
    }


def other_words(expression: str, seed: int) -> tuple[str, ...]:
    """As many words that mean something as the expression would get magnets, none of its own among them.

    They are drawn otherwise than `magnet_conditions` draws them from the same words: the committed ledger was measured
    with these.

    Args:
        expression: the sentence.
        seed: of the draw.

    >>> len(other_words("the red circle", 0)), "circle" in other_words("the red circle", 0)
    (8, False)
    """
    named = {word.text for word in make_prompt(expression).words}
    pool = [word for word in OTHER_WORDS if word not in named]
    number = min(len(pool), len(make_prompt(expression, DEFAULT_MAGNETS).magnets))
    return tuple(np.random.default_rng(seed).permutation(pool)[:number].tolist())


def surplus_of_stop_words(recordings: Sequence[Recording], item: GroundingItem) -> float:
    """The logarithm of what a background patch gives to a stop word's token over what it gives to a content token.

    Args:
        recordings: of the sentence without magnets, with ``image_to_text``; of the first, in the blocks it has.
        item: the scene; background is what no object covers.

    Returns:
        NaN for a sentence without stop words, or a recording of text queries alone.
    """
    recording = recordings[0]
    if "image_to_text" not in recording or not any(token.kind == "stop" for token in recording.tokens):
        return float("nan")
    background = ~tokens_on(item.masks.any(axis=0), recording.layout.grid)
    means = [
        float(maps_of_tokens(recording, kinds=(kind,)).mean(["step", "block", "token"]).values[background].mean())
        for kind in ("stop", "content")
    ]
    return float(np.log(means[0] / means[1]))


def _heat(
    groups: Sequence[Sequence[Recording]],
    settings: HeatmapSettings,
    words: Sequence[Sequence[ContentWord]] | None = None,
) -> Floats:
    """(scene, y, x), read from some words, or from those that the settings say."""
    maps = heatmaps(groups, [settings], words)[:, 0].double().numpy().reshape(len(groups), 1, *groups[0][0].layout.grid)
    pairs = zip(maps, groups, strict=True)
    return np.concatenate([finished_values(own, settings, group[0]) for own, group in pairs])


def _judged(heat: Mapping[str, Floats], items: Sequence[GroundingItem], segmenter: Segmenter) -> dict[str, Reading]:
    """Every way of reading; a picture is encoded once for all of them."""
    numbers: dict[str, list[tuple[float, ...]]] = {name: [] for name in heat}
    for place, item in enumerate(items):
        segmenter.set_image(item.image)
        for name, maps in heat.items():
            numbers[name].append(_numbers(maps[place], item, segmenter))
    return {name: Reading(*np.array(rows).T) for name, rows in numbers.items()}


def _numbers(heat: Floats, item: GroundingItem, segmenter: Segmenter) -> tuple[float, ...]:
    """What :class:`Reading` has of one scene, whose picture the segmenter was given."""
    target = item.masks[item.target]
    (point,) = peaks(heat[None], item.image.shape[:2])
    masks, scores = segmenter.predict([(float(point[0]), float(point[1]))])
    sizes = background_clusters(heat, target)
    return (
        average_precision(heat, target),
        float(points_on([point], [target])[0]),
        float(mask_ious([masks[0, scores[0].argmax()]], [target])[0]),
        float(sizes.mean()) if len(sizes) else float("nan"),
    )
