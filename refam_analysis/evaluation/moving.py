"""How well an object is followed through moving scenes: J and F of its masks, whether it was seen when it was in sight.

Every source of a first point is followed through the same clips with the same segmenter, and two controls follow
nothing: they keep the mask of the first frame. All frames count, the first one too: in referring segmentation its mask
is not given. What moves is in :mod:`refam_analysis.scenes.moving`; how it is followed in
:mod:`refam_analysis.segmentation.video`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from refam_analysis.analysis.tables import means_with_intervals
from refam_analysis.evaluation.grounding import NoItemsError
from refam_analysis.evaluation.metrics import contour_accuracy, region_similarity
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS, make_prompt
from refam_analysis.scenes import MovingSample
from refam_analysis.segmentation import HeatmapSettings, Segmenter, default_settings
from refam_analysis.segmentation.point import pixel_of
from refam_analysis.segmentation.video.appearance import deepest
from refam_analysis.segmentation.video.first_frame import frames_taken, look
from refam_analysis.segmentation.video.propagation import Followed
from refam_analysis.segmentation.video.reprompting import FollowSettings, Reprompting

MovingSource = Literal["pipeline", "point_inside", "pipeline_first_mask", "point_inside_first_mask"]
MOVING_SOURCES: tuple[MovingSource, ...] = get_args(MovingSource)
"""The model's point, followed; the point deepest inside the target, from someone who knows, followed; and for each the
mask of the first frame in every frame, the control without any handling of motion."""

Point = tuple[float, float]
SPEEDS = {"slow": 0.015, "medium": 0.03, "fast": np.inf}
"""Names of speeds, by what they are below, in shares of the picture's side a frame."""

_REFOUND = 0.5
MEASURES = ("jf", "j", "f", "sight")
"""Columns of the outcomes that have means with intervals."""


@dataclass(frozen=True)
class MovingReport:
    """What came of following.

    Attributes:
        outcomes: a row a clip and source: ``source``, ``clip``, ``kind``, ``event``, ``speed`` ("slow" ...),
            ``expression``, ``x``, ``y`` and ``on_target`` of the first frame's point; ``j``, ``f`` and ``jf``, their
            mean; ``sight``, the share of frames in which it was told rightly whether the target is in sight;
            ``missed`` and ``imagined``, frames in sight said to be not, and the reverse; ``refound``, whether a target
            that came back into sight was covered (J of 0.5) in the last frame that shows it (NaN where none came back).
    """

    outcomes: pd.DataFrame

    def summary(self, by: str | None = None, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
        """Means with bootstrap intervals over clips.

        Args:
            by: a column to group by too, such as "event", "kind" or "speed".
            confidence: of the intervals.
            seed: of the bootstrap.

        Returns:
            A row a source, condition (and group): ``condition`` is "all", or "on target" for the clips whose first
            point is; ``scenes``, the number of clips; ``jf``, ``j``, ``f`` and ``sight``, each with ``_low`` and
            ``_high``; ``on_target`` and ``refound``, shares.
        """
        conditions = {"all": self.outcomes, "on target": self.outcomes[self.outcomes["on_target"]]}
        rows = []
        for condition, table in conditions.items():
            for names, group in table.groupby(["source", *([by] if by else [])], sort=False):
                labels = dict(zip(["source", *([by] if by else [])], names, strict=True))
                rows.append({**labels, "condition": condition, **_means(group, confidence, seed)})
        found = pd.DataFrame(rows)
        found.attrs["confidence"] = confidence
        return found


def moving_accuracy(
    model: DiffusionModel,
    clips: Sequence[MovingSample],
    *,
    segmenter: Segmenter,
    settings: HeatmapSettings | None = None,
    follow: FollowSettings | None = None,
    magnets: Sequence[str] = DEFAULT_MAGNETS,
    seed: int = 0,
    first: int = 0,
    progress: bool = False,
) -> MovingReport:
    """Ask the model about the start of each clip, follow its point and the true one, and compare with the truth.

    Args:
        model: from ``load_model``: of images, which is shown the first frame, or of videos, which is shown as many
            frames as it is made for, from the first on. The point is in the first frame.
        clips: such as ``MovingScenes("test")``.
        segmenter: from ``load_segmenter``.
        settings: how heatmaps are read; None for the model's own.
        follow: how answers are judged; None for the defaults. Choose them on other clips.
        magnets: appended to every expression.
        seed: clip i has the noise of seed + i times settings.seeds.
        first: number of the first clip, where these are some of many.
        progress: show a bar.

    Returns:
        J, F and what was lost, a clip and a source of points.

    Raises:
        NoItemsError: there is no clip.
    """
    if not len(clips):
        raise NoItemsError
    chosen = settings or default_settings(model)
    rows: list[dict[str, Any]] = []
    for number, clip in enumerate(tqdm(clips, desc="clips", disable=not progress), first):
        shown = range(frames_taken(model, clip.length))
        prompt, noise = make_prompt(clip.expression.text, magnets), seed + number * chosen.seeds
        points: dict[str, Point] = {
            "pipeline": look(model, list(clip.frames[shown]), prompt, chosen, numbers=shown, seed=noise)["point"],
            "point_inside": point_inside(clip),
        }
        for name, followed in follow_together(segmenter, clip.frames, points, dict.fromkeys(points, follow)).items():
            kept = [followed[0]] * clip.length
            rows += [
                {**_outcome(clip, points[name], way), "source": source, "clip": number}
                for source, way in ((name, followed), (f"{name}_first_mask", kept))
            ]
    table = pd.DataFrame(rows)
    front = ["source", "clip"]
    order = table["source"].map(list(MOVING_SOURCES).index)
    table = table.assign(order=order).sort_values(["order", "clip"], ignore_index=True).drop(columns="order")
    return MovingReport(table[front + [name for name in table if name not in front]])


def follow_together(
    segmenter: Segmenter,
    frames: NDArray[np.uint8],
    points: Mapping[str, Point],
    settings: Mapping[str, FollowSettings | None],
) -> dict[str, list[Followed]]:
    """Follow several points, or one with several settings, through the same frames, each encoded once.

    Args:
        segmenter: shared by all.
        frames: uint8 (frame, height, width, 3).
        points: by name, in the first frame.
        settings: by the same names.

    Returns:
        By name, one a frame.
    """
    followers = {name: Reprompting(segmenter, settings[name]) for name in points}
    found: dict[str, list[Followed]] = {name: [] for name in points}
    for frame in frames:
        for name, follower in followers.items():
            found[name].append(follower.follow(frame) if found[name] else follower.begin(frame, points[name]))
    return found


def point_inside(clip: MovingSample) -> Point:
    """(x, y): the pixel of the target that is farthest from its edge, in the first frame."""
    row, column = deepest(clip.truth[0])
    return float(column), float(row)


def settings_accuracy(
    clips: Sequence[MovingSample],
    candidates: Mapping[str, FollowSettings],
    *,
    segmenter: Segmenter,
    progress: bool = False,
) -> pd.DataFrame:
    """How well each of several settings follows the target from a point inside it: to choose among them.

    Args:
        clips: of the validation split.
        candidates: by name.
        segmenter: from ``load_segmenter``.
        progress: show a bar.

    Returns:
        A row a candidate and clip: ``candidate``, ``clip``, ``event``, ``j``, ``f``, ``jf``, ``sight``.
    """
    rows = []
    for number, clip in enumerate(tqdm(clips, desc="validation clips", disable=not progress)):
        point = point_inside(clip)
        for name, followed in follow_together(
            segmenter, clip.frames, dict.fromkeys(candidates, point), candidates
        ).items():
            outcome = _outcome(clip, point, followed)
            rows.append({"candidate": name, "clip": number, **{key: outcome[key] for key in ("event", *MEASURES)}})
    return pd.DataFrame(rows)


def _outcome(clip: MovingSample, point: Point, followed: Sequence[Followed]) -> dict[str, Any]:
    masks, truth = np.stack([one.mask for one in followed]), clip.truth
    there, said = np.array([frame.any() for frame in truth]), np.array([one.visible for one in followed])
    j, f = region_similarity(masks, truth), contour_accuracy(masks, truth)
    last = int(np.flatnonzero(there)[-1])
    returned = bool((~there[:last]).any())
    covered = region_similarity(masks[last], truth[last]) >= _REFOUND
    row, column = pixel_of(point, truth.shape[1:])
    return {
        "kind": clip.expression.kind,
        "event": clip.event,
        "speed": next(name for name, below in SPEEDS.items() if clip.speed < below),
        "expression": clip.expression.text,
        "x": point[0],
        "y": point[1],
        "on_target": bool(truth[0, row, column]),
        "j": j,
        "f": f,
        "jf": (j + f) / 2,
        "sight": float((there == said).mean()),
        "missed": int((there & ~said).sum()),
        "imagined": int((~there & said).sum()),
        "refound": float(covered) if returned else np.nan,
    }


def _means(group: pd.DataFrame, confidence: float, seed: int) -> dict[str, Any]:
    means = means_with_intervals(group[list(MEASURES)], confidence=confidence, seed=seed)
    row = {"scenes": len(group), **means}
    return {**row, "on_target": group["on_target"].mean(), "refound": group["refound"].mean()}


__all__ = [
    "MOVING_SOURCES",
    "SPEEDS",
    "MovingReport",
    "MovingSource",
    "follow_together",
    "moving_accuracy",
    "point_inside",
    "settings_accuracy",
]
