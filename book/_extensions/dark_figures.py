"""A figure for a dark page, made from the same figure for a light one.

Colours are translated by rule, so that a figure needs to know nothing of dark pages: greys swap their lightness between
paper and ink, colours keep their hue and become light enough to be told from dark paper. What lies inside axes that
hold a picture or a map of cells stays as it is, because it was chosen to be seen against that picture.
"""

from __future__ import annotations

import colorsys
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator

from svg_parts import SVG, read_svg, write_svg

PAPER = "#1d242d"
INK = "#f4f5f6"
LIGHTEST_GREY = 0.965
"""Lightness of the light paper; greys from here on up become dark paper, except pure white, which is a colour."""
CONTRAST = 4.5
"""What WCAG 2.1 asks of text, used for lines and markers too."""
GREYNESS = 0.07
"""Two greys of the style are warm; a difference of channels up to this much still counts as grey."""

_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_PAINTED = ("fill", "stroke", "stop-color")


def channels(colour: str) -> tuple[float, float, float]:
    """Red, green and blue in [0, 1].

    >>> channels("#fff")
    (1.0, 1.0, 1.0)
    """
    digits = colour.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(2 * digit for digit in digits)
    red, green, blue = (int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4))
    return red, green, blue


def luminance(colour: str) -> float:
    """Relative luminance in [0, 1], as WCAG 2.1 defines it."""
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, from 1 to 21, as WCAG 2.1 defines it.

    >>> contrast("#000000", "#ffffff")
    21.0
    """
    low, high = sorted((luminance(one), luminance(other)))
    return round((high + 0.05) / (low + 0.05), 9)


def _written(parts: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def on_dark(colour: str) -> str:
    """The colour that says on dark paper what this one says on light paper.

    >>> on_dark("#f7f6f3") == PAPER, on_dark("#000000") == INK, on_dark("#ffffff")
    (True, True, '#ffffff')
    """
    red, green, blue = channels(colour)
    if (red, green, blue) == (1.0, 1.0, 1.0):
        return colour
    if max(red, green, blue) - min(red, green, blue) <= GREYNESS:
        darkness = min(max(1 - (red + green + blue) / 3 / LIGHTEST_GREY, 0.0), 1.0)
        darkness = 0.0 if darkness < 0.01 else darkness
        pairs = zip(channels(PAPER), channels(INK), strict=True)
        paper, green_part, blue_part = (low + darkness * (high - low) for low, high in pairs)
        return _written((paper, green_part, blue_part))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    lighter = colour.lower()
    while contrast(lighter, PAPER) < CONTRAST and lightness < 1:
        lightness = min(lightness + 0.01, 1.0)
        lighter = _written(colorsys.hls_to_rgb(hue, lightness, saturation))
    return lighter


def for_dark(svg: str) -> str:
    """The same drawing for a dark page.

    Args:
        svg: as matplotlib writes it, or any other SVG whose colours are written as ``#rrggbb``.
    """
    root = read_svg(svg)
    root.set("fill", INK)  # matplotlib writes no colour where it is black
    _repaint(root)
    return write_svg(root)


def _repaint(element: ElementTree.Element) -> None:
    for name in _PAINTED:
        if name in element.attrib and element.tag != f"{SVG}svg":
            element.set(name, _COLOUR.sub(lambda found: on_dark(found[0]), element.attrib[name]))
    if "style" in element.attrib:
        element.set("style", _COLOUR.sub(lambda found: on_dark(found[0]), element.attrib["style"]))
    kept = _inside_picture(element) if element.get("id", "").startswith("axes_") else None
    for child in element:
        if kept is not None and kept(child):
            child.set("fill", child.get("fill", "#000000"))
        else:
            _repaint(child)


def _inside_picture(axes: ElementTree.Element) -> Callable[[ElementTree.Element], bool] | None:
    """Which children of axes lie within their box; None where the axes hold no picture."""
    holds = any(
        part.tag == f"{SVG}image" or part.get("id", "").startswith(("QuadMesh", "PolyQuadMesh")) for part in axes.iter()
    )
    patch = axes.find(f"{SVG}g[@id]/{SVG}path")
    if not holds or patch is None:
        return None
    numbers = [float(one) for one in _NUMBER.findall(patch.get("d", ""))]
    left, right, top, bottom = min(numbers[::2]), max(numbers[::2]), min(numbers[1::2]), max(numbers[1::2])

    def inside(child: ElementTree.Element) -> bool:
        if child.get("id", "").startswith(("matplotlib.axis", "patch_")):
            return False
        place = next(_places(child), None)
        return place is not None and left + 1 < place[0] < right - 1 and top + 1 < place[1] < bottom - 1

    return inside


def _places(group: ElementTree.Element) -> Iterator[tuple[float, float]]:
    """Where the parts of a group begin, without what they are drawn from."""
    if group.tag == f"{SVG}defs":
        return
    if group.tag == f"{SVG}use" and "x" in group.attrib:
        yield float(group.attrib["x"]), float(group.attrib["y"])
    start = group.get("d") if group.tag == f"{SVG}path" else group.get("transform", "")
    numbers = [float(one) for one in _NUMBER.findall(start or "")[:2]]
    if len(numbers) == 2:
        yield numbers[0], numbers[1]
        return
    for child in group:
        yield from _places(child)
