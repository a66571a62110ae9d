"""The model in a page: the directive ``refam-type-your-own``, and the files that its page loads.

The files are made when a build of pages begins, from the embedded models, and kept in ``_build/browser`` while weights,
code and libraries stay the same. What is in them is the business of :mod:`refam_analysis.widgets.browser`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html import HTML5Translator

from refam_analysis.widgets.browser.site import MOST_BYTES, MissingRuntimeError, bytes_over_the_wire, kept_site

FOLDER = "type-your-own"
"""Among the static files of the pages."""


class TypeYourOwnNode(nodes.General, nodes.Element):
    """Where the model is offered; its children are what readers without scripts see instead."""


class TypeYourOwnDirective(SphinxDirective):
    """The place where a reader types a sentence. Its content is shown where no script runs."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The node; in another form than pages, its content alone."""
        node = TypeYourOwnNode()
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node] if self.env.app.builder.format == "html" else list(node.children)


def make_files(app: Sphinx) -> None:
    """Make the files, or find those of an earlier build."""
    if app.builder.format != "html":
        return
    build = Path(app.outdir).parent
    try:
        folder = kept_site(build / "browser", runtime_folder(app))
    except MissingRuntimeError as error:
        raise ExtensionError(str(error)) from error
    if (size := bytes_over_the_wire(folder)) > MOST_BYTES:
        raise ExtensionError(
            f"The model and its runtime take {size / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f} MB."
        )
    app.refam_type_your_own = folder  # type: ignore[attr-defined]


def runtime_folder(app: Sphinx) -> Path:
    """Where `make book` has installed onnxruntime-web: beside the book's own build folder."""
    modules = app.config.refam_node_modules or Path(app.outdir).parent / "npm" / "node_modules"
    return Path(modules) / "onnxruntime-web" / "dist"


def copy_files(app: Sphinx, exception: Exception | None) -> None:
    """Put them among the files of the pages."""
    folder: Path | None = getattr(app, "refam_type_your_own", None)
    if exception is not None or folder is None:
        return
    place = Path(app.outdir) / "_static" / FOLDER
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns("gallery.json", "runtime.txt"))


def visit_node(self: HTML5Translator, node: TypeYourOwnNode) -> None:
    """Begin the place."""
    root = "../" * self.builder.current_docname.count("/") + f"_static/{FOLDER}/"
    self.body.append(
        f'<link rel="stylesheet" href="{root}page.css">\n<div data-refam-engine class="refam-drawn refam-engine">\n'
    )
    self.context.append(f'</div>\n<script defer src="{root}page.js"></script>\n')


def depart_node(self: HTML5Translator, node: TypeYourOwnNode) -> None:
    """End it, and load the script."""
    self.body.append(self.context.pop())


def setup(app: Sphinx) -> dict[str, bool]:
    """Make directive, node, events and the setting known to Sphinx."""
    app.add_config_value("refam_node_modules", None, "env", (str, type(None)))
    app.add_node(TypeYourOwnNode, html=(visit_node, depart_node))
    app.add_directive("refam-type-your-own", TypeYourOwnDirective)
    app.connect("builder-inited", make_files)
    app.connect("build-finished", copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
