"""One clip with its expressions in, rows out: J and F of every annotated frame.

Each expression is looked for in the first frame and followed through the clip. Frames are read where they are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refam_analysis.evaluation.datasets.base import ClipExpression, ReferringClip
from refam_analysis.evaluation.datasets.rle import encode_mask
from refam_analysis.evaluation.metrics import contour_accuracies, ious_of, mask_overlaps, points_on
from refam_analysis.evaluation.runner.groups import (
    Clock,
    GroupTask,
    LoadedModels,
    TimedSegmenter,
    counts_of,
    failed_answer,
    first_entries,
    stop_or,
)
from refam_analysis.evaluation.runner.rows import Row


def evaluate_clip(task: GroupTask, clip: ReferringClip, loaded: LoadedModels) -> list[Row]:
    """Answer and score every expression of a clip; see :func:`~refam_analysis.evaluation.runner.groups.evaluate_group`.

    Args:
        task: what to do.
        clip: the task's item.
        loaded: what answers.
    """
    from refam_analysis.segmentation.remembering import remembering

    model, rows = remembering(loaded.model), []
    for number, expression in enumerate(clip.expressions):
        clock = Clock()
        try:
            outcome = _outcome(task, clip, expression, loaded, model, clock)
        except Exception as error:  # whatever reading and following raise; an interruption is none of these
            stop_or(task, expression.text, error)
            outcome = failed_answer(expression, error)
        clock.seconds["attention"] -= clock.seconds["encode"] + clock.seconds["mask"]  # which were counted within it
        rows.append({**first_entries(task, number, expression), **outcome, **clock.shares(1)})
    return rows


class ClipFrames:
    """The frames of a clip, as ``segment_video`` reads them.

    Args:
        clip: of a data set.
    """

    def __init__(self, clip: ReferringClip) -> None:
        self.clip = clip
        self.name = clip.key

    def __len__(self) -> int:
        return len(self.clip)

    def read(self, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """The frames from one on."""
        return (self.clip.load_frame(i) for i in range(start, len(self)))


def _outcome(
    task: GroupTask, clip: ReferringClip, expression: ClipExpression, loaded: LoadedModels, model: Any, clock: Clock
) -> Row:
    from refam_analysis.segmentation.video import segment_video

    configuration = task.configuration
    with clock.running("attention"):
        result = segment_video(
            model, ClipFrames(clip), expression.text, magnets=configuration.magnets,
            segmenter=TimedSegmenter(loaded.segmenter, clock), propagation=loaded.propagator,
            settings=loaded.settings, mask_choice=configuration.mask_choice,  # type: ignore[arg-type]
            seed=configuration.seed_of(clip.key),
        )  # fmt: skip
    with clock.running("score"):
        scores = _scores(task, expression, result.masks, result.point)
        masks = [counts_of(encode_mask(result.masks[i])) for i in range(len(clip))]
    return {
        "x": result.point[0], "y": result.point[1], "peak": float(result.heatmap.max()),
        "score": float(result.scores[0]), "masks": masks, "error": None, **scores,
    }  # fmt: skip


def _scores(task: GroupTask, expression: ClipExpression, masks: Any, point: tuple[float, float]) -> Row:
    """J and F frame by frame, so that one frame's masks are held at a time."""
    frames, frame_j, frame_f = list(expression.annotated), [], []
    pixels = np.zeros(4, dtype=np.int64)  # in both, in either, in the truth, in the answer
    on_target = None
    for i in frames:
        mask, true = np.asarray(masks[i]), expression.load_masks(i)
        assert true is not None
        (both,), (either,) = mask_overlaps([mask], [true])
        pixels += np.array([both, either, np.count_nonzero(true), np.count_nonzero(mask)])
        frame_j.append(float(ious_of([both], [either], empty=task.empty)[0]))
        frame_f.append(float(contour_accuracies(mask, true, empty=task.empty)[0]))
        if i == 0 and true.any():
            on_target = float(points_on([point], [true])[0])
    counted = frames and not np.isnan(frame_j).all()
    return {
        "frames": frames, "frame_j": frame_j, "frame_f": frame_f, "on_target": on_target,
        "j": float(np.nanmean(frame_j)) if counted else None, "f": float(np.nanmean(frame_f)) if counted else None,
        "intersection": int(pixels[0]), "union": int(pixels[1]), "true_area": int(pixels[2]),
        "predicted_area": int(pixels[3]),
        "iou": float(ious_of([pixels[0]], [pixels[1]], empty=task.empty)[0]) if frames else None,
    }  # fmt: skip
