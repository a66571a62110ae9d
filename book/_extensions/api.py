"""The library's public names in the book: documented once each, found by whichever path they are written.

A name is exported by its room and defined in a module of it, some by the package as well. The directive ``public``
documents names under their room, and a reference to any other path leads there. Errors have a page each, which the
directive ``error`` opens. Below a name stand the chapters whose code uses it. Which names there are is in
`public_names`, and where one meets them in `usage`.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from docutils import nodes
from docutils.statemachine import StringList
from public_names import PACKAGE, Public, public_names
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from usage import NOTEBOOKS, chapters, origins, users

ERRORS = Path(__file__).parents[1] / "reference" / "errors"
LONGEST_VALUE = 300

logger = logging.getLogger(__name__)


class PublicDirective(SphinxDirective):
    """Documents names of one room: a table with a line each, then each in full; errors lead to their pages."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """The nodes of the table and of the descriptions."""
        room = self.arguments[0]
        for module in ("api", "public_names", "usage"):
            self.env.note_dependency(str(Path(__file__).with_name(f"{module}.py")))
        for notebook in NOTEBOOKS.glob("*.ipynb"):
            self.env.note_dependency(str(notebook))
        entries = [self._entry(f"{room}.{name}") for name in " ".join(self.content).split()]
        lines = [".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   ~{entry.path}" for entry in entries if entry.kind != "data"]
        lines = ["", *lines, ""] if len(lines) > 3 else []
        for entry in entries:
            if entry.room == room and entry.kind != "exception":
                lines += self._description(entry)
        return rendered(self, lines)

    def _entry(self, path: str) -> Public:
        if path not in public_names():
            raise self.error(f"{path} is not public: the room's __all__ does not have it.")
        return public_names()[path]

    def _description(self, entry: Public) -> list[str]:
        if entry.kind == "data":
            return described_data(entry)
        members = ["   :members:"] if entry.kind == "class" else []
        return [f".. auto{entry.kind}:: {entry.path}", *members, ""]


class ErrorsDirective(SphinxDirective):
    """Lists the pages of a room's errors, each with what it is in a sentence."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes of the list."""
        room = self.arguments[0]
        lines = []
        for page in sorted((ERRORS / room).glob("*.md"), key=lambda page: page.stem.casefold()):
            (path,) = re.findall(r"^```\{error\} (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            module, _, name = path.rpartition(".")
            docs = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
            lines.append(f"- {{doc}}`/book/reference/errors/{room}/{page.stem}`: {docs.splitlines()[0]}")
            self.env.note_dependency(str(page))
        place = nodes.container()
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), self.content_offset, place)
        return place.children


class ErrorDirective(SphinxDirective):
    """Opens the page of an error: its path, what it derives from, what it says of itself."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes of the description."""
        path = documented(self.arguments[0])
        return rendered(self, [f".. autoexception:: {path}", "   :show-inheritance:", ""])


def rendered(directive: SphinxDirective, lines: list[str]) -> list[nodes.Node]:
    """What reStructuredText becomes within a page of Markdown."""
    place = nodes.container()
    source = directive.get_source_info()[0]
    text = StringList(["```{eval-rst}", *lines, "```"], source=source)
    directive.state.nested_parse(text, directive.content_offset, place)
    return place.children


def described_data(entry: Public) -> list[str]:
    """A constant, in reStructuredText: its value, and the sentence that stands below it in the code."""
    docs = ModuleAnalyzer.for_module(entry.source[0]).find_attr_docs()
    text = docs.get(("", entry.source[1]))
    if not text:
        logger.warning("%s has no docstring", entry.path)
    value = " ".join(steady_repr(entry.value).split()) if is_plain(entry.value) else ""
    if len(value) > LONGEST_VALUE:
        value = value[: value.rfind(" ", 0, LONGEST_VALUE)] + " ..."
    lines = [f".. py:data:: {entry.name}", f"   :module: {entry.room}"]
    lines += [f"   :value: {value}", ""] if value else [""]
    return [*lines, *(f"   {line}" for line in text or []), *(f"   {line}" for line in used_in(entry.path)), ""]


def steady_repr(value: Any) -> str:
    """The repr, with the elements of a set in their order: repr's own changes from one Python to the next.

    >>> steady_repr(frozenset("cab"))
    "frozenset({'a', 'b', 'c'})"
    """
    if not isinstance(value, set | frozenset) or not value:
        return repr(value)
    elements = ", ".join(sorted(map(repr, value)))
    return f"{{{elements}}}" if isinstance(value, set) else f"frozenset({{{elements}}})"


def is_plain(value: Any) -> bool:
    """Whether a value's text reads like the code that makes it."""
    return type(value).__module__ in ("builtins", "typing") and " at 0x" not in repr(value)


def used_in(path: str) -> list[str]:
    """The lines that say where one meets a name: in which functions, and in the code of which chapters."""
    verb, functions = origins().get(path, ("", []))
    links = ", ".join(f":py:func:`~{function}`" for function in functions)
    if not links and not chapters().get(path):
        verb, links = "Used by the code of", ", ".join(f"``{module}``" for module in users().get(path, ()))
    lines = ["", f"*{verb}* {links}.", ""] if links else []
    links = ", ".join(f":doc:`/notebooks/{stem}`" for stem in chapters().get(path, ()))
    return [*lines, "", f"*Used in* {links}.", ""] if links else lines


def documented(path: str) -> str:
    """Where a path is documented: a public name's room, anything else's own module."""
    return public_names()[path].path if path in public_names() else path


def prepare_docstring(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Give fields of a dataclass their types, returned values none, and every public name its chapters."""
    if what == "class" and dataclasses.is_dataclass(value):
        types = {field.name: written(str(field.type), value) for field in dataclasses.fields(value)}
        names = "|".join(map(re.escape, types)) or "(?!)"
        typed = re.compile(rf"^(\s+)({names}):(?=\s)")
        lines[:] = [typed.sub(lambda found: f"{found[1]}{found[2]} ({types[found[2]]}):", line) for line in lines]
    for place, line in enumerate(lines[:-1]):
        if line in ("Returns:", "Yields:"):
            # Napoleon takes what stands before a colon for the type; before this one stands nothing.
            lines[place + 1] = re.sub(r"^(\s+)", r"\1: ", lines[place + 1])
    set_formulas_apart(lines)
    if what in ("class", "function") and name in public_names():
        lines += used_in(name)


def set_formulas_apart(lines: list[str]) -> None:
    """Make literal blocks of indented paragraphs below plain text: formulas, whose lines would be run together."""
    for place in reversed(range(2, len(lines))):
        indented = lines[place].startswith("    ") and not lines[place - 1].strip()
        above = next((line for line in reversed(lines[:place]) if line.strip()), " ")
        if indented and not above.startswith((" ", ">>>", "..")) and not above.rstrip().endswith("::"):
            lines[place:place] = ["::", ""]


def written(annotation: str, value: Any) -> str:
    """An annotation as it stands in the code, with the choices of its literals written out."""
    around = vars(inspect.getmodule(value))

    def spelt(found: re.Match[str]) -> str:
        meant = around.get(found[0])
        return f"Literal[{', '.join(map(repr, get_args(meant)))}]" if get_origin(meant) is Literal else found[0]

    plain = re.sub(r"\b(?<![.'\"])[A-Z]\w+\b(?![.'\"])", spelt, annotation)
    return re.sub(r"_(?!\w)", r"\\_", plain)  # a name that ends so would be read as a reference


def prepare_signature(app: Sphinx, what: str, name: str, value: Any, *_: Any) -> tuple[str, None] | None:
    """Note a function's types as its code has them; of an error, which only the library makes, show no signature."""
    if what == "exception":
        return "", None
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return None
    parameters = {**signature.parameters}
    notes = {each.name: each.annotation for each in parameters.values() if isinstance(each.annotation, str)}
    if isinstance(signature.return_annotation, str) and what != "class":
        notes["return"] = signature.return_annotation
    # Where autodoc's own listener left them, resolved into what they stand for, which nobody reads.
    app.env.temp_data.setdefault("annotations", {})[name] = {
        parameter: written(note, value) for parameter, note in notes.items()
    }
    return None


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Node | None:
    """Lead a reference to where its name is documented, whatever path it was written with."""
    if node["refdomain"] != "py":
        return None
    target = node["reftarget"].lstrip("~.")
    domain = env.get_domain("py")
    assert isinstance(domain, PythonDomain)
    for path in (target, f"{node.get('py:module')}.{target}", f"{PACKAGE}.{target}", *endings(domain).get(target, ())):
        name, *rest = split(path)
        place = ".".join([documented(name), *rest])
        if place in domain.objects:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", place, node, content)
    # Types of arguments come as references, also those of other libraries, which stay plain; and so do names of the
    # package that are not public, which docstrings of public ones may point to.
    foreign = node.get("refspecific") and not target.startswith(PACKAGE)
    return content if foreign or target.rpartition(".")[2] in defined() else None


@cache
def defined() -> frozenset[str]:
    """Bare names of everything that the package defines: modules, classes, functions, members, constants."""
    root = Path(str(importlib.import_module(PACKAGE).__file__)).parent
    name = re.compile(r"^ *(?:class|def) (\w+)|^(\w+)(?:: .+)? = ", re.MULTILINE)
    found = {PACKAGE}
    for file in root.rglob("*.py"):
        found |= {file.stem, file.parent.name, *(one or other for one, other in name.findall(file.read_text()))}
    return frozenset(found)


def endings(domain: PythonDomain) -> dict[str, list[str]]:
    """Last part of a name -> what is documented and alone ends so."""
    found: dict[str, list[str]] = {}
    for path, entry in domain.objects.items():
        if entry.objtype in ("class", "exception", "function", "data"):
            found.setdefault(path.rsplit(".", 1)[1], []).append(path)
    return {name: paths for name, paths in found.items() if len(paths) == 1}


def split(path: str) -> list[str]:
    """A path as the longest public path that it begins with, and what is left of it."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in public_names():
            return [".".join(parts[:end]), *parts[end:]]
    return [path]


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directives known to Sphinx."""
    app.add_directive("public", PublicDirective)
    app.add_directive("error", ErrorDirective)
    app.add_directive("errors", ErrorsDirective)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)  # before napoleon, at 500
    app.connect("autodoc-process-signature", prepare_signature, priority=600)  # after autodoc's own, at 500
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
