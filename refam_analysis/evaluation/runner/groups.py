"""One image with its expressions in, rows out: the one function that every way of running shares.

:func:`evaluate_group` depends on its arguments alone and writes nothing, so that one process calls it in a loop, and
actors on other machines call it as it is: task and rows can be pickled, and models are loaded where they are used.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refam_analysis.errors import RefamError
from refam_analysis.evaluation.datasets.base import (
    ClipExpression,
    Item,
    ReferringClip,
    ReferringExpression,
    ReferringImage,
)
from refam_analysis.evaluation.datasets.rle import Rle, encode_mask, mask_area
from refam_analysis.evaluation.metrics import EmptyRule, ious_of, mask_overlaps, points_on
from refam_analysis.evaluation.runner.configuration import RunConfiguration
from refam_analysis.evaluation.runner.rows import STAGES, Row, failed_row, plain_facts

if TYPE_CHECKING:
    from refam_analysis.models.base import DiffusionModel
    from refam_analysis.segmentation import HeatmapSettings, SegmentationResult, Segmenter
    from refam_analysis.segmentation.video import Propagator

OnError = Literal["stop", "skip"]
"""What becomes of an expression that cannot be answered: the run ends with an error, or its row says why."""


class GroupError(RefamError, RuntimeError):
    """An expression could not be answered, and the run is to stop there."""


@dataclass(frozen=True)
class GroupTask:
    """Work that is done in one piece.

    Attributes:
        group: number of the item in its data set.
        item: the image or clip, with its expressions.
        configuration: of the run.
        empty: what an empty mask for an empty truth counts.
        on_error: what becomes of an expression that cannot be answered.
    """

    group: int
    item: Item
    configuration: RunConfiguration
    empty: EmptyRule
    on_error: OnError = "stop"


@dataclass(frozen=True)
class LoadedModels:
    """What answers.

    Attributes:
        model: from ``load_model``.
        segmenter: from ``load_segmenter``.
        settings: how heatmaps are read, with everything that the configuration says.
        propagator: what follows an object through a clip, as ``segment_video`` takes it.
    """

    model: DiffusionModel
    segmenter: Segmenter
    settings: HeatmapSettings
    propagator: str | Propagator = "reprompting"


def load_models(configuration: RunConfiguration) -> LoadedModels:
    """Load what a run needs, on this machine.

    Raises:
        RefamError: the model, the segmenter or the settings cannot be used.
    """
    from refam_analysis.models import load_model, usual_device
    from refam_analysis.segmentation.segmenters import chosen_segmenter, load_segmenter
    from refam_analysis.segmentation.video.propagation import load_propagator

    model = load_model(configuration.model, device=usual_device(configuration.model))
    name = chosen_segmenter(model, configuration.segmenter)
    segmenter = load_segmenter(name, device=usual_device(name))
    settings = settings_of(model, configuration)
    if configuration.propagation == "reprompting":  # made anew for every clip, around a segmenter that is timed
        return LoadedModels(model, segmenter, settings)
    device = usual_device(configuration.propagation)
    propagator = load_propagator(configuration.propagation, segmenter=segmenter, device=device)
    return LoadedModels(model, segmenter, settings, propagator)


def settings_of(model: DiffusionModel, configuration: RunConfiguration) -> HeatmapSettings:
    """The model's own settings with what the configuration says of them.

    Raises:
        HeatmapSettingsError: an entry means nothing.
    """
    from refam_analysis.segmentation.pipeline import chosen_settings, default_settings
    from refam_analysis.segmentation.settings import HeatmapSettings

    base = default_settings(model)
    if configuration.settings:
        base = HeatmapSettings.from_dict({**base.to_dict(), **configuration.settings})
    return chosen_settings(
        model, base, gas=configuration.gas, noun_phrase=configuration.noun_phrase,  # type: ignore[arg-type]
        spatial_bias=configuration.spatial_bias,
    )  # fmt: skip


def evaluate_group(task: GroupTask, loaded: LoadedModels) -> list[Row]:
    """Answer and score every expression of one image or clip.

    The picture is read and encoded once, by the model and by the segmenter. Where the expressions together fail (one is
    empty, or memory is short), either half is asked, and so on down to one.

    Args:
        task: what to do.
        loaded: what answers.

    Returns:
        A row an expression, in their order: the columns of :mod:`refam_analysis.evaluation.runner.rows`.

    Raises:
        GroupError: an expression failed, and the task says to stop.
    """
    if isinstance(task.item, ReferringClip):
        from refam_analysis.evaluation.runner.clips import evaluate_clip

        return evaluate_clip(task, task.item, loaded)
    return _evaluate_image(task, task.item, loaded)


def stop_or(task: GroupTask, expression: str, error: Exception) -> None:
    """Raise what ends a run, where the task says to stop.

    Raises:
        GroupError: names the item, the expression and the reason.
    """
    if task.on_error == "stop":
        raise GroupError(
            f"{task.item.key}, expression {expression!r}: {type(error).__name__}: {str(error).rstrip('.')}. What is "
            "finished is kept: start again to go on, or with --on-error skip to list such expressions instead."
        ) from error


def failed_answer(expression: ReferringExpression | ClipExpression, error: Exception) -> Row:
    """The scores of an expression that got no mask: wrong everywhere, where its truth is known.

    Args:
        expression: about an image or a clip.
        error: why.
    """
    if isinstance(expression, ReferringExpression):
        return failed_row(0 if expression.mask is None else mask_area(expression.mask), error)
    scored = 0.0 if expression.truth is not None else None
    return {**failed_row(0, error), "j": scored, "f": scored, "iou": scored, "on_target": scored}


def first_entries(task: GroupTask, number: int, expression: Any) -> Row:
    """What a row says of its expression before anything is computed."""
    height, width = task.item.size
    return {
        "group": task.group, "number": number, "item": task.item.key, "expression": expression.key,
        "text": expression.text, "kind": expression.kind, "facts": plain_facts(expression.facts),
        "seed": task.configuration.seed_of(task.item.key), "height": height, "width": width,
    }  # fmt: skip


class Clock:
    """Seconds by stage.

    >>> clock = Clock()
    >>> with clock.running("load"):
    ...     pass
    >>> clock.seconds["load"] >= 0.0
    True
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        """Add what is spent inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def shares(self, parts: int) -> dict[str, float]:
        """Columns of a row: every stage's seconds over the number of rows."""
        return {f"seconds_{stage}": seconds / parts for stage, seconds in self.seconds.items()}


class TimedSegmenter:
    """A segmenter that is timed, and that encodes an image again only if it is another one."""

    def __init__(self, segmenter: Segmenter, clock: Clock) -> None:
        self.segmenter, self.clock = segmenter, clock
        self._image: NDArray[np.uint8] | None = None

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Encode the image, unless it is the last one."""
        if self._image is None or not np.array_equal(self._image, image):
            with self.clock.running("encode"):
                self.segmenter.set_image(image)
            self._image = image

    def predict(self, points: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """The segmenter's answer."""
        with self.clock.running("mask"):
            return self.segmenter.predict(points)


def _evaluate_image(task: GroupTask, image: ReferringImage, loaded: LoadedModels) -> list[Row]:
    from refam_analysis.segmentation.remembering import remembering

    clock, expressions = Clock(), image.expressions
    rows = [first_entries(task, number, expression) for number, expression in enumerate(expressions)]
    try:
        with clock.running("load"):
            pixels = image.load()
    except Exception as error:  # whatever a picture's decoder raises; an interruption is none of these
        stop_or(task, expressions[0].text, error)
        return [{**row, **failed_answer(e, error)} for row, e in zip(rows, expressions, strict=True)]
    asked = replace(loaded, model=remembering(loaded.model), segmenter=TimedSegmenter(loaded.segmenter, clock))
    step = task.configuration.batch_size
    for first in range(0, len(expressions), step):
        for number, outcome in enumerate(_answers(task, pixels, expressions[first : first + step], asked), start=first):
            rows[number] |= outcome
    whole = clock.seconds["attention"] - clock.seconds["encode"] - clock.seconds["mask"] - clock.seconds["score"]
    clock.seconds["attention"] = max(whole, 0.0)
    return [{**row, **clock.shares(len(rows))} for row in rows]


def _answers(
    task: GroupTask, pixels: NDArray[np.uint8], expressions: Sequence[ReferringExpression], asked: LoadedModels
) -> list[Row]:
    """The outcomes of a batch; where it fails as a whole, of either half of it, down to each expression by itself."""
    try:
        return _scored(task, pixels, expressions, asked)
    except Exception as error:
        if len(expressions) == 1:
            stop_or(task, expressions[0].text, error)
            return [failed_answer(expressions[0], error)]
    _free_memory()
    middle = len(expressions) // 2
    halves = expressions[:middle], expressions[middle:]
    return [row for half in halves for row in _answers(task, pixels, half, asked)]


def _free_memory() -> None:
    """Give back what a batch that was too large has left in PyTorch's hands."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _scored(
    task: GroupTask, pixels: NDArray[np.uint8], expressions: Sequence[ReferringExpression], asked: LoadedModels
) -> list[Row]:
    from refam_analysis.segmentation.pipeline import segment_expressions

    configuration, clock = task.configuration, asked.segmenter.clock  # type: ignore[attr-defined]
    with clock.running("attention"):
        results = segment_expressions(
            asked.model, pixels, [expression.text for expression in expressions], magnets=configuration.magnets,
            segmenter=asked.segmenter, settings=asked.settings, seed=configuration.seed_of(task.item.key),
            mask_choice=configuration.mask_choice, batch_size=configuration.batch_size,  # type: ignore[arg-type]
        )  # fmt: skip
        with clock.running("score"):
            return _outcomes(results, expressions, task.empty)


def _outcomes(
    results: Sequence[SegmentationResult], expressions: Sequence[ReferringExpression], empty: EmptyRule
) -> list[Row]:
    masks = [encode_mask(result.mask) for result in results]
    nothing = encode_mask(np.zeros(results[0].mask.shape, dtype=bool))
    truths = [nothing if expression.mask is None else expression.mask for expression in expressions]
    both, either = mask_overlaps(masks, truths)
    ious = ious_of(both, either, empty=empty)
    hits = points_on([result.point for result in results], truths)
    return [
        {
            "x": result.point[0], "y": result.point[1], "peak": float(result.heatmap.max()),
            "score": float(result.stages["scores"][result.stages["chosen"]]),
            "on_target": None if expression.mask is None else float(hits[i]),
            "intersection": int(both[i]), "union": int(either[i]), "true_area": mask_area(truths[i]),
            "predicted_area": mask_area(masks[i]), "iou": float(ious[i]), "mask": counts_of(masks[i]), "error": None,
        }
        for i, (result, expression) in enumerate(zip(results, expressions, strict=True))
    ]  # fmt: skip


def counts_of(rle: Rle) -> str:
    """The counts of run lengths as text."""
    counts = rle["counts"]
    return counts.decode("ascii") if isinstance(counts, bytes) else counts
