"""From scenes to pixels and exact masks, many scenes at once, on any device.

Every shape is a signed distance function; its coverage of a pixel gives the picture (anti-aliased) and, at one half,
the mask. Noise comes from an integer hash of the pixel and the scene, so that a scene looks the same alone, in a
batch, and on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from refam_analysis.scenes.scene import Scene, SceneObject
from refam_analysis.scenes.vocabulary import BACKGROUNDS, COLOURS


class Rendering(NamedTuple):
    """Pictures and masks of a batch of scenes.

    Attributes:
        images: float32 (scene, 3, height, width), RGB in [0, 1].
        masks: bool (scene, object, height, width): the visible part of each object, all False beyond
            the scene's own number of objects.
    """

    images: Tensor
    masks: Tensor


def render(scenes: Sequence[Scene], *, size: int = 96, device: torch.device | str = "cpu") -> Rendering:
    """Draw a batch of scenes.

    Args:
        scenes: one or more scenes.
        size: height and width of the pictures in pixels.
        device: where to draw.

    Returns:
        The pictures and the masks, on ``device``.

    >>> scene = Scene((SceneObject("circle", "red", "large", 0.5, 0.5, 0.2),), "navy")
    >>> picture, masks = render([scene], size=32)
    >>> picture.shape, bool(masks[0, 0, 16, 16]), bool(masks[0, 0, 0, 0])
    (torch.Size([1, 3, 32, 32]), True, False)
    """
    if not scenes:
        raise ValueError("render needs at least one scene: the sequence is empty.")
    axis = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    y, x = axis[:, None], axis[None, :]
    images = _backgrounds(scenes, y, x)
    most = max(len(scene.objects) for scene in scenes)
    masks = torch.zeros(len(scenes), most, size, size, dtype=torch.bool, device=device)
    for layer in range(most):
        members = [i for i, scene in enumerate(scenes) if layer < len(scene.objects)]
        items = [scenes[i].objects[layer] for i in members]
        lights = _column([scenes[i].light_angle for i in members], y)
        u, v = _local(items, y, x)
        coverage = (0.5 - _distances(items, u, v) * _column([o.radius for o in items], y) * size).clamp(0, 1)
        index = torch.tensor(members, device=device)
        below = images[index] * (1 - 0.35 * _shadow(items, lights, y, x))[:, None]
        surface = _surface(items, lights, u, v)
        images[index] = torch.lerp(below, surface, coverage[:, None])
        covered = coverage > 0.5
        masks[index] &= ~covered[:, None]
        masks[index, layer] = covered
    return Rendering(_add_noise(images, scenes), masks)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None]


def _backgrounds(scenes: Sequence[Scene], y: Tensor, x: Tensor) -> Tensor:
    colour = torch.tensor([BACKGROUNDS[s.background] for s in scenes], device=y.device)[:, :, None, None]
    angle = _column([s.gradient_angle for s in scenes], y)
    ramp = (x - 0.5) * angle.cos() + (y - 0.5) * angle.sin()
    phase = _column([s.grain % 997 / 50.0 for s in scenes], y)
    clouds = 0.05 * (torch.sin(9 * x + 5 * y + phase) + torch.sin(-6 * x + 11 * y + 2 * phase))
    light = 1 + _column([s.gradient for s in scenes], y) * ramp + clouds
    return colour * light[:, None]


def _local(items: Sequence[SceneObject], y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates in each object's own frame, where its radius is 1."""
    radius = _column([o.radius for o in items], y)
    dx = (x - _column([o.x for o in items], y)) / radius
    dy = (y - _column([o.y for o in items], y)) / radius
    cos = _column([math.cos(o.rotation) for o in items], y)
    sin = _column([math.sin(o.rotation) for o in items], y)
    return dx * cos + dy * sin, dy * cos - dx * sin


def _shadow(items: Sequence[SceneObject], light: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """A soft blob on the side away from the light, in [0, 1]."""
    radius = _column([o.radius for o in items], y)
    dx = x - _column([o.x for o in items], y) + 0.35 * radius * light.cos()
    dy = y - _column([o.y for o in items], y) + 0.35 * radius * light.sin()
    return torch.exp(-(((dx**2 + dy**2) / (0.9 * radius**2)) ** 2))


def _surface(items: Sequence[SceneObject], light: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Lit, striped colour of each object at every pixel, (object, 3, height, width)."""
    colour = torch.tensor([COLOURS[o.colour] for o in items], device=u.device)[:, :, None, None]
    lit = 1 + 0.16 * (u * light.cos() + v * light.sin()).clamp(-1.2, 1.2)
    angle = _column([o.stripe_angle for o in items], u)
    wave = 0.5 + 0.5 * torch.sin(9 * (u * angle.cos() + v * angle.sin()))
    stripes = 1 - _column([o.stripes for o in items], u) * wave
    shade = _column([o.brightness for o in items], u) * lit * stripes
    return colour * shade[:, None]


def _add_noise(images: Tensor, scenes: Sequence[Scene]) -> Tensor:
    size = images.shape[-1]
    pixel = torch.arange(3 * size * size, device=images.device, dtype=torch.int64)
    grain = torch.tensor([s.grain for s in scenes], device=images.device, dtype=torch.int64)
    mixed = (pixel[None] * 0x9E3779B1 + grain[:, None] * 0x85EBCA77) & 0xFFFFFFFF
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & 0xFFFFFFFF
    mixed = mixed ^ (mixed >> 15)
    # Uniform noise of unit variance; a sum of more draws would look no different at this strength.
    unit = (mixed.to(torch.float32) / 2**32 - 0.5) * math.sqrt(12)
    strength = torch.tensor([s.noise for s in scenes], device=images.device)[:, None]
    return (images + (strength * unit).view_as(images)).clamp(0, 1)


def _distances(items: Sequence[SceneObject], u: Tensor, v: Tensor) -> Tensor:
    """Signed distance to each object's edge in units of its radius, negative inside."""
    result = torch.empty_like(u)
    for shape in {o.shape for o in items}:
        index = torch.tensor([i for i, o in enumerate(items) if o.shape == shape], device=u.device)
        result[index] = _SHAPE_DISTANCES[shape](u[index], v[index])
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


_SHAPE_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
    "star": _star,
}
