"""The diagnostic scenes, still and moving, as benchmarks: drawn by split and number, so that nothing is downloaded.

The kinds of expression are those of the scenes: attribute, location, relation, superlative. Beside the facts of every
data set there are ``objects``, how many the scene has; ``distractors``, how many others have the target's shape; and
``rivals``, how many others share its shape or its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refam_analysis.evaluation.datasets.base import (
    ClipExpression,
    Fact,
    ReferringClip,
    ReferringExpression,
    ReferringImage,
)
from refam_analysis.evaluation.datasets.facts import area_share, sentence_facts
from refam_analysis.evaluation.datasets.rle import encode_mask
from refam_analysis.scenes import Expression, Scene, Scenes
from refam_analysis.scenes.dataset import Split
from refam_analysis.scenes.expressions import rivals
from refam_analysis.scenes.moving import MovingScene, MovingScenes
from refam_analysis.scenes.rendering import render

SCENES = 500
"""How many scenes a split has unless a limit says otherwise."""
CLIPS = 300
"""Likewise of moving scenes."""


@dataclass(frozen=True)
class ScenePicture:
    """The picture of one drawn scene.

    Attributes:
        split: of the scenes.
        number: of the scene in its split.
        side: height and width in pixels.
    """

    split: Split
    number: int
    side: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.side, self.side

    def load(self) -> NDArray[np.uint8]:
        """RGB, (height, width, 3)."""
        return Scenes(self.split, length=self.number + 1, size=self.side)[self.number].image


class DrawnScenes(Sequence[ReferringImage]):
    """The scenes of a split as referring images; each is drawn when it is asked for.

    >>> image = DrawnScenes("test", 3)[2]
    >>> image.key, image.size, image.expressions[0].key
    ('scene-000002', (96, 96), 'scene-000002/attribute')
    """

    def __init__(self, split: Split, length: int, side: int = 96) -> None:
        self._scenes = Scenes(split, length=length, size=side)

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> ReferringImage:  # type: ignore[override]
        number = range(len(self))[index]
        sample = self._scenes[number]
        key = f"scene-{number:06d}"
        expressions = tuple(
            _expression(key, sample.scene, expression, sample.masks[expression.target])
            for expression in sample.expressions
        )
        return ReferringImage(key, expressions, ScenePicture(self._scenes.split, number, self._scenes.size))

    def count_expressions(self) -> int:
        """How many sentences there are, without drawing."""
        return sum(len(self._scenes.draw(number)[1]) for number in range(len(self)))


def _expression(key: str, scene: Scene, expression: Expression, mask: NDArray[np.bool_]) -> ReferringExpression:
    rle = encode_mask(mask)
    facts = _scene_facts(scene, expression.text, expression.target) | {"target_area": area_share(rle)}
    return ReferringExpression(f"{key}/{expression.kind}", expression.text, rle, expression.kind, facts)


@dataclass(frozen=True)
class MovingFrames:
    """The frames of a drawn clip; each is drawn when it is asked for.

    Attributes:
        motion: what is drawn.
        length: number of frames.
        side: height and width in pixels.
    """

    motion: MovingScene
    length: int
    side: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.side, self.side

    def __len__(self) -> int:
        return self.length

    def load(self, i: int) -> NDArray[np.uint8]:
        """Frame ``i``: RGB, (height, width, 3)."""
        return render([self.motion.at(i)], size=self.side).pictures()[0]


@dataclass(frozen=True)
class MovingTruth:
    """The masks of one object of a drawn clip.

    Attributes:
        frames: of the clip.
        target: index of the object.
    """

    frames: MovingFrames
    target: int

    @property
    def annotated(self) -> tuple[int, ...]:
        """Every frame."""
        return tuple(range(len(self.frames)))

    def load(self, i: int) -> NDArray[np.bool_]:
        """The visible part of the object in frame ``i``, (height, width)."""
        return render([self.frames.motion.at(i)], size=self.frames.side).masks[0, self.target].numpy()


class DrawnClips(Sequence[ReferringClip]):
    """The moving scenes of a split as referring clips.

    The kinds of expression are those of the moving scenes. Facts beside those of still scenes: ``frames``; ``event``,
    what happens to the target; ``speed`` of the target in the first frame, in shares of the picture's side a frame.

    >>> clip = DrawnClips("test", 1)[0]
    >>> clip.key, len(clip), clip.expressions[0].load_masks(0).shape
    ('clip-000000', 24, (96, 96))
    """

    def __init__(self, split: Split, length: int, side: int = 96) -> None:
        self._clips = MovingScenes(split, length=length, size=side)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> ReferringClip:  # type: ignore[override]
        number = range(len(self))[index]
        sample = self._clips[number]
        frames = MovingFrames(sample.motion, sample.length, sample.size)
        truth = MovingTruth(frames, sample.expression.target)
        facts = {
            **_scene_facts(sample.motion.scene, sample.expression.text, sample.expression.target),
            "frames": sample.length,
            "event": sample.event,
            "speed": sample.speed,
            "target_area": float(truth.load(0).mean()),
        }
        key, kind = f"clip-{number:06d}", sample.expression.kind
        expression = ClipExpression(f"{key}/{kind}", sample.expression.text, truth, kind, facts)
        return ReferringClip(key, (expression,), frames, tuple(f"{i:05d}" for i in range(sample.length)))

    def count_expressions(self) -> int:
        """How many sentences there are: one a clip."""
        return len(self)


def _scene_facts(scene: Scene, text: str, target: int) -> dict[str, Fact]:
    shape = scene.objects[target].shape
    return {
        **sentence_facts(text),
        "objects": len(scene.objects),
        "distractors": sum(item.shape == shape for item in scene.objects) - 1,
        "rivals": len(rivals(scene, target)),
    }
