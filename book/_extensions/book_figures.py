"""What the book asks of every picture, and what it does for them.

A picture without alternative text is a warning, and warnings fail the build; so is a figure of a notebook without a
caption that stands alone and a name to refer to it by. A vector drawing gets a twin for dark pages, every picture its
size, so that nothing moves while a page loads, and is fetched when the reader comes near it.
"""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path

from dark_figures import for_dark
from docutils import nodes
from lean_figures import lean
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.images import get_image_size
from sphinx.writers.html import HTML5Translator

logger = logging.getLogger(__name__)

SHORTEST_ALTERNATIVE = 15
"""In letters: less than this names a picture, and does not say what is to be seen."""
SHORTEST_CAPTION = 25
OUTPUTS = "jupyter_execute"
"""The folder that MyST-NB writes computed pictures to."""
POINT = 96 / 72
"""In pixels of a page."""
_DRAWN = re.compile(r"<(img|svg|canvas)\b([^>]*)>", re.IGNORECASE)
_NAMED = re.compile(r"\b(alt|aria-label|aria-labelledby|aria-hidden)\s*=", re.IGNORECASE)


class PictureChecks(SphinxTransform):
    """Warn of pictures that some readers could not read, and figures that nobody could refer to."""

    default_priority = 400

    def apply(self, **options: object) -> None:
        """Look at every picture of the page."""
        for image in self.document.findall(nodes.image):
            if len(image.get("alt", "")) < SHORTEST_ALTERNATIVE:
                self.warn(image, f"has no alternative text that says what is to be seen: {image.get('alt', '')!r}")
            if OUTPUTS in image["uri"]:
                self.check_figure(image)
        for raw in self.document.findall(nodes.raw):
            if "html" not in raw.get("format", ""):
                continue
            for tag, attributes in _DRAWN.findall(raw.astext()):
                if not _NAMED.search(attributes):
                    self.warn(raw, f"is an HTML output whose <{tag}> has neither alt nor aria-label")

    def check_figure(self, image: nodes.image) -> None:
        """A picture that a notebook computed stands in a figure that has a name and a caption."""
        figure = image.parent
        while isinstance(figure, nodes.container):
            figure = figure.parent
        if not isinstance(figure, nodes.figure):
            self.warn(image, "is no figure: its cell lacks mystnb.figure with name and caption in its metadata")
            return
        captions = [part for part in figure if isinstance(part, nodes.caption)]
        if not figure["names"]:
            self.warn(image, "is a figure without a name to refer to it by (mystnb.figure.name of its cell)")
        if not captions or len(captions[0].astext()) < SHORTEST_CAPTION:
            self.warn(image, "is a figure without a caption that stands alone (mystnb.figure.caption of its cell)")

    def warn(self, place: nodes.Element, what: str) -> None:
        """Warn of one picture."""
        logger.warning("A picture %s.", what, location=place, type="book", subtype="picture")


class DarkTwins(SphinxTransform):
    """Make each vector drawing small, and put that for dark pages behind it; the style sheet shows one of the two."""

    default_priority = 410

    def apply(self, **options: object) -> None:
        """Write both drawings beside the computed pictures."""
        for image in list(self.document.findall(nodes.image)):
            image["loading"] = "lazy"
            path = self.path_of(image["uri"])
            if path.suffix != ".svg" or "://" in image["uri"] or not path.is_file():
                continue
            drawing = path.read_text(encoding="utf-8")
            dark = image.deepcopy()
            image["uri"] = self.written(path, lean(drawing), "light")
            dark["uri"] = self.written(path, lean(for_dark(drawing)), "dark")
            dark["ids"], dark["names"] = [], []
            image["classes"] += ["for-light"]
            dark["classes"] += ["for-dark", "dark-light"]
            image.parent.insert(image.parent.index(image) + 1, dark)

    def written(self, path: Path, drawing: str, theme: str) -> str:
        """Write a drawing into the folder of computed pictures, which is the build's own, and say where it is."""
        folder = Path(self.app.outdir).parent / OUTPUTS
        folder.mkdir(parents=True, exist_ok=True)
        known = path.stem if path.parent == folder else f"{path.stem}-{sha256(drawing.encode()).hexdigest()[:16]}"
        target = folder / f"{known}-{theme}.svg"
        target.write_text(drawing, encoding="utf-8")
        return "/" + os.path.relpath(target, self.app.srcdir)

    def path_of(self, uri: str) -> Path:
        """Where a picture lies: from the root of the book, or beside its page."""
        if uri.startswith("/"):
            return Path(self.app.srcdir) / uri.lstrip("/")
        return Path(self.env.doc2path(self.env.docname)).parent / uri


def size_of(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture in pixels of a page; None where it does not say."""
    if path.suffix != ".svg":
        return get_image_size(path)
    head = path.read_text(encoding="utf-8")[:2000]
    found = {name: re.search(rf'\b{name}="([\d.]+)(pt|px|)"', head) for name in ("width", "height")}
    sizes = [round(float(one[1]) * (POINT if one[2] == "pt" else 1)) for one in found.values() if one]
    return (sizes[0], sizes[1]) if len(sizes) == 2 else None


def visit_image(self: HTML5Translator, node: nodes.image) -> None:
    """Write a picture as Sphinx does, with its size."""
    source = Path(self.builder.srcdir) / node["uri"].lstrip("/")
    size = size_of(source) if source.is_file() and not {"width", "height", "scale"} & set(node.attributes) else None
    HTML5Translator.visit_image(self, node)
    if size:
        self.body[-1] = self.body[-1].replace("<img ", f'<img width="{size[0]}" height="{size[1]}" ', 1)


def depart_image(self: HTML5Translator, node: nodes.image) -> None:
    """Nothing is left to write."""
    HTML5Translator.depart_image(self, node)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add checks and twins to Sphinx."""
    app.add_transform(PictureChecks)
    app.add_transform(DarkTwins)
    app.add_node(nodes.image, override=True, html=(visit_image, depart_image))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
