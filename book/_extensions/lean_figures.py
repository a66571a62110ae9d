"""A figure that is as small as what is seen of it, for pages that are fetched over slow lines.

Matplotlib writes every corner with six decimals of a point, from the drawing's corner, and pictures within a drawing as
PNG of four channels. A page's pixel is three quarters of a point, so that two decimals are enough, from corner to
corner; and WebP holds the same picture in a fifth of the bytes.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from functools import lru_cache

from PIL import Image
from svg_parts import SVG, XLINK, read_svg, write_svg

DECIMALS = 2
"""Of a point, in paths."""
QUALITY = 88
"""Of WebP: at this no difference from the PNG was seen at twice the size; colours differ by 1 to 2 levels of 255."""
FEW_COLOURS = 256
"""Pictures of no more colours keep every pixel: maps of cells, masks, drawings."""
_PART = re.compile(r"([MLQCz])|(-?\d+(?:\.\d+)?(?:e-?\d+)?)")
_LETTER = re.compile(r"[A-Za-z]")
_INLAID = "data:image/png;base64,"


def lean(svg: str) -> str:
    """The same drawing in fewer bytes.

    Args:
        svg: as matplotlib writes it.

    Returns:
        The drawing with paths to a hundredth of a point, and pictures as WebP where that is smaller.
    """
    root = read_svg(svg)
    for path in root.iter(f"{SVG}path"):
        path.set("d", lean_path(path.get("d", "")))
    for picture in root.iter(f"{SVG}image"):
        inlaid = "".join(picture.get(f"{XLINK}href", "").split())  # line ends would be read as blanks
        picture.set(f"{XLINK}href", min(_inlaid_webp(inlaid), inlaid, key=len))
    return write_svg(root)


def lean_path(path: str) -> str:
    """The same path from corner to corner; corners on a straight line between their neighbours are left out.

    Args:
        path: as matplotlib writes it, with the commands M, L, Q, C and z; one with others stays as it is.

    >>> lean_path("M 10.000001 20 L 11.5 20 L 12.5 20 L 12.5 19.25 z")
    'm10 20l2.5 0l0-.75z'
    """
    if set(_LETTER.findall(path)) - set("MLQCze"):
        return path
    scale = 10**DECIMALS
    position = start = (0, 0)
    steps: list[tuple[str, list[int]]] = []
    for command, numbers in _commands(path):
        if command == "z":
            steps.append(("z", []))
            position = start
            continue
        corners = [round(float(number) * scale) for number in numbers]
        step = [corner - position[axis % 2] for axis, corner in enumerate(corners)]
        position = (corners[-2], corners[-1])
        if command == "M":
            start = position
        if command == "L" and steps and steps[-1][0] == "l" and _goes_on(steps[-1][1], step):
            steps[-1] = ("l", [before + further for before, further in zip(steps[-1][1], step, strict=True)])
        else:
            steps.append((command.lower(), step))
    return "".join(command + _written(step, scale) for command, step in steps)


def _commands(path: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a path with its numbers."""
    command, numbers = "", list[str]()
    for found in _PART.finditer(path):
        if found[1] is None:
            numbers.append(found[2])
            continue
        if command:
            yield command, numbers
        command, numbers = found[1], []
    if command:
        yield command, numbers


def _goes_on(before: list[int], step: list[int]) -> bool:
    """Whether a step goes in the direction of the one before it."""
    across = before[0] * step[1] - before[1] * step[0]
    return across == 0 and before[0] * step[0] + before[1] * step[1] >= 0


def _written(step: list[int], scale: int) -> str:
    """Numbers with no more between them than it takes to tell them apart."""
    written = ""
    for number in step:
        short = f"{number / scale:.{DECIMALS}f}".rstrip("0").rstrip(".")
        short = short.replace("0.", ".", 1) if short.startswith(("0.", "-0.")) else short
        written += short if not written or short.startswith("-") else f" {short}"
    return written


@lru_cache(maxsize=32)  # the drawings for light and for dark pages hold the same pictures
def _inlaid_webp(inlaid: str) -> str:
    """The same picture as WebP; pictures of other kinds as they are."""
    if not inlaid.startswith(_INLAID):
        return inlaid
    picture = Image.open(io.BytesIO(base64.b64decode(inlaid.removeprefix(_INLAID)))).convert("RGBA")
    keeps_pixels = picture.getcolors(FEW_COLOURS) is not None
    written = io.BytesIO()
    picture.save(written, "WEBP", lossless=keeps_pixels, quality=100 if keeps_pixels else QUALITY, method=6)
    return "data:image/webp;base64," + base64.b64encode(written.getvalue()).decode()
