"""SVG as a tree and back, for the extensions that change drawings."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"


def read_svg(svg: str) -> ElementTree.Element:
    """The root of a drawing."""
    return ElementTree.fromstring(svg)  # noqa: S314 (drawings that the build made itself)


def write_svg(root: ElementTree.Element) -> str:
    """The text of a drawing, with the names of elements as browsers want them."""
    for prefix, address in (("", SVG[1:-1]), ("xlink", XLINK[1:-1])):
        ElementTree.register_namespace(prefix, address)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
