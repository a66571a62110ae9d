"""The words of rich scenes and what they look like, beyond those of plain scenes: data only.

A rich scene has more shapes, a material on every object and a texture behind them. Every word of it has synonyms: some
that training captions use, and one that no caption ever holds, to see what becomes of a word that was not trained.
"""

from collections.abc import Mapping
from types import MappingProxyType

from refam_analysis.scenes.vocabulary import HELD_OUT, SHAPES

RICH_SHAPES: tuple[str, ...] = (*SHAPES, "heart", "diamond", "crescent", "arrow", "bolt", "house")
"""Shapes of rich scenes, the six of plain scenes among them."""

MATERIALS: tuple[str, ...] = ("matt", "shiny", "striped", "dotted")
"""Of objects in rich scenes."""

RICH_SIZES: Mapping[str, tuple[float, float]] = MappingProxyType({"small": (0.100, 0.118), "large": (0.150, 0.180)})
"""Range of an object's radius, as a share of the picture's side: a small one is 13 pixels wide in 64."""

TEXTURES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "grass": ("on grass", "on the grass", "in the grass", "on a lawn"),
        "wood": ("on wood", "on a wooden floor", "on a wooden table"),
        "sand": ("on sand", "on the sand", "on a beach"),
        "water": ("on water", "on the water", "in front of water"),
        "bricks": ("in front of bricks", "in front of a brick wall", "on a wall of bricks"),
        "clouds": ("in front of clouds", "in the clouds", "in a cloudy sky"),
        "pebbles": ("on pebbles", "on the pebbles", "on small stones"),
        "leaves": ("on leaves", "on the leaves", "among leaves"),
        "carpet": ("on a carpet", "on the carpet", "on a rug"),
        "tiles": ("on tiles", "on a tiled floor", "in front of tiles"),
    }
)
"""Backgrounds of rich scenes, and how a caption says them, their own word first."""

RICH_HELD_OUT: frozenset[tuple[str, str]] = HELD_OUT | {
    ("yellow", "heart"),
    ("white", "diamond"),
    ("red", "arrow"),
    ("blue", "crescent"),
    ("green", "house"),
    ("orange", "bolt"),
}
"""(colour, shape) pairs that no training or validation scene shows: only the test split does."""

SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "small": ("little", "tiny"),
        "large": ("big", "huge"),
        "matt": ("dull",),
        "shiny": ("glossy",),
        "striped": ("stripy",),
        "dotted": ("spotted",),
        "red": ("crimson",),
        "orange": ("tangerine",),
        "yellow": ("golden",),
        "green": ("emerald",),
        "blue": ("azure",),
        "purple": ("violet",),
        "pink": ("rosy",),
        "white": ("ivory",),
        "circle": ("disc",),
        "square": ("box",),
        "triangle": ("pyramid",),
        "cross": ("plus",),
        "ring": ("hoop",),
        "diamond": ("rhombus",),
        "crescent": ("moon",),
        "arrow": ("pointer",),
        "bolt": ("lightning",),
        "house": ("hut",),
    }
)
"""Words that a training caption may put in place of a scene's own word."""

HELD_OUT_SYNONYMS: Mapping[str, str] = MappingProxyType(
    {
        "small": "miniature",
        "large": "giant",
        "matt": "muted",
        "shiny": "polished",
        "striped": "banded",
        "dotted": "speckled",
        "red": "scarlet",
        "orange": "amber",
        "yellow": "lemon",
        "green": "jade",
        "blue": "cobalt",
        "purple": "plum",
        "pink": "fuchsia",
        "white": "snowy",
        "circle": "sphere",
        "square": "block",
        "triangle": "wedge",
        "cross": "crucifix",
        "ring": "donut",
        "star": "pentagram",
        "heart": "valentine",
        "diamond": "lozenge",
        "crescent": "sickle",
        "arrow": "dart",
        "bolt": "zigzag",
        "house": "cottage",
    }
)
"""One synonym a word that no training caption holds."""
