"""Whether a model of videos answers sentences about motion from what moves, or could do with the first frame.

Every test clip is shown in four ways that share the first frame, the sentence and the seeds of the noise: as it is;
with every object setting out the other way (and turning back where its way ends); with the first frame held for as long
as the clip lasts; and the first frame alone. Only the first way shows what the sentence says: what is found there, and
not in the others, was read from motion. Points are in the first frame, where nothing has moved yet.

A second table asks whether the map of each later latent frame has its peak where the object is by then; a third
whether the model draws the motion that a caption names (:mod:`refam_analysis.experiments.drawn_motion`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from refam_analysis.analysis.paired import two_sided_p
from refam_analysis.analysis.statistics import benjamini_hochberg, bootstrap_interval
from refam_analysis.analysis.tables import means_with_intervals
from refam_analysis.errors import RefamError
from refam_analysis.evaluation.grounding import points_of
from refam_analysis.evaluation.items import GroundingItem, clip_item, moving_options
from refam_analysis.experiments.drawn_motion import captioned_clips, drawn_summary, drawn_ways, named_way
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import model_option, style_in, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import make_prompt
from refam_analysis.scenes import MOVING_KINDS, MovingSample, MovingScenes, render
from refam_analysis.scenes.expressions import looks
from refam_analysis.scenes.moving import MovingKind
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.pipeline import chosen_settings
from refam_analysis.segmentation.point import peaks, pixel_of
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.segmentation.video.first_frame import look
from refam_analysis.weights import embedded_folder

NAME = "motion"
CLIP = "clip"
FIRST_CLIP = 3000
"""The test clips before this one are those of other experiments."""

Frames = NDArray[np.uint8]


def _other_way(clip: MovingSample, frames: int) -> Frames:
    return render([clip.motion.at(-time) for time in range(frames)], size=clip.size).pictures()


SHOWN: Mapping[str, Callable[[MovingSample, int], Frames | None]] = MappingProxyType(
    {
        CLIP: lambda clip, frames: clip.frames[:frames],
        "other way": _other_way,
        "held": lambda clip, frames: np.repeat(clip.frames[:1], frames, axis=0),
        "first frame": lambda clip, frames: None,
    }
)
"""The frames that a model is shown of a clip, all with the same first one; None for that one alone."""


class NotOfVideosError(RefamError, ValueError):
    """A model of images cannot be shown clips."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is a model of images, which sees no motion: give one of videos, such as embedded-video."
        )


@dataclass(frozen=True)
class MotionTest:
    """What is asked.

    Attributes:
        clips: of the test split, behind those of other experiments; all kinds of sentence in turn.
        drawn: clips of one object that are drawn from their captions.
        seed: item i has the noise of seed + i times settings.seeds, however it is shown.
        batch_size: clips a part that is kept, and a forward pass.
        style: of the scenes; None for those that the model knows.
    """

    clips: int = 600
    drawn: int = 120
    seed: int = 0
    batch_size: int = 30
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        return (
            f"refam experiment {NAME} --items {self.clips} --drawn {self.drawn} --seed {self.seed}"
            f"{style_option(self.style)}"
        )


def run(
    test: MotionTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Ask, count, and write the result.

    Args:
        test: None for the one that is reported.
        folder: of a model of videos; None for the embedded one.
        results: the folder of all results.
        progress: show a bar.

    Returns:
        The tables ``outcomes`` (:func:`measure`), ``summary`` (:func:`summary`), ``changes`` (:func:`changes`),
        ``peaks`` (:func:`peaks_over_time`), ``over_time`` (:func:`over_time`), and ``drawn`` and ``drawn_summary``
        of :mod:`~refam_analysis.experiments.drawn_motion`.

    Raises:
        NotOfVideosError: the model is one of images.
    """
    test, folder = test or MotionTest(), folder or embedded_folder("embedded-video")
    watch, weights = Stopwatch(), weights_sha256(folder, also=["refam.json"])
    model = load_model(folder)
    if not model.family.is_video:
        raise NotOfVideosError(folder.name)
    style, settings = test.style or model.scene_style, chosen_settings(model)
    configuration = {
        **dataclasses.asdict(test), "style": style, "first_clip": FIRST_CLIP, "frames": model.defaults.frames,
        "settings": settings.to_dict(),
    }  # fmt: skip
    parts = Parts(results.parent / ".cache", NAME, {**configuration, **weights})
    tables = _tables(model, settings, test, style, parts, progress)
    result = write_result(
        NAME, tables, watch.provenance(test.command + model_option(folder), configuration, weights), results=results
    )
    parts.forget()
    return result


def _tables(
    model: DiffusionModel, settings: HeatmapSettings, test: MotionTest, style: Style, parts: Parts, progress: bool
) -> dict[str, pd.DataFrame]:
    def batches(number: int, name: str) -> Iterator[tuple[int, int]]:
        """The first of each batch, and how many it has."""
        for first in tqdm(range(0, number, test.batch_size), desc=name, unit="batch", disable=not progress):
            yield first, min(test.batch_size, number - first)

    measured, followed, drawings = [], [], []
    for first, number in batches(test.clips, "clips"):
        clips, options = asked_clips(number, first=first, style=style), {"first": first, "seed": test.seed}
        measured.append(parts.keep(f"{first:06d}", partial(measure, model, clips, settings, **options)))
        followed.append(parts.keep(f"peaks-{first:06d}", partial(peaks_over_time, model, clips, settings, **options)))
    for first, number in batches(test.drawn, "drawn"):
        captioned, options = captioned_clips(number, first=first, style=style), {"first": first, "seed": test.seed}
        draw = partial(drawn_ways, model, captioned, style=style, **options)
        drawings.append(parts.keep(f"drawn-{first:06d}", draw))
    outcomes, found, drawn = (pd.concat(rows, ignore_index=True) for rows in (measured, followed, drawings))
    return {
        "outcomes": outcomes, "summary": summary(outcomes, seed=test.seed),
        "changes": changes(outcomes, seed=test.seed), "peaks": found, "over_time": over_time(found, seed=test.seed),
        "drawn": drawn, "drawn_summary": drawn_summary(drawn, seed=test.seed),
    }  # fmt: skip


def asked_clips(number: int, *, first: int = 0, style: Style = "plain") -> list[MovingSample]:
    """Some of the clips that are asked about.

    Args:
        number: of clips.
        first: number of the first one in the result.
        style: of the scenes.

    >>> [clip.expression.kind for clip in asked_clips(2, first=4)]
    ['moving', 'direction']
    """
    first += FIRST_CLIP
    clips = MovingScenes("test", length=first + number, options=moving_options(style))
    return [clips[place] for place in range(first, first + number)]


def rivals_of(clip: MovingSample) -> list[int]:
    """The objects that a sentence of the kind ``direction`` fits but for its direction; of other kinds none.

    Args:
        clip: from :func:`asked_clips`.

    >>> [len(rivals_of(clip)) for clip in asked_clips(6)]
    [0, 0, 0, 0, 0, 1]
    """
    if clip.expression.kind != "direction":
        return []
    target, things, way = clip.expression.target, clip.motion.scene.objects, named_way(clip)
    (look,) = [one for one in looks(things[target]) if f"the {one.words} {way}" == clip.expression.text]
    return [i for i, thing in enumerate(things) if i != target and look.fits(thing)]


def measure(
    model: DiffusionModel,
    clips: Sequence[MovingSample],
    settings: HeatmapSettings,
    *,
    first: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Ask about every clip, shown in every way.

    Args:
        model: of videos.
        clips: from :func:`asked_clips`.
        settings: how heatmaps are read.
        first: number of the first clip.
        seed: of the noise.

    Returns:
        A row a way of :data:`SHOWN` and clip: ``shown``, ``item``, ``kind``, ``expression``, ``x``, ``y``, and whether
        the point lies on the ``target``, on a ``rival`` (:func:`rivals_of`), or ``elsewhere``.
    """
    frames, rows = model.defaults.frames, []
    items = [clip_item(clip, number, frames) for number, clip in enumerate(clips, first)]
    texts, rivals = [item.expression for item in items], [rivals_of(clip) for clip in clips]
    for shown, make in SHOWN.items():
        asked = [dataclasses.replace(item, frames=make(clip, frames)) for item, clip in zip(items, clips, strict=True)]
        points = points_of(model, asked, texts, settings, (), seed=seed + first * settings.seeds)
        for item, others, point in zip(items, rivals, points, strict=True):
            rows.append({"shown": shown, **_outcome(item, others, point)})
    return pd.DataFrame(rows)


def _outcome(item: GroundingItem, rivals: Sequence[int], point: NDArray[np.float64]) -> dict[str, Any]:
    row, column = pixel_of(point, item.image.shape[:2])
    there = item.masks[:, row, column]
    target, rival = bool(there[item.target]), bool(there[list(rivals)].any())
    return {
        "item": item.scene, "kind": item.kind, "expression": item.expression, "x": point[0], "y": point[1],
        "target": target, "rival": rival, "elsewhere": not (target or rival),
    }  # fmt: skip


def summary(outcomes: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Where points fall, by kind of sentence and by what is shown.

    Args:
        outcomes: from :func:`measure`.
        confidence: of the intervals.
        seed: of the bootstrap over clips.

    Returns:
        A row a ``kind`` and ``shown``: ``clips``; ``target``, ``rival`` and ``elsewhere``, shares that sum to 1, each
        with ``_low`` and ``_high``.
    """
    rows = []
    for kind in _kinds(outcomes):
        for shown in SHOWN:
            hits = outcomes.query("kind == @kind and shown == @shown")[["target", "rival", "elsewhere"]]
            means = means_with_intervals(hits, confidence=confidence, seed=seed)
            rows.append({"kind": kind, "shown": shown, "clips": len(hits), **means})
    table = pd.DataFrame(rows)
    table.attrs["confidence"] = confidence
    return table


def _kinds(outcomes: pd.DataFrame) -> list[MovingKind]:
    return [kind for kind in MOVING_KINDS if kind in set(outcomes["kind"])]


def changes(outcomes: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """How much oftener points are on the target in the clip as it is than in the other ways, clip by clip.

    Args:
        outcomes: from :func:`measure`.
        confidence: of the intervals.
        seed: of bootstrap and sign flips.

    Returns:
        A row a ``kind`` and other way (``beside``): ``clips``, ``gain`` with ``gain_low`` and ``gain_high``, ``p``
        (two-sided, sign flips of clips) and ``q`` (Benjamini and Hochberg, over all rows).
    """
    wide = outcomes.pivot(index=["kind", "item"], columns="shown", values="target").astype(float)
    rows = []
    for kind in _kinds(outcomes):
        for beside in (one for one in SHOWN if one != CLIP):
            gain = (wide.loc[kind, CLIP] - wide.loc[kind, beside]).to_numpy()[:, None]
            (low,), (high,) = bootstrap_interval(gain, confidence=confidence, seed=seed)
            (p,) = two_sided_p(gain, seed=seed)
            rows.append({"kind": kind, "beside": beside, "clips": len(gain), "gain": gain.mean(), "gain_low": low,
                         "gain_high": high, "p": p})  # fmt: skip
    table = pd.DataFrame(rows)
    table["q"] = benjamini_hochberg(table["p"].to_numpy(float))
    table.attrs["confidence"] = confidence
    return table


def peaks_over_time(
    model: DiffusionModel,
    clips: Sequence[MovingSample],
    settings: HeatmapSettings,
    *,
    first: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Where each latent frame's map has its peak, and where the object is in the middle of what that frame stands for.

    Args:
        model: of videos.
        clips: from :func:`asked_clips`.
        settings: how heatmaps are read.
        first: number of the first clip.
        seed: of the noise.

    Returns:
        A row a clip and latent frame in whose middle the target is in sight: ``item``, ``kind``, ``latent``, its
        number; ``frame``, the one in its middle; whether its peak is on the target there (``peak``), whether the first
        frame's peak would be (``first_peak``), and whether that is on the target in the first frame (``found``).
    """
    numbers, rows = range(model.defaults.frames), []
    for item, clip in enumerate(clips, first):
        prompt, noise = make_prompt(clip.expression.text), seed + item * settings.seeds
        seen = look(model, list(clip.frames[numbers]), prompt, settings, numbers=numbers, seed=noise)
        maps = seen["frame_heatmaps"]
        pixels = pixel_of(peaks(maps.values, (clip.size, clip.size)), (clip.size, clip.size))
        starts = [*maps["frame"].values.tolist(), len(numbers)]
        for latent, (start, end) in enumerate(itertools.pairwise(starts)):
            frame = (start + end) // 2
            truth = clip.truth[frame]
            if truth.any():
                rows.append({"item": item, "kind": clip.expression.kind, "latent": latent, "frame": frame,
                             "peak": bool(truth[tuple(pixels[latent])]),
                             "first_peak": bool(truth[tuple(pixels[0])]),
                             "found": bool(clip.truth[0][tuple(pixels[0])])})  # fmt: skip
    return pd.DataFrame(rows)


def over_time(table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """How often the map of each latent frame has its peak on the object, beside the first frame's peak, kept.

    Args:
        table: from :func:`peaks_over_time`.
        confidence: of the intervals.
        seed: of the bootstrap over clips.

    Returns:
        A row a ``condition`` ("all", or "found" for the clips whose first peak is on the target) and ``latent``:
        ``frame``, ``clips``; ``peak``, ``first_peak``, shares, and ``gain``, the first less the second, each with
        ``_low`` and ``_high``.
    """
    rows = []
    for condition, some in {"all": table, "found": table[table["found"]]}.items():
        for latent, group in some.groupby("latent"):
            values = group[["peak", "first_peak"]].astype(float)
            values["gain"] = values["peak"] - values["first_peak"]
            means = means_with_intervals(values, confidence=confidence, seed=seed)
            named = {"condition": condition, "latent": latent, "frame": group["frame"].iloc[0], "clips": len(group)}
            rows.append({**named, **means})
    found = pd.DataFrame(rows)
    found.attrs["confidence"] = confidence
    return found


def repeat(result: Result, model: DiffusionModel, *, first: int, number: int) -> pd.DataFrame:
    """Ask about some of the clips again, as the result's configuration says.

    Args:
        result: from :func:`run`.
        model: the one that it was made with.
        first: number of the first clip.
        number: of clips.

    Returns:
        Rows as in ``result["outcomes"]``.
    """
    about = result.provenance.configuration
    clips = asked_clips(number, first=first, style=style_in(about))
    return measure(model, clips, HeatmapSettings.from_dict(about["settings"]), first=first, seed=about["seed"])
