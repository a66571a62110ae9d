"""How objects of rich scenes look: rounded edges, light, four materials, and soft shadows of their own shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from refam_analysis.scenes.scene import SceneObject
from refam_analysis.scenes.shapes import column, distances, local
from refam_analysis.scenes.vocabulary import COLOURS

_CONTRAST = 0.52
"""Of stripes and of dots, which are darker shades of the object's own colour: so it keeps its name."""
_PERIOD = 0.62
"""Of stripes and of dots, in units of the radius: four pixels on a small object in a picture of 64."""


def shadow(items: Sequence[SceneObject], light: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """How dark the shadow of each object is, in [0, 1], (object, height, width): its shape, displaced and blurred."""
    reach = 0.30 * column([o.radius for o in items], y)
    u, v = local(items, y + reach * light.sin(), x + reach * light.cos())
    return (0.62 - 1.5 * distances(items, u, v)).clamp(0, 1)


def surface(items: Sequence[SceneObject], light: Tensor, u: Tensor, v: Tensor, away: Tensor) -> Tensor:
    """Colour of each object at every pixel, (object, 3, height, width).

    Args:
        items: the objects.
        light: (object, 1, 1), the direction from which each is lit, in radians.
        u: (object, height, width), in each object's own frame.
        v: likewise.
        away: signed distance to the edge in units of the radius.
    """
    toward = u * light.cos() + v * light.sin()
    lit = 1 + 0.20 * toward.clamp(-1.2, 1.2)
    inner = (-away / 0.22).clamp(0, 1)
    edge = 0.78 + 0.22 * inner
    shade = column([o.brightness for o in items], u) * lit * edge
    colour = torch.tensor([COLOURS[o.colour] for o in items], device=u.device)[:, :, None, None]
    pattern, gloss = torch.zeros_like(u), torch.zeros_like(u)
    for material, fill in (("striped", _stripes), ("dotted", _dots)):
        if index := [i for i, o in enumerate(items) if o.material == material]:
            pattern[index] = fill([items[i] for i in index], u[index], v[index])
    if index := [i for i, o in enumerate(items) if o.material == "shiny"]:
        gloss[index] = _highlight(toward[index], (v * light.cos() - u * light.sin())[index])
    # A rim without pattern keeps the outline whole.
    painted = colour * ((1 - _CONTRAST * pattern * inner) * shade)[:, None]
    return torch.lerp(painted, torch.ones_like(painted), gloss[:, None])


def _along(items: Sequence[SceneObject], u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    angle = column([o.stripe_angle for o in items], u)
    return u * angle.cos() + v * angle.sin(), v * angle.cos() - u * angle.sin()


def _stripes(items: Sequence[SceneObject], u: Tensor, v: Tensor) -> Tensor:
    along, _ = _along(items, u, v)
    return (0.5 + 1.2 * (torch.cos(2 * math.pi / _PERIOD * along) - 0.12)).clamp(0, 1)


def _dots(items: Sequence[SceneObject], u: Tensor, v: Tensor) -> Tensor:
    along, across = _along(items, u, v)
    nearest = [torch.remainder(part / _PERIOD + 0.5, 1.0) - 0.5 for part in (along, across)]
    return (0.5 + 6.0 * (0.32 - torch.hypot(*nearest))).clamp(0, 1)


def _highlight(toward: Tensor, across: Tensor) -> Tensor:
    """A bright streak on the side of the light, and a fainter one opposite."""
    main = torch.exp(-(((toward - 0.42) / 0.17) ** 2) - (across / 0.75) ** 4)
    return 0.88 * main + 0.30 * torch.exp(-(((toward + 0.55) / 0.12) ** 2) - (across / 0.6) ** 4)
