"""A figure that is as small as what is seen of it, for pages that are fetched over slow lines.

Matplotlib writes six decimals of a point, and pictures within a drawing as PNG of four channels. Of a page's pixel,
which is three quarters of a point, a hundredth is enough; and WebP holds the same picture in a fifth of the bytes.
"""

from __future__ import annotations

import base64
import io
import re

from PIL import Image
from svg_parts import SVG, XLINK, read_svg, write_svg

DECIMALS = 2
"""Of a point, in paths."""
QUALITY = 92
"""Of WebP: at this no difference from the PNG was seen at twice the size; colours differ by 1 to 2 levels of 255."""
FEW_COLOURS = 256
"""Pictures of no more colours keep every pixel: maps of cells, masks, drawings."""
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
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
        path.set("d", _NUMBER.sub(lambda found: _rounded(found[0]), " ".join(path.get("d", "").split())))
    for picture in root.iter(f"{SVG}image"):
        inlaid = "".join(picture.get(f"{XLINK}href", "").split())  # line ends would be read as blanks
        picture.set(f"{XLINK}href", min(_inlaid_webp(inlaid), inlaid, key=len))
    return write_svg(root)


def _rounded(number: str) -> str:
    written = f"{float(number):.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


def _inlaid_webp(inlaid: str) -> str:
    """The same picture as WebP; pictures of other kinds as they are."""
    if not inlaid.startswith(_INLAID):
        return inlaid
    picture = Image.open(io.BytesIO(base64.b64decode(inlaid.removeprefix(_INLAID)))).convert("RGBA")
    keeps_pixels = picture.getcolors(FEW_COLOURS) is not None
    written = io.BytesIO()
    picture.save(written, "WEBP", lossless=keeps_pixels, quality=100 if keeps_pixels else QUALITY, method=6)
    return "data:image/webp;base64," + base64.b64encode(written.getvalue()).decode()
