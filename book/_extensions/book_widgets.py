"""The widget manager for pages whose notebook has left ipywidgets: one script, bundled from pinned packages.

MyST-NB would have such a page fetch require.js and Jupyter's widget manager from two other hosts. In their place
stands ``widgets_entry.js`` with all that it imports, bundled by esbuild from ``_build/npm`` (`make book` installs it
there), and anywidget's script as its Python package has it. A page without widgets loads nothing of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anywidget
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

BUNDLE = "widgets/widgets.js"
STYLE = "widgets/widgets.css"
NPM = Path("_build", "npm", "node_modules")
ENTRY = Path(__file__).with_name("widgets_entry.js")
_LAST_LINE = 'define(["@jupyter-widgets/base"], widget_default);'


def anywidget_module() -> str:
    """The script of anywidget, which asks for a module loader, as a module.

    Raises:
        ExtensionError: it does not end as it did in the version that this was written for.
    """
    script = Path(anywidget.__file__).parent / "nbextension" / "index.js"
    source = script.read_text(encoding="utf-8")
    if source.count(_LAST_LINE) != 1:
        raise ExtensionError(f"{script} does not end in {_LAST_LINE}: look how it hands over its module now.")
    return source.replace(_LAST_LINE, "export default widget_default;")


def bundle(packages: Path, target: Path) -> None:
    """Write script and style sheet of the widget manager.

    Args:
        packages: the folder ``node_modules``.
        target: the script; the style sheet lies beside it.

    Raises:
        ExtensionError: a package is missing, or esbuild fails.
    """
    esbuild = packages / ".bin" / "esbuild"
    if not esbuild.is_file():
        raise ExtensionError(f"There is no {esbuild}. Run `make book`, which installs the npm packages first.")
    target.parent.mkdir(parents=True, exist_ok=True)
    module = target.with_name("anywidget-module.js")
    module.write_text(anywidget_module(), encoding="utf-8")
    # Fonts are left out: a browser would ask for them by addresses that change with every page's folder.
    empty = [f"--loader:.{ending}=empty" for ending in ("woff2", "woff", "ttf", "eot", "svg")]
    # The manager also holds the widgets of ipywidgets 7, whose style sheets would lie over ours.
    aliases = {f"@jupyter-widgets/{name}7": f"@jupyter-widgets/{name}" for name in ("base", "controls")}
    aliases["anywidget"] = str(module.absolute())
    command = [
        Path(sys.executable).with_name("node"), esbuild.resolve(), ENTRY, "--bundle", "--minify", "--format=iife",
        "--legal-comments=none", "--log-level=error", "--define:__webpack_public_path__=window.refamWidgets",
        *(f"--alias:{name}={place}" for name, place in aliases.items()), *empty, f"--outfile={target.absolute()}",
    ]  # fmt: skip
    surroundings = {**os.environ, "NODE_PATH": str(packages.absolute())}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True)  # noqa: S603 (files of the build)
    module.unlink()
    if done.returncode:
        raise ExtensionError(f"esbuild cannot bundle the widget manager:\n{done.stderr}")


def use_bundle(app: Sphinx, config: Config) -> None:
    """Have MyST-NB name our script in place of those of other hosts."""
    config.nb_ipywidgets_js = {BUNDLE: {"defer": "defer"}}


def write_bundle(app: Sphinx) -> None:
    """Bundle once, and keep it beside the npm packages while they and the entry stay the same."""
    if app.builder.format != "html":
        return
    packages = Path(app.srcdir) / NPM
    kept = packages.parent / "bundled"
    script, style = kept / Path(BUNDLE).name, kept / Path(STYLE).name
    stamps = [ENTRY.stat().st_mtime, Path(__file__).stat().st_mtime]
    installed = packages.parent / ".installed"
    stamps += [installed.stat().st_mtime] if installed.is_file() else []
    if not script.is_file() or script.stat().st_mtime < max(stamps):
        bundle(packages, script)
    for source, name in ((script, BUNDLE), (style, STYLE)):
        target = Path(app.outdir) / "_static" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())


def add_style(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """A page with widgets gets their style sheet, too."""
    if any(BUNDLE in str(getattr(script, "filename", "")) for script in context.get("script_files", [])):
        app.add_css_file(STYLE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Before MyST-NB reads its settings, and after Sphinx has a folder to write to."""
    app.connect("config-inited", use_bundle)
    app.connect("builder-inited", write_bundle)
    app.connect("html-page-context", add_style, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
