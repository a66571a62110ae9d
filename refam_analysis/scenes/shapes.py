"""Shapes as signed distance functions, many objects at once, in each object's own frame.

A frame has the object's centre at (0, 0), its radius is 1, u grows to the right and v downwards before it is turned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from refam_analysis.scenes.scene import SceneObject

REACH = 1.12
"""How far a shape stretches to each side of its centre at most, in units of its radius: that of the star's tip."""


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """One number an item, shaped (item, 1, 1) to go with pictures."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None]


def local(items: Sequence[SceneObject], y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (u, v) of places of the picture in each object's own frame, where its radius is 1."""
    radius = column([o.radius for o in items], y)
    dx = (x - column([o.x for o in items], y)) / radius
    dy = (y - column([o.y for o in items], y)) / radius
    cos = column([math.cos(o.rotation) for o in items], y)
    sin = column([math.sin(o.rotation) for o in items], y)
    return dx * cos + dy * sin, dy * cos - dx * sin


def distances(items: Sequence[SceneObject], u: Tensor, v: Tensor) -> Tensor:
    """Signed distance to each object's edge in units of its radius, negative inside."""
    result = torch.empty_like(u)
    for shape in {o.shape for o in items}:
        index = torch.tensor([i for i, o in enumerate(items) if o.shape == shape], device=u.device)
        result[index] = SHAPE_DISTANCES[shape](u[index], v[index])
    return result


def _circle(u: Tensor, v: Tensor) -> Tensor:
    return torch.hypot(u, v) - 1.0


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.86


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    v = v - 0.2
    return torch.maximum(0.866 * u.abs() - 0.5 * v, v) - 0.6


def _cross(u: Tensor, v: Tensor) -> Tensor:
    u, v = u.abs(), v.abs()
    return torch.minimum(torch.maximum(u - 1.0, v - 0.34), torch.maximum(u - 0.34, v - 1.0))


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return (torch.hypot(u, v) - 0.74).abs() - 0.28


def _star(u: Tensor, v: Tensor) -> Tensor:
    """Five points; each half of a point is one straight edge from its tip to the notch beside it."""
    tip, notch, half = 1.12, 0.54, math.pi / 5
    radius = torch.hypot(u, v)
    angle = torch.remainder(torch.atan2(u, -v) + half, 2 * half).sub(half).abs()
    px, py = radius * angle.cos(), radius * angle.sin()
    ex, ey = notch * math.cos(half) - tip, notch * math.sin(half)
    return ((px - tip) * ey - py * ex) / math.hypot(ex, ey)


def _heart(u: Tensor, v: Tensor) -> Tensor:
    """A square on its corner, which is the tip, and a half disc on each of its upper sides."""
    scale, tip = 1.75, 0.98
    x, y = u.abs() / scale, (tip - v) / scale
    # Inside the square (corners (0, 0), (0.5, 0.5), (0, 1)) or inside the disc on its upper side.
    square = torch.maximum(x - y, x + y - 1.0) / math.sqrt(2)
    disc = torch.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    return scale * torch.minimum(square, disc)


def _diamond(u: Tensor, v: Tensor) -> Tensor:
    """Taller than wide."""
    wide, tall = 0.74, 1.12
    return (u.abs() * tall + v.abs() * wide - wide * tall) / math.hypot(wide, tall)


def _crescent(u: Tensor, v: Tensor) -> Tensor:
    """Open to the right: a disc without another disc."""
    u = u - 0.28
    return torch.maximum(torch.hypot(u, v) - 1.0, 0.80 - torch.hypot(u - 0.46, v))


def _arrow(u: Tensor, v: Tensor) -> Tensor:
    """Points to the right."""
    v = v.abs()
    shaft = torch.maximum(torch.maximum(-1.05 - u, u - 0.2), v - 0.30)
    head = torch.maximum(-0.05 - u, (0.9 * (u - 1.05) + 1.1 * v) / math.hypot(0.9, 1.1))
    return torch.minimum(shaft, head)


def _bolt(u: Tensor, v: Tensor) -> Tensor:
    """A flash of lightning: two triangles, one turned half round from the other, that overlap in the middle."""
    return torch.minimum(_half_bolt(u, v), _half_bolt(-u, -v))


def _half_bolt(u: Tensor, v: Tensor) -> Tensor:
    sides = [_side(u, v, start, end) for start, end in zip(_BOLT, (*_BOLT[1:], _BOLT[0]), strict=True)]
    return torch.maximum(torch.maximum(sides[0], sides[1]), sides[2])


_BOLT = ((0.42, -1.08), (0.28, 0.20), (-0.80, 0.20))
"""Corners of the upper triangle, clockwise as one sees them."""


def _side(u: Tensor, v: Tensor, start: tuple[float, float], end: tuple[float, float]) -> Tensor:
    """Distance from a straight line, negative on the right of somebody who walks from ``start`` to ``end``."""
    du, dv = end[0] - start[0], end[1] - start[1]
    return ((u - start[0]) * dv - (v - start[1]) * du) / math.hypot(du, dv)


def _house(u: Tensor, v: Tensor) -> Tensor:
    """A square body under a roof that stands out on both sides."""
    u = u.abs()
    body = torch.maximum(u - 0.66, (v - 0.40).abs() - 0.52)
    roof = torch.maximum(v - 0.02, (1.04 * (u - 1.04) - 1.04 * (v - 0.02)) / math.hypot(1.04, 1.04))
    return torch.minimum(body, roof)


SHAPE_DISTANCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "circle": _circle,
        "square": _square,
        "triangle": _triangle,
        "cross": _cross,
        "ring": _ring,
        "star": _star,
        "heart": _heart,
        "diamond": _diamond,
        "crescent": _crescent,
        "arrow": _arrow,
        "bolt": _bolt,
        "house": _house,
    }
)
"""By the shape's word: signed distance from its edge at (u, v)."""
