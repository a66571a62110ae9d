"""The scenes that the book's explorer shows, and the rules by which they were chosen.

The list is committed as ``data/explorer-scenes.json``: validation scenes, each with the reason why it is there. It is
made anew with ``python -m refam_analysis.widgets.explorer_list``, which goes through the scenes in order and takes for
every rule the first that obeys it. So the list shows what can happen, not how often: that is measured on test scenes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from refam_analysis.evaluation.metrics import mask_ious
from refam_analysis.files import written_whole
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.prompts import DEFAULT_MAGNETS
from refam_analysis.scenes import Expression, Scene, SceneOptions, Scenes, SceneSample
from refam_analysis.segmentation import (
    SegmentationResult,
    default_settings,
    load_segmenter,
    pixel_of,
    segment,
    segment_expressions,
)
from refam_analysis.segmentation.segmenters import Segmenter
from refam_analysis.widgets.explorer_data import LIST, Answer, ExplorerScene
from refam_analysis.widgets.explorer_scenes import explore, one_thread

CANDIDATES = 400
GOOD = 0.85
"""IoU of a mask that a reader calls right."""


def candidates() -> Scenes:
    """The scenes that are looked through: enough objects for a sentence to be wrong about."""
    return Scenes("validation", length=CANDIDATES, options=SceneOptions(objects=(3, 4)))


@dataclass(frozen=True)
class Found:
    """Where one answer landed.

    Attributes:
        on: the object under the point; None for the background.
        iou: of the mask with the object that is meant.
        point: (x, y) in pixels.
    """

    on: int | None
    iou: float
    point: tuple[float, float]


@dataclass(frozen=True)
class Outcome:
    """What the pipeline answered to one sentence about one scene, without magnets and with them."""

    scene: Scene
    expression: Expression
    without: Found
    with_magnets: Found

    @property
    def is_right(self) -> bool:
        """Both points on the object that is meant, and both masks good."""
        both = (self.without, self.with_magnets)
        return all(found.on == self.expression.target and found.iou >= GOOD for found in both)

    @property
    def words(self) -> tuple[str, ...]:
        """Of the sentence."""
        return tuple(self.expression.text.split())

    def shared(self, attribute: str) -> bool:
        """Whether another object has this attribute of the object that is meant."""
        values = [getattr(thing, attribute) for thing in self.scene.objects]
        return values.count(values[self.expression.target]) > 1


@dataclass(frozen=True)
class Rule:
    """Why a scene is in the list.

    Attributes:
        name: of the entry.
        title: what a reader chooses it by.
        reason: what there is to see, true of every scene that obeys the rule.
        holds: whether an outcome obeys it.
    """

    name: str
    title: str
    reason: str
    holds: Callable[[Outcome], bool]


def _says(outcome: Outcome, *phrases: str) -> bool:
    return any(f" {phrase} " in f" {outcome.expression.text} " for phrase in phrases)


def _looks(outcome: Outcome, number: int) -> bool:
    """Whether the sentence is "the" and so many words, and names what the object looks like."""
    return outcome.expression.kind == "attribute" and len(outcome.words) == number + 1


def _relation(phrase: str) -> Callable[[Outcome], bool]:
    return lambda o: o.is_right and o.expression.kind == "relation" and _says(o, phrase)


def _changes(outcome: Outcome, *, before: bool, after: bool) -> bool:
    """Whether the point is on the object that is meant before and after magnets are appended."""
    target = outcome.expression.target
    return (outcome.without.on == target, outcome.with_magnets.on == target) == (before, after)


RULES: tuple[Rule, ...] = (
    Rule("colour", "A colour is enough",
         "No other object has this colour, so one word is enough, and the pipeline finds it with and without magnets.",
         lambda o: o.is_right and _looks(o, 2) and o.words[-1] == "one" and not o.shared("colour")),
    Rule("shape", "A shape is enough",
         "No other object has this shape. Compare its map with that of the colour word in the first scene.",
         lambda o: o.is_right and _looks(o, 1)),
    Rule("two-words", "Two words, neither enough",
         "One other object shares the colour and one the shape: only both words together mean one object.",
         lambda o: o.is_right and _looks(o, 2) and o.words[-1] != "one" and o.shared("colour") and o.shared("shape")),
    Rule("size", "A size decides",
         "Another object has the same colour or shape, and the sentence names the size.",
         lambda o: o.is_right and o.expression.kind == "attribute" and o.words[1] in ("small", "large")
         and o.words[-1] != "one" and (o.shared("shape") or o.shared("colour"))),
    Rule("side", "A side of the picture",
         "The look alone fits several objects, and a side of the picture tells which is meant.",
         lambda o: o.is_right and _says(o, "on the left", "on the right", "at the top", "at the bottom")),
    Rule("corner", "A corner of the picture",
         "The look alone fits several objects, and a corner of the picture tells which is meant.",
         lambda o: o.is_right and _says(o, "corner")),
    Rule("left-of", "Left of another object",
         "A relation: the sentence names a second object, whose words have maps of their own.", _relation("left of")),
    Rule("right-of", "Right of another object",
         "A relation. Look whether the words of the second object point at it.", _relation("right of")),
    Rule("above", "Above another object",
         "A relation. The answer is right; the map of the word 'above' need not say why.", _relation("above")),
    Rule("below", "Below another object",
         "A relation. The answer is right; the map of the word 'below' need not say why.", _relation("below")),
    Rule("comparison", "Largest or smallest",
         "A comparison with all objects of its kind.",
         lambda o: o.is_right and _says(o, "largest", "smallest")),
    Rule("outermost", "Outermost on one side",
         "A comparison of places.",
         lambda o: o.is_right and _says(o, "leftmost", "rightmost", "topmost", "lowest")),
    Rule("wrong-object", "Failure: another object",
         "The pipeline is wrong, with and without magnets: both points lie on another object than the sentence means.",
         lambda o: _changes(o, before=False, after=False) and None not in (o.without.on, o.with_magnets.on)),
    Rule("background", "Failure: the background",
         "The pipeline is wrong, with and without magnets: both points lie on no object at all.",
         lambda o: (o.without.on, o.with_magnets.on) == (None, None)),
    Rule("magnets-help", "Magnets make it right",
         "Without magnets the point misses the object that is meant; with magnets it lies on it.",
         lambda o: _changes(o, before=False, after=True) and o.with_magnets.iou >= GOOD),
    Rule("magnets-harm", "Magnets make it wrong",
         "Without magnets the point lies on the object that is meant; with magnets it misses it.",
         lambda o: _changes(o, before=True, after=False) and o.without.iou >= GOOD),
    Rule("magnets-same", "Magnets change nothing in the answer",
         "With magnets the maps and the background change, and yet the point is the same to the pixel.",
         lambda o: o.is_right and o.without.point == o.with_magnets.point and o.shared("colour")),
)  # fmt: skip
"""In the order of the list."""


@dataclass(frozen=True)
class Entry:
    """A scene of the list, as it is committed.

    Attributes:
        name: of its rule.
        title, reason: those of its rule.
        scene: number in :func:`candidates`.
        expression: the sentence.
        kind: what the sentence relies on.
        target: the object that it means.
    """

    name: str
    title: str
    reason: str
    scene: int
    expression: str
    kind: str
    target: int


def listed_scenes(path: Path = LIST) -> tuple[Entry, ...]:
    """The committed list."""
    return tuple(Entry(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["scenes"])


def explored(
    model: DiffusionModel, entries: Sequence[Entry] | None = None, *, progress: bool = False
) -> Iterator[ExplorerScene]:
    """Run the scenes of the list, one after the other.

    Args:
        model: from ``load_model``.
        entries: None for the committed list.
        progress: show a bar.
    """
    scenes, segmenter = candidates(), load_segmenter("embedded")
    for entry in tqdm(listed_scenes() if entries is None else entries, desc="explorer", disable=not progress):
        sample = scenes[entry.scene]
        with one_thread():
            scene = explore(
                model, sample.image, entry.expression, masks=sample.masks, target=entry.target, segmenter=segmenter,
                name=entry.name, title=entry.title, why=entry.reason,
            )  # fmt: skip
        yield scene


def outcome_of(sample: SceneSample, expression: Expression, results: Sequence[SegmentationResult | Answer]) -> Outcome:
    """What two answers, without magnets and with them, mean by the true masks."""
    found = []
    for result in results:
        row, column = pixel_of(result.point, sample.masks.shape[1:])
        on = np.flatnonzero(sample.masks[:, row, column])
        iou = float(mask_ious(result.mask[None], sample.masks[expression.target][None])[0])
        found.append(Found(int(on[-1]) if len(on) else None, iou, result.point))
    return Outcome(sample.scene, expression, *found)


def choose(model: DiffusionModel, *, progress: bool = False) -> tuple[Entry, ...]:
    """For every rule the first scene, and in it the first sentence, that obeys it; no scene twice.

    A rule that no scene obeys is left out.
    """
    scenes, segmenter, settings = candidates(), load_segmenter("embedded"), default_settings(model).attention_alone
    chosen: dict[str, Entry] = {}
    for number in tqdm(range(len(scenes)), desc="scenes", disable=not progress):
        if len(chosen) == len(RULES):
            break
        sample = scenes[number]
        texts = [expression.text for expression in sample.expressions]
        answers = [
            segment_expressions(model, sample.image, texts, magnets=magnets, segmenter=segmenter, settings=settings)
            for magnets in ((), DEFAULT_MAGNETS)
        ]
        for expression, *pair in zip(sample.expressions, *answers, strict=True):
            first = outcome_of(sample, expression, pair)
            rule = next((rule for rule in RULES if rule.name not in chosen and rule.holds(first)), None)
            # Asked alone, as the explorer does: rounding in a batch may decide between two equal peaks.
            if rule and rule.holds(asked_alone(model, sample, expression, segmenter)):
                chosen[rule.name] = Entry(
                    rule.name, rule.title, rule.reason, number, expression.text, expression.kind, expression.target
                )
                break
    return tuple(chosen[rule.name] for rule in RULES if rule.name in chosen)


def asked_alone(model: DiffusionModel, sample: SceneSample, expression: Expression, segmenter: Segmenter) -> Outcome:
    """The outcome of one sentence, computed as the explorer computes it."""
    settings = default_settings(model).attention_alone
    with one_thread():
        results = [
            segment(model, sample.image, expression.text, magnets=magnets, segmenter=segmenter, settings=settings)
            for magnets in ((), DEFAULT_MAGNETS)
        ]
    return outcome_of(sample, expression, results)


def write_list(entries: Sequence[Entry], path: Path = LIST) -> None:
    """Write the list, for :func:`listed_scenes`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = "Made by python -m refam_analysis.widgets.explorer_list from validation scenes; its rules say why."
    content = {"about": about, "scenes": [dataclasses.asdict(entry) for entry in entries]}
    with written_whole(path) as place:
        place.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_list(choose(load_model("embedded"), progress=True))
