"""Rich scenes drawn at random: more shapes, materials, textures, and objects that stand partly before others."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from refam_analysis.scenes.rich_vocabulary import MATERIALS, RICH_HELD_OUT, RICH_SHAPES, RICH_SIZES, TEXTURES
from refam_analysis.scenes.scene import Scene, SceneObject
from refam_analysis.scenes.shapes import REACH, SHAPE_DISTANCES
from refam_analysis.scenes.vocabulary import COLOURS

_MARGIN = 0.02
_GAP = 0.02
_TRIES = 40
_ALL_PAIRS = tuple((c, s) for c in COLOURS for s in RICH_SHAPES)
_KNOWN_PAIRS = tuple(pair for pair in _ALL_PAIRS if pair not in RICH_HELD_OUT)
_SAME_COLOUR = 0.65
"""Of two objects that share an attribute, how often it is the colour: shapes are what a small model learns last."""
_ALIKE = 0.3
"""How often the third object, and every later one, has the colour of an earlier one."""
_LEAST_VISIBLE = 0.58
"""Share of an object's sample points that stays in sight, so that at least half of its pixels do."""

_Look = tuple[str, str, str, str]
"""Colour, shape, size, material."""


def sample_rich_scene(
    rng: np.random.Generator, number: int, *, occlusion: float, shared_attribute: bool, held_out: bool
) -> Scene:
    """Draw one rich scene.

    Args:
        rng: the only source of randomness; the same state gives the same scene.
        number: of objects.
        occlusion: probability that an object may stand partly in front of others. At least half of every object
            stays in sight.
        shared_attribute: the second object shares its colour or its shape, not both, with the first.
        held_out: whether the pairs of ``RICH_HELD_OUT`` may appear.

    >>> scene = sample_rich_scene(np.random.default_rng(0), 5, occlusion=0.5, shared_attribute=True, held_out=False)
    >>> len(scene.objects), scene.background in TEXTURES
    (5, True)
    """
    while True:
        looks = _draw_looks(rng, number, _ALL_PAIRS if held_out else _KNOWN_PAIRS, shared_attribute)
        if (placed := _place_all(rng, looks, occlusion)) is not None:
            break
    order = rng.permutation(number) if occlusion == 0.0 else np.arange(number)
    return Scene(
        objects=tuple(placed[i] for i in order),
        background=str(rng.choice(list(TEXTURES))),
        gradient=float(rng.uniform(0.1, 0.6)),
        gradient_angle=float(rng.uniform(0, 2 * math.pi)),
        light_angle=float(rng.uniform(-2.6, -0.5)),
        noise=float(rng.uniform(0.005, 0.02)),
        grain=int(rng.integers(2**31)),
    )


def _draw_looks(
    rng: np.random.Generator, number: int, pairs: tuple[tuple[str, str], ...], shared_attribute: bool
) -> list[_Look]:
    """No two objects look the same in all four."""
    looks: list[_Look] = []
    while len(looks) < number:
        candidates = pairs
        if len(looks) == 1 and shared_attribute:
            colour, shape, *_ = looks[0]
            by_colour = bool(rng.random() < _SAME_COLOUR)
            shared = [p for p in pairs if (p[0] == colour) != (p[1] == shape)]
            candidates = tuple(p for p in shared if (p[0] == colour) == by_colour) or tuple(shared)
        elif len(looks) > 1 and rng.random() < _ALIKE:
            colour = looks[int(rng.integers(len(looks)))][0]
            candidates = tuple(p for p in pairs if p[0] == colour)
        colour, shape = candidates[int(rng.integers(len(candidates)))]
        size = "large" if rng.random() < (0.5 if number < 5 else 0.25) else "small"
        look = (colour, shape, size, MATERIALS[int(rng.integers(len(MATERIALS)))])
        if look not in looks:
            looks.append(look)
    return looks


def _place_all(rng: np.random.Generator, looks: list[_Look], occlusion: float) -> list[SceneObject] | None:
    """The objects at free places, in the order of the looks; None when the picture is too crowded."""
    placed: list[SceneObject] = []
    visible: list[NDArray[np.float64]] = []
    for look in looks:
        may_overlap = rng.random() < occlusion
        radius = float(rng.uniform(*RICH_SIZES[look[2]]))
        for _ in range(_TRIES):
            item = _stand(rng, look, radius)
            left = _left_in_sight(item, placed, visible) if may_overlap else _beside(item, placed, visible)
            if left is not None:
                break
        else:
            return None
        placed.append(item)
        visible = [*left, _sample_points(item)]
    return placed


def _stand(rng: np.random.Generator, look: _Look, radius: float) -> SceneObject:
    reach = REACH * radius + _MARGIN
    colour, shape, size, material = look
    x, y = rng.uniform(reach, 1 - reach, size=2)
    return SceneObject(
        shape=shape,
        colour=colour,
        size=size,
        x=float(x),
        y=float(y),
        radius=radius,
        rotation=float(rng.uniform(-0.25, 0.25)),
        brightness=float(rng.uniform(0.92, 1.08)),
        stripe_angle=float(rng.uniform(0, math.pi)),
        material=material,
    )


def _beside(
    item: SceneObject, placed: list[SceneObject], visible: list[NDArray[np.float64]]
) -> list[NDArray[np.float64]] | None:
    free = all(item.distance(other) > 1.08 * (item.radius + other.radius) + _GAP for other in placed)
    return visible if free else None


def _left_in_sight(
    item: SceneObject, placed: list[SceneObject], visible: list[NDArray[np.float64]]
) -> list[NDArray[np.float64]] | None:
    """The sample points of every earlier object that the new one leaves in sight; None where they are too few."""
    left = []
    for other, points in zip(placed, visible, strict=True):
        apart = item.distance(other) / (item.radius + other.radius)
        if apart < 0.6:
            return None
        if apart < 1.15:
            points = points[~_inside(item, points)]
            if len(points) < _LEAST_VISIBLE * len(_unit_points(other.shape)):
                return None
        left.append(points)
    return left


def _inside(item: SceneObject, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    cos, sin = math.cos(item.rotation), math.sin(item.rotation)
    dx, dy = (points - (item.x, item.y)).T / item.radius
    u, v = torch.from_numpy(dx * cos + dy * sin), torch.from_numpy(dy * cos - dx * sin)
    return (SHAPE_DISTANCES[item.shape](u, v) < 0).numpy()


def _sample_points(item: SceneObject) -> NDArray[np.float64]:
    """(point, 2): x and y of points spread evenly over the object, in shares of the picture's side."""
    cos, sin = math.cos(item.rotation), math.sin(item.rotation)
    u, v = _unit_points(item.shape).T
    return item.radius * np.stack((u * cos - v * sin, u * sin + v * cos), axis=1) + (item.x, item.y)


@cache
def _unit_points(shape: str) -> NDArray[np.float64]:
    axis = torch.linspace(-1.15, 1.15, 20, dtype=torch.float64)
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack((u, v), -1)[SHAPE_DISTANCES[shape](u, v) < 0].numpy()
