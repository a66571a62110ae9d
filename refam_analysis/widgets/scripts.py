"""One source for two worlds: the scripts of this room as ES modules for anywidget, and as classic scripts for pages.

anywidget loads a single module, which cannot import its neighbours; and a page that was opened as a file may load no
module at all. So both forms are made here from the files in ``static``, by a small transformation of text that is the
same in every run. It reads the sources' own lines: a source imports only with ``import { a, b } from "./other.js";``
on a line of its own, exports only with ``export`` before a function, class or constant that begins a line, and at most
once with ``export default { ... };``. A style sheet imports with ``@import url("other.css");`` on a line of its own.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from refam_analysis.errors import RefamError

STATIC = Path(__file__).with_name("static")
"""The folder of the sources."""

_IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "\./([\w-]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
_DEFAULT = re.compile(r"^export default \{([\w, ]+)\};\n?", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)
_STYLE_IMPORT = re.compile(r'^@import url\("([\w-]+\.css)"\);\n', re.MULTILINE)


class ScriptSourceError(RefamError, ValueError):
    """A source is written in a way that the transformation does not read."""

    def __init__(self, name: str, line: str) -> None:
        super().__init__(
            f"{name} has the line {line!r}: write imports as 'import {{ a, b }} from \"./other.js\";' on a line of "
            "their own, and exports as 'export' before a function, class or const that begins a line."
        )


def module_source(name: str) -> str:
    """A script as one ES module without imports, as anywidget's ``_esm`` wants it.

    Args:
        name: of a file in ``static``; what it imports is put before it, each file once and in a scope of its own.

    Raises:
        ScriptSourceError: a source has an import or export of another form.

    >>> module_source("controls.js").rstrip().endswith("createSlider, createSwitch, percent };")
    True
    """
    before, body, exports = _parts(name)
    default = _DEFAULT.search(body)
    body = _DEFAULT.sub("", body).rstrip("\n")
    ends = [f"export {{ {', '.join(sorted(exports))} }};"] if exports else []
    if default:
        ends.append(default[0].strip())
    return "\n".join([*before, body, *ends]) + "\n"


def classic_source(name: str, *, called: str) -> str:
    """A script for a ``<script src>`` without ``type="module"``, which pages that are opened as files can load.

    Args:
        name: of a file in ``static``.
        called: the one global name that it defines: an object of everything that the file exports.

    Raises:
        ScriptSourceError: as for :func:`module_source`.

    >>> classic_source("controls.js", called="RefamControls").startswith("globalThis.RefamControls = (() => {")
    True
    """
    before, body, exports = _parts(name)
    body = _DEFAULT.sub("", body).rstrip("\n")
    inside = "\n".join([*before, body, f"return {{ {', '.join(sorted(exports))} }};"])
    return f"globalThis.{called} = (() => {{\n{inside}\n}})();\n"


def as_script(value: Any) -> str:
    r"""A value as JavaScript: JSON, in which nothing ends a script early.

    >>> as_script(["</script>"])
    '["\\u003c/script>"]'
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")


def style_source(*names: str) -> str:
    """Style sheets as one, each file once, what is imported first.

    Args:
        names: of files in ``static``.

    >>> style_source("controls.css", "drawing.css") == style_source("controls.css")
    True
    """
    found: dict[str, str] = {}
    for name in names:
        _collect_styles(name, found)
    return "\n".join(found.values())


def _collect_styles(name: str, found: dict[str, str]) -> None:
    source = (STATIC / name).read_text(encoding="utf-8")
    for imported in _STYLE_IMPORT.findall(source):
        if imported not in found:
            _collect_styles(imported, found)
    found.setdefault(name, _STYLE_IMPORT.sub("", source))


def _parts(name: str) -> tuple[list[str], str, list[str]]:
    """What a source imports, as scopes in order; its own text without import and export; what it exports."""
    modules: dict[str, str] = {}
    for imported in _imports(_read(name)):
        _collect_modules(imported, modules)
    body, exports = _plain(_read(name), name)
    return list(modules.values()), body, exports


def _collect_modules(name: str, modules: dict[str, str]) -> None:
    """Add a file, behind what it imports, as a scope that gives its exports."""
    if name in modules:
        return
    source = _read(name)
    for imported in _imports(source):
        _collect_modules(imported, modules)
    body, exports = _plain(source, name)
    body = _DEFAULT.sub("", body).rstrip("\n")
    modules[name] = f"const {_scope(name)} = (() => {{\n{body}\nreturn {{ {', '.join(sorted(exports))} }};\n}})();"


def _read(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _imports(source: str) -> list[str]:
    return [found[1] for found in _IMPORT.findall(source)]


def _plain(source: str, name: str) -> tuple[str, list[str]]:
    """A source that takes its imports from scopes and exports nothing but its default; and the names that it did."""
    exports = _EXPORT.findall(source)
    plain = _IMPORT.sub(lambda found: f"const {{ {found[1]} }} = {_scope(found[2])};", _EXPORT.sub("", source))
    if left := _LEFT.search(_DEFAULT.sub("", plain)):
        raise ScriptSourceError(name, left[0])
    return plain, exports


def _scope(name: str) -> str:
    return "module_" + name.removesuffix(".js").replace("-", "_")
