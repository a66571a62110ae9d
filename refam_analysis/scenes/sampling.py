"""Scenes drawn at random from a seeded generator: which objects, and where they stand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from refam_analysis.scenes.rich_sampling import sample_rich_scene
from refam_analysis.scenes.scene import Scene, SceneObject
from refam_analysis.scenes.shapes import REACH
from refam_analysis.scenes.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT, SHAPES, SIZES

Style = Literal["plain", "rich"]

_MARGIN = 0.02
_GAP = 0.02
_TRIES = 60
_KNOWN_PAIRS = tuple((c, s) for c in COLOURS for s in SHAPES if (c, s) not in HELD_OUT)
_ALL_PAIRS = tuple((c, s) for c in COLOURS for s in SHAPES)


@dataclass(frozen=True)
class SceneOptions:
    """What scenes to draw.

    Attributes:
        objects: smallest and largest number of objects.
        occlusion: probability that an object may stand partly in front of another. An occluded object
            keeps at least about half of its area in sight.
        shared_attribute: the second object shares its colour or its shape, not both, with the first: the scenes
            in which naming one attribute is not enough.
        held_out: whether the (colour, shape) pairs kept for the test split may appear.
        style: ``plain``, or ``rich`` for more shapes, materials and textures, see
            :func:`refam_analysis.scenes.rich_sampling.sample_rich_scene`.
    """

    objects: tuple[int, int] = (1, 4)
    occlusion: float = 0.0
    shared_attribute: bool = False
    held_out: bool = False
    style: Style = "plain"

    def __post_init__(self) -> None:
        low, high = self.objects
        if not 1 <= low <= high <= 6:
            raise ValueError(f"objects={self.objects} must be (least, most) with 1 <= least <= most <= 6.")
        if not 0.0 <= self.occlusion <= 1.0:
            raise ValueError(f"occlusion={self.occlusion} is a probability: give a number from 0 to 1.")
        if self.shared_attribute and low < 2:
            raise ValueError("shared_attribute=True needs at least two objects: give objects=(2, ...) or more.")
        if self.style not in get_args(Style):
            raise ValueError(f"style={self.style!r} is unknown: choose one of {', '.join(get_args(Style))}.")


def sample_scene(rng: np.random.Generator, options: SceneOptions = SceneOptions()) -> Scene:
    """Draw one scene.

    Objects do not touch unless ``options.occlusion`` lets them. Where a crowded picture has no room for the
    wanted number of objects, the whole scene is drawn anew, so that the number stays exact.

    Args:
        rng: the only source of randomness; the same state gives the same scene.
        options: what to draw.

    Returns:
        The scene, not yet drawn; the same for the same generator.

    >>> scene = sample_scene(np.random.default_rng(0), SceneOptions(objects=(3, 3)))
    >>> len(scene.objects)
    3
    """
    number = int(rng.integers(options.objects[0], options.objects[1] + 1))
    if options.style == "rich":
        return sample_rich_scene(
            rng,
            number,
            occlusion=options.occlusion,
            shared_attribute=options.shared_attribute,
            held_out=options.held_out,
        )
    while True:
        looks = _draw_looks(rng, number, options)
        placed: list[SceneObject] = []
        for colour, shape, size in looks:
            item = _place(rng, colour, shape, size, placed, options.occlusion)
            if item is None:
                break
            placed.append(item)
        if len(placed) == number:
            break
    order = rng.permutation(number) if options.occlusion == 0.0 else np.arange(number)
    return Scene(
        objects=tuple(placed[i] for i in order),
        background=str(rng.choice(list(BACKGROUNDS))),
        gradient=float(rng.uniform(0.1, 0.5)),
        gradient_angle=float(rng.uniform(0, 2 * math.pi)),
        light_angle=float(rng.uniform(-2.6, -0.5)),
        noise=float(rng.uniform(0.01, 0.035)),
        grain=int(rng.integers(2**31)),
    )


def _draw_looks(rng: np.random.Generator, number: int, options: SceneOptions) -> list[tuple[str, str, str]]:
    """(colour, shape, size) of every object; no two objects look the same in all three."""
    pairs = _ALL_PAIRS if options.held_out else _KNOWN_PAIRS
    sizes = list(SIZES)
    looks: list[tuple[str, str, str]] = []
    while len(looks) < number:
        candidates = pairs
        if len(looks) == 1 and options.shared_attribute:
            colour, shape, _ = looks[0]
            candidates = tuple(p for p in pairs if (p[0] == colour) != (p[1] == shape))
            by_colour = bool(rng.integers(2))
            candidates = tuple(p for p in candidates if (p[0] == colour) == by_colour) or candidates
        pair = candidates[int(rng.integers(len(candidates)))]
        look = (*pair, sizes[int(rng.integers(len(sizes)))])
        if look not in looks:
            looks.append(look)
    return looks


def _place(
    rng: np.random.Generator, colour: str, shape: str, size: str, placed: list[SceneObject], occlusion: float
) -> SceneObject | None:
    """Find a free place for one more object, or None when the picture is too crowded."""
    radius = float(rng.uniform(*SIZES[size]))
    reach = REACH * radius + _MARGIN
    may_overlap = rng.random() < occlusion
    for _ in range(_TRIES):
        x, y = rng.uniform(reach, 1 - reach, size=2)
        item = SceneObject(
            shape=shape,
            colour=colour,
            size=size,
            x=float(x),
            y=float(y),
            radius=radius,
            rotation=float(rng.uniform(-0.25, 0.25)),
            brightness=float(rng.uniform(0.88, 1.06)),
            stripes=float(rng.uniform(0.0, 0.16) * (rng.random() < 0.5)),
            stripe_angle=float(rng.uniform(0, math.pi)),
        )
        # The nearest an occluding object may come leaves more than half of two equal discs in sight.
        share = 0.75 if may_overlap else 1.0
        gap = 0.0 if may_overlap else _GAP
        if all(item.distance(other) > share * 1.1 * (radius + other.radius) + gap for other in placed):
            return item
    return None
