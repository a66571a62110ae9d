"""The words of the scenes and what they look like: data only."""

from collections.abc import Mapping
from types import MappingProxyType

RGB = tuple[float, float, float]

COLOURS: Mapping[str, RGB] = MappingProxyType(
    {
        "red": (0.84, 0.13, 0.15),
        "orange": (0.95, 0.52, 0.10),
        "yellow": (0.95, 0.87, 0.18),
        "green": (0.18, 0.64, 0.25),
        "blue": (0.16, 0.33, 0.86),
        "purple": (0.52, 0.20, 0.70),
        "pink": (0.97, 0.58, 0.77),
        "white": (0.95, 0.95, 0.94),
    }
)
"""Colours of objects, RGB in [0, 1] before shading."""

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "cross", "ring", "star")
"""Of objects in plain scenes."""

SIZES: Mapping[str, tuple[float, float]] = MappingProxyType({"small": (0.090, 0.112), "large": (0.150, 0.182)})
"""Range of an object's radius, as a share of the picture's side. The gap between the ranges keeps the words sharp."""

BACKGROUNDS: Mapping[str, RGB] = MappingProxyType(
    {
        "gray": (0.47, 0.47, 0.48),
        "teal": (0.10, 0.40, 0.42),
        "brown": (0.38, 0.25, 0.17),
        "navy": (0.09, 0.11, 0.28),
    }
)
"""Colours of backgrounds, RGB in [0, 1] before the gradient; none is a colour of objects."""

HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("red", "star"),
        ("orange", "ring"),
        ("green", "triangle"),
        ("blue", "cross"),
        ("purple", "circle"),
        ("pink", "square"),
    }
)
"""(colour, shape) pairs that no training or validation scene shows: only the test split does."""
