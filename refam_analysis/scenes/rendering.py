"""From scenes to pixels and exact masks, many scenes at once, on any device.

Every shape is a signed distance function; its coverage of a pixel gives the picture (anti-aliased) and, at one half,
the mask. Noise comes from an integer hash of the pixel and the scene, so that a scene looks the same alone, in a
batch, and on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refam_analysis.scenes import surfaces, textures
from refam_analysis.scenes.scene import Scene, SceneObject
from refam_analysis.scenes.shapes import column, distances, local
from refam_analysis.scenes.textures import PATTERNS, hashed
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

    def pictures(self) -> NDArray[np.uint8]:
        """The pictures as image files hold them, wherever they were drawn: uint8 (scene, height, width, 3)."""
        pixels: NDArray[np.uint8] = (self.images.permute(0, 2, 3, 1).cpu().numpy() * 255).round().astype(np.uint8)
        return pixels


def render(
    scenes: Sequence[Scene], *, size: int = 96, device: torch.device | str = "cpu", texture: float = 1.0
) -> Rendering:
    """Draw a batch of scenes.

    Args:
        scenes: one or more scenes.
        size: height and width of the pictures in pixels.
        device: where to draw.
        texture: contrast of the textures behind rich scenes: 1 as they are, 0 for each picture's mean colour.

    Returns:
        The pictures and the masks, on ``device``.

    Raises:
        ValueError: there is no scene.

    >>> scene = Scene((SceneObject("circle", "red", "large", 0.5, 0.5, 0.2),), "navy")
    >>> picture, masks = render([scene], size=32)
    >>> picture.shape, bool(masks[0, 0, 16, 16]), bool(masks[0, 0, 0, 0])
    (torch.Size([1, 3, 32, 32]), True, False)
    """
    if not scenes:
        raise ValueError("render needs at least one scene: the sequence is empty.")
    textured = [i for i, scene in enumerate(scenes) if scene.background in PATTERNS]
    rich = _RICH._replace(backgrounds=partial(_faded, texture)) if texture != 1.0 else _RICH
    if len(textured) in (0, len(scenes)):
        return _draw(scenes, rich if textured else _PLAIN, size, device)
    most = max(len(scene.objects) for scene in scenes)
    images = torch.empty(len(scenes), 3, size, size, device=device)
    masks = torch.zeros(len(scenes), most, size, size, dtype=torch.bool, device=device)
    plain = [i for i in range(len(scenes)) if i not in set(textured)]
    for members, style in ((plain, _PLAIN), (textured, rich)):
        images[members], shown = _draw([scenes[i] for i in members], style, size, device)
        masks[members, : shown.shape[1]] = shown
    return Rendering(images, masks)


def _faded(texture: float, scenes: Sequence[Scene], y: Tensor, x: Tensor) -> Tensor:
    """Textures of a lower contrast."""
    images = textures.backgrounds(scenes, y, x)
    return torch.lerp(images.mean((2, 3), keepdim=True), images, texture)


class _Style(NamedTuple):
    """What is drawn: backgrounds of scenes, shadows of objects, surfaces of objects."""

    backgrounds: Callable[[Sequence[Scene], Tensor, Tensor], Tensor]
    shadow: Callable[[Sequence[SceneObject], Tensor, Tensor, Tensor], Tensor]
    surface: Callable[[Sequence[SceneObject], Tensor, Tensor, Tensor, Tensor], Tensor]
    darkness: float
    """Of a full shadow, in [0, 1]."""


def _draw(scenes: Sequence[Scene], style: _Style, size: int, device: torch.device | str) -> Rendering:
    axis = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    y, x = axis[:, None], axis[None, :]
    images = style.backgrounds(scenes, y, x)
    most = max(len(scene.objects) for scene in scenes)
    masks = torch.zeros(len(scenes), most, size, size, dtype=torch.bool, device=device)
    for layer in range(most):
        members = [i for i, scene in enumerate(scenes) if layer < len(scene.objects)]
        items = [scenes[i].objects[layer] for i in members]
        lights = column([scenes[i].light_angle for i in members], y)
        u, v = local(items, y, x)
        away = distances(items, u, v)
        coverage = _coverage(items, away, size)
        index = torch.tensor(members, device=device)
        below = images[index] * (1 - style.darkness * style.shadow(items, lights, y, x))[:, None]
        surface = style.surface(items, lights, u, v, away)
        images[index] = torch.lerp(below, surface, coverage[:, None])
        covered = coverage > 0.5
        masks[index] &= ~covered[:, None]
        masks[index, layer] = covered
    return Rendering(_add_noise(images, scenes), masks)


def visible_masks(scenes: Sequence[Scene], *, size: int = 96) -> Tensor:
    """The masks of :func:`render` without its pictures, for a fifth of the time.

    Args:
        scenes: one or more scenes.
        size: height and width in pixels.

    Returns:
        bool (scene, object, height, width).

    >>> visible_masks([Scene((SceneObject("circle", "red", "large", 0.5, 0.5, 0.2),), "navy")], size=8).sum().item()
    12
    """
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) / size
    y, x = axis[:, None], axis[None, :]
    masks = torch.zeros(len(scenes), max(len(scene.objects) for scene in scenes), size, size, dtype=torch.bool)
    for layer in range(masks.shape[1]):
        members = [i for i, scene in enumerate(scenes) if layer < len(scene.objects)]
        items = [scenes[i].objects[layer] for i in members]
        covered = _coverage(items, distances(items, *local(items, y, x)), size) > 0.5
        index = torch.tensor(members)
        masks[index] &= ~covered[:, None]
        masks[index, layer] = covered
    return masks


def _coverage(items: Sequence[SceneObject], away: Tensor, size: int) -> Tensor:
    """How much of each pixel an object covers, in [0, 1], by the signed distance in units of its radius."""
    return (0.5 - away * column([o.radius for o in items], away) * size).clamp(0, 1)


def _backgrounds(scenes: Sequence[Scene], y: Tensor, x: Tensor) -> Tensor:
    colour = torch.tensor([BACKGROUNDS[s.background] for s in scenes], device=y.device)[:, :, None, None]
    angle = column([s.gradient_angle for s in scenes], y)
    ramp = (x - 0.5) * angle.cos() + (y - 0.5) * angle.sin()
    phase = column([s.grain % 997 / 50.0 for s in scenes], y)
    clouds = 0.05 * (torch.sin(9 * x + 5 * y + phase) + torch.sin(-6 * x + 11 * y + 2 * phase))
    light = 1 + column([s.gradient for s in scenes], y) * ramp + clouds
    return colour * light[:, None]


def _shadow(items: Sequence[SceneObject], light: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """A soft blob on the side away from the light, in [0, 1]."""
    radius = column([o.radius for o in items], y)
    dx = x - column([o.x for o in items], y) + 0.35 * radius * light.cos()
    dy = y - column([o.y for o in items], y) + 0.35 * radius * light.sin()
    return torch.exp(-(((dx**2 + dy**2) / (0.9 * radius**2)) ** 2))


def _surface(items: Sequence[SceneObject], light: Tensor, u: Tensor, v: Tensor, away: Tensor) -> Tensor:
    """Lit, striped colour of each object at every pixel, (object, 3, height, width)."""
    colour = torch.tensor([COLOURS[o.colour] for o in items], device=u.device)[:, :, None, None]
    lit = 1 + 0.16 * (u * light.cos() + v * light.sin()).clamp(-1.2, 1.2)
    angle = column([o.stripe_angle for o in items], u)
    wave = 0.5 + 0.5 * torch.sin(9 * (u * angle.cos() + v * angle.sin()))
    stripes = 1 - column([o.stripes for o in items], u) * wave
    shade = column([o.brightness for o in items], u) * lit * stripes
    return colour * shade[:, None]


def _add_noise(images: Tensor, scenes: Sequence[Scene]) -> Tensor:
    size = images.shape[-1]
    pixel = torch.arange(3 * size * size, device=images.device, dtype=torch.int64)
    grain = torch.tensor([s.grain for s in scenes], device=images.device, dtype=torch.int64)
    # Uniform noise of unit variance; a sum of more draws would look no different at this strength.
    unit = (hashed(grain, pixel) - 0.5) * math.sqrt(12)
    strength = torch.tensor([s.noise for s in scenes], device=images.device)[:, None]
    return (images + (strength * unit).view_as(images)).clamp(0, 1)


_PLAIN = _Style(_backgrounds, _shadow, _surface, darkness=0.35)
_RICH = _Style(textures.backgrounds, surfaces.shadow, surfaces.surface, darkness=0.5)
