"""How the objects of a moving scene move: straight on, turned back at limits, behind each other, out of the picture.

Here are the limits, what may happen to an object, and how velocities are drawn so that it does. Which clips there are,
and what is said of them, is in `moving`. One unit of time is one frame; lengths are shares of the picture's side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from refam_analysis.scenes.scene import Scene, SceneObject
from refam_analysis.scenes.shapes import REACH

MotionEvent = Literal["free", "crossed", "hidden", "leaving"]
EVENTS: tuple[MotionEvent, ...] = get_args(MotionEvent)
"""What happens to the object that is meant: nothing that was planned; another passes in front of it, so that a part
stays in sight; it passes behind a larger one and is out of sight; it leaves the picture and returns."""

HORIZON = 24
"""Frames within which the event happens, however long the clip is; in a longer one it may happen again."""

_MARGIN = 0.02

_COVERING = ("circle", "square")
"""Shapes that hide what is behind their middle."""


@dataclass(frozen=True)
class Limits:
    """Between which values of x and of y an object's centre moves; at each it turns back, as light at a mirror.

    >>> Limits(x=(0.1, 0.9), y=(0.1, 0.9)).moved(SceneObject("star", "red", "small", 0.8, 0.5, 0.1), 3.0).x
    0.8
    """

    x: tuple[float, float]
    y: tuple[float, float]

    def moved(self, item: SceneObject, time: float) -> SceneObject:
        """The object after so many frames, with the velocity that it has then."""
        straight = item.at(time)
        (x, forth), (y, down) = _turned(straight.x, *self.x), _turned(straight.y, *self.y)
        velocity = (forth * item.velocity[0], down * item.velocity[1])
        return replace(straight, x=x, y=y, velocity=velocity)


@dataclass(frozen=True)
class MovingScene:
    """Objects that move.

    Attributes:
        scene: the first frame, with the velocity that each object has there.
        limits: of each object's motion.
    """

    scene: Scene
    limits: tuple[Limits, ...]

    def at(self, time: float) -> Scene:
        """The scene after so many frames; a camera's noise is another in every frame."""
        pairs = zip(self.scene.objects, self.limits, strict=True)
        objects = tuple(limits.moved(item, time) for item, limits in pairs)
        return replace(self.scene, objects=objects, grain=self.scene.grain + round(time))


def set_in_motion(
    rng: np.random.Generator, scene: Scene, actor: int, event: MotionEvent, *, speed: tuple[float, float], still: float
) -> tuple[MovingScene, int] | None:
    """Give every object a velocity, so that something happens to one of them.

    Args:
        rng: the only source of randomness.
        scene: as it stands in the first frame. Where one object must be in front of another, the two may change
            places in its order.
        actor: the object that it happens to, which always moves.
        event: one of :data:`EVENTS`.
        speed: least and most, a frame. What the event demands may be faster.
        still: probability that another object stands still.

    Returns:
        The moving scene and the place of the actor in it; None where the objects do not fit the event (nothing is
        large enough to hide behind), so that another scene has to be drawn.
    """
    objects = list(scene.objects)
    other = _partner(rng, objects, actor, event)
    if other is None and event in ("crossed", "hidden"):
        return None
    if other is not None and other < actor:
        objects[actor], objects[other] = objects[other], objects[actor]
        actor, other = other, actor
    moving = [replace(item, velocity=_velocity(rng, speed, still)) for item in objects]
    moving[actor] = replace(objects[actor], velocity=_velocity(rng, speed, 0.0))
    limits = [_inside(item) for item in moving]
    meeting = rng.uniform(0.35, 0.6) * HORIZON
    if event == "crossed" and other is not None:
        aside = 0.7 * moving[actor].radius * rng.uniform(-1.0, 1.0, size=2)
        moving[other] = _aimed(moving[other], limits[actor].moved(moving[actor], meeting), meeting, aside)
    if event == "hidden" and other is not None:
        moving[actor] = _aimed(moving[actor], limits[other].moved(moving[other], meeting), meeting, np.zeros(2))
    if event == "leaving":
        moving[actor], limits[actor] = _leaving(rng, moving[actor])
    return MovingScene(replace(scene, objects=tuple(moving)), tuple(limits)), actor


def _turned(position: float, low: float, high: float) -> tuple[float, float]:
    """Where a position lies after all turns between two limits, and the sign of the velocity there."""
    width = high - low
    phase = (position - low) % (2 * width)
    return (low + phase, 1.0) if phase <= width else (low + 2 * width - phase, -1.0)


def _inside(item: SceneObject) -> Limits:
    reach = REACH * item.radius + _MARGIN
    return Limits(x=(reach, 1 - reach), y=(reach, 1 - reach))


def _partner(rng: np.random.Generator, objects: list[SceneObject], actor: int, event: MotionEvent) -> int | None:
    """Who crosses or hides the actor."""
    fitting = [index for index in range(len(objects)) if index != actor]
    if event == "hidden":
        covering = [i for i in fitting if objects[i].size == "large" and objects[i].shape in _COVERING]
        fitting = covering if objects[actor].size == "small" else []
    if event in ("free", "leaving") or not fitting:
        return None
    return fitting[int(rng.integers(len(fitting)))]


def _velocity(rng: np.random.Generator, speed: tuple[float, float], still: float) -> tuple[float, float]:
    stands = rng.random() < still
    length, angle = rng.uniform(*speed), rng.uniform(0, 2 * math.pi)
    return (0.0, 0.0) if stands else (float(length * math.cos(angle)), float(length * math.sin(angle)))


def _aimed(item: SceneObject, goal: SceneObject, time: float, aside: np.ndarray) -> SceneObject:
    """The object with the velocity that brings it to the goal, or beside it, at that time."""
    dx, dy = goal.x + float(aside[0]) - item.x, goal.y + float(aside[1]) - item.y
    return replace(item, velocity=(dx / time, dy / time))


def _leaving(rng: np.random.Generator, item: SceneObject) -> tuple[SceneObject, Limits]:
    """Out by the nearest side and back inside, most of the way through the horizon."""
    distances = {(0, 0.0): item.x, (0, 1.0): 1 - item.x, (1, 0.0): item.y, (1, 1.0): 1 - item.y}
    axis, side = min(distances, key=lambda key: distances[key])
    reach = REACH * item.radius
    beyond = reach + rng.uniform(0.02, 0.08)
    way = distances[axis, side] + 2 * beyond + reach + _MARGIN
    pace = way / (rng.uniform(0.75, 0.9) * HORIZON)
    drift = float(rng.uniform(-0.4, 0.4) * pace)
    along = float(pace if side else -pace)
    inside = _inside(item)
    turned = {0.0: (-beyond, 1 - reach - _MARGIN), 1.0: (reach + _MARGIN, 1 + beyond)}[side]
    if axis == 0:
        return replace(item, velocity=(along, drift)), Limits(x=turned, y=inside.y)
    return replace(item, velocity=(drift, along)), Limits(x=inside.x, y=turned)
