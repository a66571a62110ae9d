"""The explorer in a page: the directive ``refam-explorer``, and the files that its page loads.

The files are made when a build of pages begins, on the embedded model, and kept in ``_build/explorer`` while weights,
code and list stay the same. What is in them is the business of :mod:`refam_analysis.widgets.explorer_files`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html import HTML5Translator

from refam_analysis.widgets.explorer_files import files_of, kept_files

logger = logging.getLogger(__name__)


class ExplorerNode(nodes.General, nodes.Element):
    """Where the explorer stands; its children are what readers without scripts see instead."""


class ExplorerDirective(SphinxDirective):
    """The explorer. Its content is shown where no script runs, below a plain picture.

    Options:
        alt: what the plain picture shows.
    """

    has_content = True
    option_spec = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """The node, and a paragraph on what the recordings lost when they were written."""
        node = ExplorerNode(alt=self.options.get("alt", ""))
        self.state.nested_parse(self.content, self.content_offset, node)
        folder: Path | None = getattr(self.env.app, "refam_explorer", None)
        if folder is None:
            return list(node.children)
        about = folder / "about.json"
        self.env.note_dependency(str(about))
        return [node, nodes.paragraph("", loss(json.loads(about.read_text(encoding="utf-8"))))]


def loss(about: dict[str, Any]) -> str:
    """What the page says of size and quantisation.

    Args:
        about: what :func:`refam_analysis.widgets.explorer_files.write_files` returned.
    """
    return (
        f"The {about['scenes']} scenes and the script take {about['bytes'] / 1e6:.1f} MB together; a scene is loaded "
        f"when you choose it. To make them so small, each map was written in 256 steps between its smallest and its "
        f"largest value. Over all {about['maps']:,} maps, a value that you see differs from the recorded one by at "
        f"most {about['absolute']:.2g} (a probability), and by at most {about['relative']:.2%} of the range of its "
        "own map."
    ).replace("%", " %")


def make_files(app: Sphinx) -> None:
    """Make the files, or find those of an earlier build."""
    if app.builder.format != "html":
        return
    folder = kept_files(Path(app.outdir).parent / "explorer")
    app.refam_explorer = folder  # type: ignore[attr-defined]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files_of(folder)))
    app.refam_explorer_version = digest.hexdigest()[:8]  # type: ignore[attr-defined]


def copy_files(app: Sphinx, exception: Exception | None) -> None:
    """Put them among the files of the pages."""
    folder: Path | None = getattr(app, "refam_explorer", None)
    if exception is not None or folder is None:
        return
    place = Path(app.outdir) / "_static" / "explorer"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place)


def visit_node(self: HTML5Translator, node: ExplorerNode) -> None:
    """Begin the explorer with the plain picture."""
    root = "../" * self.builder.current_docname.count("/") + "_static/explorer/"
    version = f"?v={self.builder.app.refam_explorer_version}"
    alt = escape(node["alt"], quote=True)
    self.body.append(
        f'<link rel="stylesheet" href="{root}explorer.css{version}">\n'
        f'<div data-refam-explorer class="refam-drawn">\n<img src="{root}still.png{version}" alt="{alt}">\n'
    )
    self.context.append(
        f'</div>\n<script defer src="{root}explorer.js{version}"></script>\n'
        f'<script defer src="{root}index.js{version}"></script>\n'
    )


def depart_node(self: HTML5Translator, node: ExplorerNode) -> None:
    """End it, and load the scripts."""
    self.body.append(self.context.pop())


def setup(app: Sphinx) -> dict[str, bool]:
    """Make directive, node and events known to Sphinx."""
    app.add_node(ExplorerNode, html=(visit_node, depart_node))
    app.add_directive("refam-explorer", ExplorerDirective)
    app.connect("builder-inited", make_files)
    app.connect("build-finished", copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
