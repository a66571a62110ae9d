"""Backgrounds of rich scenes: ten textures, each made of seeded noise, many at once, on any device.

Noise is an integer hash of the scene's grain, so that a scene has the same texture alone, in a batch and, up to the
pixels that sample it, at every size. Every texture also varies from scene to scene: its tone, scale and direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from refam_analysis.scenes.scene import Scene
from refam_analysis.scenes.shapes import column


def hashed(grains: Tensor, numbers: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), float32 (grain, number): a hash of every pair.

    Args:
        grains: int64 (grain,), seeds.
        numbers: int64 (number,), such as the index of a pixel; or (grain, ...), other numbers for every seed.
    """
    seeds = grains.view(-1, *[1] * max(1, numbers.ndim - 1))
    mixed = (numbers * 0x9E3779B1 + seeds * 0x85EBCA77) & 0xFFFFFFFF
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 15)).to(torch.float32) / 2**32


class _Place:
    """Where a texture is evaluated: coordinates in [0, 1] of some scenes' pictures, and their noise."""

    def __init__(self, grains: Tensor, y: Tensor, x: Tensor) -> None:
        self.grains = grains
        turned = self.chance(1) < 0.5
        shape = (len(grains), y.shape[-2], x.shape[-1])
        across, down = x.expand(shape), y.expand(shape)
        self.x, self.y = across, down
        # Textures with a direction run along it: either across or down the picture.
        self.along, self.across = torch.where(turned, across, down), torch.where(turned, down, across)
        self._turned = turned

    def chance(self, salt: int) -> Tensor:
        """One number in [0, 1) a scene, (scene, 1, 1)."""
        return hashed(self.grains, torch.tensor([salt * 7919], device=self.grains.device))[..., None]

    def noise(self, salt: int, along: int, across: int | None = None) -> Tensor:
        """Smooth noise in [-1, 1] on a lattice of ``along`` x ``across`` cells in the texture's own direction."""
        across = across or along
        cells = torch.arange(along * across, device=self.grains.device) + salt * 104729
        lattice = (2 * hashed(self.grains, cells) - 1).view(-1, 1, along, across)
        size = self.x.shape[-2:]
        fine = functional.interpolate(lattice, size=size, mode="bicubic", align_corners=True)[:, 0]
        return torch.where(self._turned, fine.transpose(1, 2), fine) if along != across else fine

    def cells(self, salt: int, *indices: Tensor) -> Tensor:
        """One number in [0, 1) a cell, of whole-numbered indices (scene, height, width)."""
        number = torch.zeros_like(indices[0], dtype=torch.int64) + salt * 15485863
        for index in indices:
            number = number * 1009 + index.to(torch.int64)
        return hashed(self.grains, number)


def backgrounds(scenes: Sequence[Scene], y: Tensor, x: Tensor) -> Tensor:
    """The textures of some rich scenes with their light, (scene, 3, height, width)."""
    images = torch.empty(len(scenes), 3, y.shape[-2], x.shape[-1], device=y.device)
    for name in {scene.background for scene in scenes}:
        index = torch.tensor([i for i, scene in enumerate(scenes) if scene.background == name], device=y.device)
        grains = torch.tensor([scenes[i].grain for i in index.tolist()], dtype=torch.int64, device=y.device)
        images[index] = PATTERNS[name](_Place(grains, y, x))
    angle = column([s.gradient_angle for s in scenes], y)
    ramp = (x - 0.5) * angle.cos() + (y - 0.5) * angle.sin()
    vignette = ((x - 0.5) ** 2 + (y - 0.5) ** 2).clamp(max=0.5)
    light = 1 + column([s.gradient for s in scenes], y) * (ramp - 0.5 * vignette)
    return images * light[:, None]


_Colour = tuple[float, float, float]


def _mix(dark: _Colour, light: _Colour, share: Tensor) -> Tensor:
    """Between two colours, (scene, 3, height, width), by shares (scene, height, width) that are cut to [0, 1]."""
    low, high = (torch.tensor(c, device=share.device)[None, :, None, None] for c in (dark, light))
    return torch.lerp(low, high, share.clamp(0, 1)[:, None])


def _grass(place: _Place) -> Tensor:
    blades = place.noise(2, 34)
    patches = place.noise(3, 5)
    share = 0.45 + 0.30 * blades + 0.25 * patches + 0.2 * (place.chance(4) - 0.5)
    return _mix((0.08, 0.20, 0.05), (0.42, 0.52, 0.20), share)


def _wood(place: _Place) -> Tensor:
    planks = 3 + (3 * place.chance(5)).floor()
    across = place.across * planks
    plank = across.floor()
    grain = place.noise(6, 3, 36)
    rings = torch.sin(2 * math.pi * (5 * across + 2.2 * place.noise(7, 4, 6)))
    seam = ((across - plank - 0.5).abs() - 0.46).clamp(0) / 0.04
    share = 0.45 + 0.20 * grain + 0.14 * rings + 0.35 * (place.cells(8, plank) - 0.5) - 0.6 * seam
    return _mix((0.26, 0.15, 0.08), (0.62, 0.43, 0.25), share)


def _sand(place: _Place) -> Tensor:
    warp = place.noise(9, 5)
    ripples = torch.sin(2 * math.pi * ((5 + 4 * place.chance(10)) * place.across + 0.8 * warp))
    share = 0.50 + 0.22 * ripples + 0.18 * place.noise(11, 40) + 0.15 * place.noise(12, 4)
    return _mix((0.52, 0.43, 0.30), (0.80, 0.71, 0.54), share)


def _water(place: _Place) -> Tensor:
    warp = place.noise(13, 5)
    waves = torch.sin(2 * math.pi * ((6 + 3 * place.chance(14)) * place.y + 0.7 * warp + 0.5 * place.x))
    glints = (place.noise(15, 22) + 0.5 * waves - 0.75).clamp(0) * 1.6
    base = _mix((0.04, 0.17, 0.26), (0.16, 0.40, 0.50), 0.45 + 0.28 * waves + 0.3 * warp)
    return base + 0.45 * glints.clamp(0, 1)[:, None]


def _bricks(place: _Place) -> Tensor:
    rows = 6 + (3 * place.chance(16)).floor()
    down = place.y * rows + place.chance(17)
    row = down.floor()
    right = place.x * rows * 0.5 + 0.5 * torch.remainder(row, 2) + place.chance(18)
    joint = torch.maximum((down - row - 0.5).abs() - 0.40, 2 * ((right - right.floor() - 0.5).abs() - 0.45))
    tone = 0.7 * place.cells(19, row, right.floor()) + 0.15 + 0.2 * place.noise(20, 32)
    brick = _mix((0.34, 0.17, 0.13), (0.56, 0.33, 0.26), tone)
    mortar = _mix((0.50, 0.47, 0.43), (0.62, 0.59, 0.55), 0.5 + 0.5 * place.noise(21, 24))
    return torch.lerp(brick, mortar, (joint / 0.06).clamp(0, 1)[:, None])


def _clouds(place: _Place) -> Tensor:
    billows = 0.6 * place.noise(22, 5) + 0.4 * place.noise(23, 9) + 0.2 * place.noise(24, 18)
    cover = (0.5 + 1.5 * (billows + 0.3 * (place.chance(25) - 0.4))).clamp(0, 1)
    sky = _mix((0.40, 0.56, 0.74), (0.22, 0.40, 0.64), 1 - place.y)
    return torch.lerp(sky, _mix((0.60, 0.64, 0.70), (0.80, 0.82, 0.86), 0.5 + billows), cover[:, None])


def _cellular(place: _Place, salt: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Distances to the nearest and to the second nearest of scattered points, and a number for the nearest."""
    side = cells + 2
    numbers = torch.arange(side * side, device=place.grains.device) + salt * 15485863
    jitter = [0.15 + 0.7 * hashed(place.grains, numbers + 7 * side * side * i) for i in range(2)]
    x, y = place.x * cells, place.y * cells
    left, top = x.floor(), y.floor()
    near = torch.full_like(x, 9.0)
    second, mark = near.clone(), torch.zeros_like(x)
    for right in (-1, 0, 1):
        for down in (-1, 0, 1):
            cx, cy = left + right, top + down
            cell = ((cy + 1) * side + cx + 1).long().flatten(1)
            dx, dy = (part.gather(1, cell).view_as(x) for part in jitter)
            away = torch.hypot(x - cx - dx, y - cy - dy)
            closer = away < near
            second = torch.where(closer, near, torch.minimum(second, away))
            mark = torch.where(closer, cell.view_as(x) * 0.377 + dx, mark)
            near = torch.where(closer, away, near)
    return near, second, torch.remainder(mark * 7.3, 1.0)


def _pebbles(place: _Place) -> Tensor:
    near, second, mark = _cellular(place, 26, 7)
    joint = ((second - near) / 0.22).clamp(0, 1)
    share = (0.25 + 0.6 * mark) + 0.25 * (0.5 - near) + 0.1 * place.noise(28, 30)
    return _mix((0.30, 0.29, 0.28), (0.68, 0.65, 0.61), share) * (0.35 + 0.65 * joint)[:, None]


def _leaves(place: _Place) -> Tensor:
    near, second, mark = _cellular(place, 29, 6)
    edge = ((second - near) / 0.30).clamp(0, 1)
    veins = torch.sin(2 * math.pi * (3.0 * mark + 2.5 * (place.along + (2 * mark - 1) * place.across) * 6.0))
    share = 0.15 + 0.65 * mark + 0.10 * veins
    return _mix((0.05, 0.16, 0.10), (0.30, 0.46, 0.24), share) * (0.40 + 0.60 * edge)[:, None]


def _carpet(place: _Place) -> Tensor:
    scale = 12 + (5 * place.chance(31)).floor()
    weave = torch.sin(2 * math.pi * scale * place.x) * torch.sin(2 * math.pi * scale * place.y)
    band = torch.sin(2 * math.pi * (3 * place.across + place.chance(32)))
    share = 0.45 + 0.22 * weave + 0.30 * (3 * band).clamp(-1, 1) + 0.12 * place.noise(33, 28)
    return _mix((0.24, 0.18, 0.26), (0.50, 0.40, 0.46), share)


def _tiles(place: _Place) -> Tensor:
    number = 4 + (3 * place.chance(34)).floor()
    right, down = place.x * number + place.chance(35), place.y * number + place.chance(36)
    chequer = torch.remainder(right.floor() + down.floor(), 2)
    joint = torch.maximum((right - right.floor() - 0.5).abs(), (down - down.floor() - 0.5).abs())
    share = (
        0.30 + 0.40 * chequer + 0.12 * (place.cells(37, right.floor(), down.floor()) - 0.5) + 0.1 * place.noise(38, 8)
    )
    tile = _mix((0.20, 0.26, 0.30), (0.64, 0.68, 0.70), share)
    return tile * (1 - 0.45 * ((joint - 0.45) / 0.04).clamp(0, 1))[:, None]


PATTERNS: Mapping[str, Callable[[_Place], Tensor]] = MappingProxyType(
    {
        "grass": _grass,
        "wood": _wood,
        "sand": _sand,
        "water": _water,
        "bricks": _bricks,
        "clouds": _clouds,
        "pebbles": _pebbles,
        "leaves": _leaves,
        "carpet": _carpet,
        "tiles": _tiles,
    }
)
"""By the background's word: its colours at a place, RGB (scene, 3, height, width)."""
