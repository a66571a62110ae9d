"""Moving scenes: short clips with exact masks in every frame, and sentences that are true of their first one.

What moves how is in `motion`, pictures are drawn in `rendering`. Two kinds of sentence speak of the motion itself; of
these one could do without it, and one could not, which only a model that sees more than one frame can answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from refam_analysis.scenes.dataset import SPLIT_SEEDS, Split
from refam_analysis.scenes.expressions import FEWEST_OBJECTS, ExpressionKind, expressions, looks
from refam_analysis.scenes.motion import EVENTS, HORIZON, MotionEvent, MovingScene, set_in_motion
from refam_analysis.scenes.rendering import render, visible_masks
from refam_analysis.scenes.sampling import SceneOptions, sample_scene
from refam_analysis.scenes.scene import Scene

MovingKind = Literal["attribute", "location", "relation", "superlative", "moving", "direction"]
MOVING_KINDS: tuple[MovingKind, ...] = get_args(MovingKind)
"""The first four are those of still scenes. ``moving``: the look alone singles the object out, and its direction of
motion is named too. ``direction``: the look fits several objects, and only the direction of motion tells."""

SLOWEST = 0.004
"""Shares of the picture's side a frame; slower than this an object is not said to move."""

DIRECTIONS: dict[str, Callable[[float, float], float]] = {
    "moving to the left": lambda dx, dy: -dx if abs(dx) >= 2 * abs(dy) else 0.0,
    "moving to the right": lambda dx, dy: dx if abs(dx) >= 2 * abs(dy) else 0.0,
    "moving up": lambda dx, dy: -dy if abs(dy) >= 2 * abs(dx) else 0.0,
    "moving down": lambda dx, dy: dy if abs(dy) >= 2 * abs(dx) else 0.0,
}
"""Phrases of motion, and how fast an object moves that way, where that way is clearly the main one."""

ANYHOW: dict[str, Callable[[float, float], float]] = {
    "moving to the left": lambda dx, dy: -dx,
    "moving to the right": lambda dx, dy: dx,
    "moving up": lambda dx, dy: -dy,
    "moving down": lambda dx, dy: dy,
}
"""The same by the loosest reading: of a rival not even this may be so."""

_FEWEST_OF_KIND: Mapping[str, int] = {**FEWEST_OBJECTS, "moving": 1, "direction": 2}
_FEWEST_OF_EVENT: Mapping[str, int] = {"free": 1, "crossed": 2, "hidden": 2, "leaving": 1}
"""Fewest objects of a scene that a kind of expression, and an event, can be found in."""

STRAIGHT = 6
"""Frames in which no object turns back where a direction of motion is named."""
_CHECKED_SIZE = 48
_CHUNK = 32


@dataclass(frozen=True)
class MovingOptions:
    """What clips to draw.

    Attributes:
        scenes: the first frames. With ``shared_attribute`` some other object shares its colour or its shape.
        speed: least and most of objects to which nothing is planned, in shares of the picture's side a frame.
        still: probability that an object other than the target stands still.
    """

    scenes: SceneOptions = SceneOptions(objects=(3, 3), shared_attribute=True)
    speed: tuple[float, float] = (0.006, 0.03)
    still: float = 0.3


@dataclass(frozen=True)
class MovingExpression:
    """A sentence and the one object that it refers to.

    Attributes:
        text: lower case, without punctuation; true of the first frame and of the motion there.
        kind: what the sentence relies on.
        target: index into the scene's objects.
    """

    text: str
    kind: MovingKind
    target: int


@dataclass(frozen=True)
class MovingSample:
    """One clip with everything that is true of it.

    Attributes:
        motion: what was drawn.
        expression: the sentence.
        event: what happens to its target.
        length: number of frames.
        size: height and width in pixels.
    """

    motion: MovingScene
    expression: MovingExpression
    event: MotionEvent
    length: int
    size: int

    @cached_property
    def frames(self) -> NDArray[np.uint8]:
        """The pixels, RGB: uint8 (frame, height, width, 3)."""
        return np.concatenate([frames for frames, _ in self.chunks()])

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """The visible part of every object: bool (frame, object, height, width)."""
        return np.concatenate([masks for _, masks in self.chunks()])

    @property
    def truth(self) -> NDArray[np.bool_]:
        """The visible part of the target: bool (frame, height, width)."""
        return self.masks[:, self.expression.target]

    @property
    def speed(self) -> float:
        """Of the target in the first frame, in shares of the picture's side a frame."""
        return float(np.hypot(*self.motion.scene.objects[self.expression.target].velocity))

    def chunks(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """Frames and masks, a few frames at a time, so that a long clip need not be held."""
        for first in range(0, self.length, _CHUNK):
            times = range(first, min(first + _CHUNK, self.length))
            drawn = render([self.motion.at(time) for time in times], size=self.size)
            yield drawn.pictures(), drawn.masks.numpy()


class MovingScenes(Sequence[MovingSample]):
    """A split of moving scenes.

    Clip ``i`` depends on the split, on ``i``, on the kinds, the events and the options only: not on ``length`` or
    ``size``, and ``frames`` beyond the first 24 go on from them. Kinds come in turn, and events in turn for each of
    them, so that all have equal shares. In the first frame every object is in full sight. Splits share no clip, and
    only the test split shows the pairs of ``HELD_OUT``.

    Args:
        split: ``train``, ``validation`` or ``test``.
        length: how many clips.
        frames: of each clip, at least 24, within which the event happens.
        size: height and width of the frames in pixels.
        options: which clips to draw; ``held_out`` is set by the split.
        kinds: of expressions.
        events: what happens to the targets.

    Raises:
        ValueError: a choice is unknown or empty, the clips are too short, or too few objects for a kind or an event.

    >>> clip = MovingScenes("test", length=24)[2]
    >>> clip.frames.shape, clip.event, clip.expression.kind
    ((24, 96, 96, 3), 'free', 'relation')
    """

    def __init__(
        self,
        split: Split,
        *,
        length: int = 300,
        frames: int = HORIZON,
        size: int = 96,
        options: MovingOptions = MovingOptions(),
        kinds: Sequence[MovingKind] = MOVING_KINDS,
        events: Sequence[MotionEvent] = EVENTS,
    ) -> None:
        for name, given, known in (
            ("split", [split], get_args(Split)),
            ("kinds", kinds, MOVING_KINDS),
            ("events", events, EVENTS),
        ):
            if not given or (unknown := [one for one in given if one not in known]):
                wrong = unknown if given else "none"
                raise ValueError(f"{name}={wrong} is no choice: choose among {', '.join(known)}.")
        if frames < HORIZON:
            raise ValueError(f"frames={frames} is too short for anything to happen: give at least {HORIZON}.")
        most = options.scenes.objects[1]
        for name, wanted, fewest in (("kinds", kinds, _FEWEST_OF_KIND), ("events", events, _FEWEST_OF_EVENT)):
            if needing := [one for one in wanted if fewest[one] > most]:
                raise ValueError(
                    f"{name}={needing} cannot be with {most} objects: give options.scenes.objects of at least "
                    f"{max(fewest[one] for one in needing)}."
                )
        self.split: Split = split
        self.frames, self.size = frames, size
        self.options = replace(options, scenes=replace(options.scenes, held_out=split == "test"))
        self.kinds, self.events = tuple(kinds), tuple(events)
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> MovingSample:  # type: ignore[override]
        """Clip ``index``; its pixels are drawn when they are first asked for.

        Raises:
            IndexError: the split has no such clip.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"Clip {index} does not exist: this split has {len(self)} clips.")
        index %= len(self)
        rng = np.random.default_rng([SPLIT_SEEDS[self.split], 24, index])
        kind = self.kinds[index % len(self.kinds)]
        event = self.events[index // len(self.kinds) % len(self.events)]
        while True:
            scene = sample_scene(rng, self.options.scenes)
            actor = int(rng.integers(len(scene.objects)))
            planned = set_in_motion(rng, scene, actor, event, speed=self.options.speed, still=self.options.still)
            if planned is None:
                continue
            motion, actor = planned
            offers = [offer for offer in moving_expressions(motion.scene, kind) if offer.target == actor]
            if kind in ("moving", "direction") and not _goes_straight(motion):
                continue
            if offers and _happens(motion, actor, event):
                return MovingSample(motion, offers[int(rng.integers(len(offers)))], event, self.frames, self.size)

    def __iter__(self) -> Iterator[MovingSample]:
        return (self[i] for i in range(len(self)))


def moving_expressions(scene: Scene, kind: MovingKind) -> list[MovingExpression]:
    """All expressions of one kind that refer to exactly one object of a scene's first frame.

    Args:
        scene: the first frame, with its velocities.
        kind: one of :data:`MOVING_KINDS`.

    Returns:
        The expressions, in the order of the scene's objects.

    >>> from refam_analysis.scenes import SceneObject
    >>> left = SceneObject("circle", "red", "small", 0.5, 0.2, 0.1, velocity=(-0.02, 0.0))
    >>> right = SceneObject("circle", "red", "small", 0.5, 0.8, 0.1, velocity=(0.02, 0.0))
    >>> moving_expressions(Scene((left, right), "gray"), "direction")[0].text
    'the circle moving to the left'
    """
    if kind not in ("moving", "direction"):
        return [MovingExpression(one.text, kind, one.target) for one in expressions(scene, cast(ExpressionKind, kind))]
    return list(dict.fromkeys(_of_motion(scene, kind)))


def _of_motion(scene: Scene, kind: MovingKind) -> Iterator[MovingExpression]:
    for index, item in enumerate(scene.objects):
        for look in looks(item):
            others = [o for i, o in enumerate(scene.objects) if i != index and look.fits(o)]
            if bool(others) != (kind == "direction"):
                continue
            for phrase, pace in DIRECTIONS.items():
                if pace(*item.velocity) >= SLOWEST and not any(ANYHOW[phrase](*o.velocity) > 0 for o in others):
                    yield MovingExpression(f"the {look.words} {phrase}", kind, index)


def _goes_straight(motion: MovingScene) -> bool:
    """Whether no object turns back in the first frames, so that the direction which is named can be seen."""
    pairs = zip(motion.scene.objects, motion.limits, strict=True)
    return all(limits.moved(item, STRAIGHT).velocity == item.velocity for item, limits in pairs)


def _happens(motion: MovingScene, actor: int, event: MotionEvent) -> bool:
    """Whether the pixels show what was planned: the share of the target in sight, beside that of the first frame."""
    scenes = [motion.at(time) for time in range(HORIZON)]
    areas = visible_masks(scenes, size=_CHECKED_SIZE)[:, actor].sum((1, 2)).numpy()
    share = areas / areas[0]
    low, returned = int(share.argmin()), share[int(share.argmin()) :].max()
    if event == "free":
        return bool(share.min() > 0.6)
    if event == "crossed":
        return bool(0.1 < share.min() < 0.7 and returned > 0.9)
    gone = int((areas == 0).sum())
    return gone >= 2 and low < HORIZON - 3 and bool(returned > 0.8)


__all__ = [
    "DIRECTIONS", "EVENTS", "HORIZON", "MOVING_KINDS", "MotionEvent", "MovingExpression", "MovingKind", "MovingOptions",
    "MovingSample", "MovingScene", "MovingScenes", "moving_expressions",
]  # fmt: skip
