"""What a scene is: a few objects on a background, in units of the picture's side. No pixels here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene.

    Positions and lengths are shares of the picture's side; x grows to the right, y grows downwards.

    Attributes:
        shape: one of ``SHAPES``; in a rich scene one of ``RICH_SHAPES``.
        colour: one of ``COLOURS``.
        size: a word, one of ``SIZES``; the length is ``radius``.
        x: centre, in [0, 1].
        y: centre, in [0, 1].
        radius: of a circle of the shape's size; tips and corners reach up to a fifth of it beyond.
        rotation: in radians, clockwise.
        brightness: factor on the colour, about 1.
        stripes: contrast of the surface's stripes, 0 for none.
        stripe_angle: in radians.
        velocity: displacement (dx, dy) in one unit of time; (0, 0) in a still scene.
        material: one of ``MATERIALS``; empty in a plain scene, whose objects have none.
    """

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    rotation: float = 0.0
    brightness: float = 1.0
    stripes: float = 0.0
    stripe_angle: float = 0.0
    velocity: tuple[float, float] = (0.0, 0.0)
    material: str = ""

    def at(self, time: float) -> SceneObject:
        """The object after ``time`` units of its straight motion.

        >>> SceneObject("ring", "red", "small", 0.25, 0.5, 0.1, velocity=(0.5, 0.0)).at(0.5).x
        0.5
        """
        return replace(self, x=self.x + time * self.velocity[0], y=self.y + time * self.velocity[1])

    def distance(self, other: SceneObject) -> float:
        """Between the two centres, as a share of the picture's side."""
        return math.hypot(self.x - other.x, self.y - other.y)


@dataclass(frozen=True)
class Scene:
    """Objects on a background; later objects lie in front of earlier ones.

    Attributes:
        objects: one or more objects.
        background: one of ``BACKGROUNDS``; in a rich scene one of ``TEXTURES``.
        gradient: strength of the background's gradient, as a share of its brightness.
        gradient_angle: direction in which the background grows lighter, in radians.
        light_angle: direction from which the objects are lit, in radians.
        noise: standard deviation of the pixels' noise, in [0, 1] units of brightness.
        grain: seed of that noise; the same scene always has the same pixels.
    """

    objects: tuple[SceneObject, ...]
    background: str
    gradient: float = 0.0
    gradient_angle: float = 0.0
    light_angle: float = -2.0
    noise: float = 0.0
    grain: int = 0

    def at(self, time: float) -> Scene:
        """The scene after ``time`` units of its objects' motion."""
        return replace(self, objects=tuple(item.at(time) for item in self.objects))
