"""Two builds of the same commit are the same files: what would let chance, or what was built before, decide."""

from __future__ import annotations

from pathlib import Path

from myst_nb.sphinx_ext import add_global_html_resources
from sphinx.application import Sphinx


def copy_style(app: Sphinx) -> None:
    """Copy MyST-NB's style sheet before pages are written.

    It copies it afterwards; Sphinx adds a checksum to its address in pages only if it is there, so from the second
    build into a folder on.
    """
    if app.builder.format == "html":
        (Path(app.outdir) / "_static").mkdir(parents=True, exist_ok=True)
        add_global_html_resources(app, None)


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen to the start of a build."""
    app.connect("builder-inited", copy_style)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
