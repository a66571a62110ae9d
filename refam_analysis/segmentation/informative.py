"""The blocks that a model's entropy calls informative, for settings that say so instead of naming numbers.

One picture cannot tell: a change point needs scenes that agree. So a model is asked once, about a few scenes that the
package draws, and the answer is kept for its weights. The change point itself is in
:mod:`refam_analysis.analysis.change_point`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from refam_analysis.analysis.change_point import ChangePointError, change_point
from refam_analysis.analysis.entropy_directions import entropy_profile_of
from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.fingerprint import transformers_fingerprint
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import Recording, record_batch
from refam_analysis.scenes import SceneOptions, Scenes
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.settings import Direction, HeatmapSettings

CALIBRATION_SCENES = 12
"""Of the validation split. So many sign flips of scenes can all be tried, so that the test has nothing random."""
LARGEST_SCENE = 512
"""Pixels a side at which scenes are drawn; a larger model sees them enlarged."""

_BATCH = 4

_found: dict[tuple[str, Style, Direction, tuple[float, ...]], tuple[int, ...]] = {}
"""What models have answered in this process, by the digest of their weights and the scenes that they know."""


def informative_blocks(
    model: DiffusionModel, *, direction: Direction = "image_to_text", noise_levels: Sequence[float] = (0.6,)
) -> tuple[int, ...]:
    """The blocks from the change point of the entropy on: before it, attention is spread too evenly to say anything.

    The model is shown :data:`CALIBRATION_SCENES` scenes, each with the name of one of its objects and noise of its own
    seed. A scene's curve is the entropy of the direction that is read, over blocks; the curves have one change point in
    common. Asked again with the same weights, the answer is remembered.

    Args:
        model: from ``load_model``.
        direction: that heatmaps are read from.
        noise_levels: that they are read at.

    Returns:
        Numbers of blocks, rising. All of them where the entropy does not fall: then no block stands behind another;
        and where the model has fewer than three blocks.

    Source: RefAM, Fig. 4, where the first blocks of Mochi contain no specific information.
    """
    levels = tuple(float(level) for level in noise_levels)
    digest = transformers_fingerprint(model, levels)
    if digest is None:
        return _ask(model, direction, levels)
    key = (digest, model.scene_style, direction, levels)
    if key not in _found:
        _found[key] = _ask(model, direction, levels)
    return _found[key]


def with_numbered_blocks(model: DiffusionModel, settings: HeatmapSettings) -> HeatmapSettings:
    """The same settings, with numbers in the place of ``blocks="informative"``.

    Args:
        model: the one that is read.
        settings: any; those that name their blocks already are returned as they are.

    Returns:
        Settings whose blocks are numbers, or None for all.
    """
    if not isinstance(settings.blocks, str):
        return settings
    blocks = informative_blocks(model, direction=settings.direction, noise_levels=settings.noise_levels)
    return dataclasses.replace(settings, blocks=blocks)


def _ask(model: DiffusionModel, direction: Direction, levels: tuple[float, ...]) -> tuple[int, ...]:
    recordings = _recorded(model, direction, levels)
    try:
        found = change_point(entropy_profile_of(one, direction) for one in recordings)
    except ChangePointError:
        return tuple(int(block) for block in recordings[0][direction]["block"].values)
    return found.informative


def _recorded(model: DiffusionModel, direction: Direction, levels: tuple[float, ...]) -> list[Recording]:
    """The scenes with the name of their first object: short, so that it fits any text encoder."""
    side = min(LARGEST_SCENE, *model.default_size)
    options = SceneOptions(style=model.scene_style)
    scenes = list(Scenes("validation", length=CALIBRATION_SCENES, size=side, options=options, kinds=()))
    things = [sample.scene.objects[0] for sample in scenes]
    recordings: list[Recording] = []
    for first in range(0, len(scenes), _BATCH):
        part = slice(first, first + _BATCH)
        recordings += record_batch(
            model,
            [sample.image for sample in scenes[part]],
            [make_prompt(f"the {thing.colour} {thing.shape}") for thing in things[part]],
            noise_level=levels,
            seeds=range(first, first + len(scenes[part])),
            keep=[direction],
        )
    return recordings
