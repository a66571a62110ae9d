"""Whether a model of videos draws the motion that a caption names: part of the experiment on motion.

Captions are of held-out clips of one object. A judge that never sees the caption finds the object in the first frame
and in a later one, as far on as the true object goes straight, and tells which way it went.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.analysis.statistics import bootstrap_interval
from refam_analysis.evaluation.colour_judge import judge_colour
from refam_analysis.experiments.generation import draw, of_others
from refam_analysis.models.base import DiffusionModel
from refam_analysis.scenes import MovingOptions, MovingSample, MovingScenes, SceneOptions
from refam_analysis.scenes.moving import ANYHOW, DIRECTIONS, SLOWEST, STRAIGHT
from refam_analysis.scenes.sampling import Style

NOWHERE = "nowhere"
_LEFT, _RIGHT, _UP, _DOWN = DIRECTIONS
_OPPOSITE = {_LEFT: _RIGHT, _RIGHT: _LEFT, _UP: _DOWN, _DOWN: _UP}


def captioned_clips(number: int, *, first: int = 0, style: Style = "plain") -> list[MovingSample]:
    """Some test clips of one object, whose expression names the way that it goes.

    Args:
        number: of clips.
        first: number of the first one.
        style: of the scenes.

    >>> [clip.expression.text for clip in captioned_clips(2)]
    ['the large red square moving to the left', 'the large one moving up']
    """
    options = MovingOptions(scenes=SceneOptions(objects=(1, 1), style=style))
    clips = MovingScenes("test", length=first + number, options=options, kinds=("moving",), events=("free",))
    return [clips[place] for place in range(first, first + number)]


def named_way(clip: MovingSample) -> str:
    """The phrase of motion in a clip's expression.

    Args:
        clip: one whose expression names a motion, such as :func:`captioned_clips` gives.
    """
    return next(phrase for phrase in DIRECTIONS if clip.expression.text.endswith(phrase))


def seen_way(frames: NDArray[np.uint8], *, style: Style = "plain") -> str:
    """Which way the object of a clip goes within the frames in which a true one goes straight.

    Args:
        frames: uint8 (frame, height, width, 3), at least 7 of them.
        style: of the scenes.

    Returns:
        One of ``scenes.moving.DIRECTIONS``; "nowhere" where no object is found in both frames, or it goes less far
        than the slowest object that is said to move.
    """
    (x, y), (later_x, later_y) = (judge_colour(frames[place], style=style).centre for place in (0, STRAIGHT))
    steps = {phrase: pace(later_x - x, later_y - y) for phrase, pace in ANYHOW.items()}
    best = max(steps, key=lambda phrase: steps[phrase])
    return best if steps[best] >= SLOWEST * STRAIGHT else NOWHERE


def drawn_ways(
    model: DiffusionModel, clips: Sequence[MovingSample], *, first: int = 0, seed: int = 0, style: Style = "plain"
) -> pd.DataFrame:
    """Draw clips from captions, and see which way their objects go.

    Args:
        model: of videos, with the steps and guidance that it is made for.
        clips: from :func:`captioned_clips`.
        first: number of the first clip; clip i is drawn from noise of seed + i.
        seed: of the noise.
        style: of the scenes.

    Returns:
        A row a clip: ``item``, ``caption``, ``named``, ``drawn`` and ``true``, the ways; ``true`` is what the judge
        sees in the true clip.
    """
    texts, steps, guidance = [one.expression.text for one in clips], model.defaults.steps, model.defaults.guidance
    seeds = [seed + first + place for place in range(len(clips))]
    drawn = draw(model, texts, seeds=seeds, steps=steps, guidance=guidance)
    rows = [
        {"item": first + place, "caption": clip.expression.text, "named": named_way(clip),
         "drawn": seen_way(frames, style=style), "true": seen_way(clip.frames, style=style)}
        for place, (clip, frames) in enumerate(zip(clips, drawn, strict=True))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def drawn_summary(drawn: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """How often objects go the named way.

    Args:
        drawn: from :func:`drawn_ways`.
        confidence: of the intervals.
        seed: of the exchange of captions and of the bootstrap over clips.

    Returns:
        A row a measure, with its ``share`` of ``clips`` and ``low`` and ``high``: in what is drawn; the same against
        the caption of another clip, which is chance; the opposite way; no way at all; and the judge on true clips.
    """
    exchanged = drawn["named"].to_numpy()[of_others(len(drawn), seed=seed)]
    counted = {
        "goes the named way": drawn["drawn"] == drawn["named"],
        "... against another caption": drawn["drawn"] == exchanged,
        "... the opposite way": drawn["drawn"] == drawn["named"].map(_OPPOSITE),
        "... nowhere": drawn["drawn"] == NOWHERE,
        "judge of ways on true clips": drawn["true"] == drawn["named"],
    }
    rows: list[dict[str, Any]] = []
    for measure, hits in counted.items():
        values = hits.to_numpy(dtype=float)
        (low,), (high,) = bootstrap_interval(values[:, None], confidence=confidence, seed=seed)
        rows.append({"measure": measure, "clips": len(values), "share": values.mean(), "low": low, "high": high})
    table = pd.DataFrame(rows)
    table.attrs["confidence"] = confidence
    return table
