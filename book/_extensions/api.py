"""The library's public names in the book: documented once each, found by whichever path they are written.

A name is exported by its room and defined in a module of it, some by the package as well. The directive ``public``
documents names under their room, and a reference to any other path leads there. Errors have a page each, which the
directive ``error`` opens. Below a name stand the chapters whose code uses it.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

PACKAGE = "refam_analysis"
ROOMS = (
    "errors", "weights", "scenes", "prompts", "models", "recording", "analysis", "segmentation", "segmentation.video",
    "evaluation", "evaluation.datasets", "experiments", "figures", "widgets",
)  # fmt: skip
"""Modules whose ``__all__`` is public, in the order in which data flows: a name belongs to the first that has it."""

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
ERRORS = Path(__file__).parents[1] / "reference" / "errors"
LONGEST_VALUE = 300

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Public:
    """A public name.

    Attributes:
        room: the module that it is documented under.
        name: in that module.
        value: what it names.
        kind: "class", "exception", "function" or "data".
        source: the module that defines it, and its name there.
    """

    room: str
    name: str
    value: Any
    kind: str
    source: tuple[str, str]

    @property
    def path(self) -> str:
        """Under which it is documented."""
        return f"{self.room}.{self.name}"


@cache
def public_names() -> dict[str, Public]:
    """Every public name, by every path that leads to it: its room's, other rooms', the package's, its definition's."""
    found: dict[tuple[str, str], Public] = {}
    paths: dict[str, Public] = {}
    for room in (*ROOMS, ""):
        module_name = f"{PACKAGE}.{room}".rstrip(".")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError:
            continue
        for name in exported(module):
            value = getattr(module, name)
            source = source_of(module_name, name, value)
            entry = found.setdefault(source, Public(module_name, name, value, kind_of(value), source))
            paths[f"{module_name}.{name}"] = paths[".".join(source)] = entry
    return paths


def exported(module: Any) -> list[str]:
    """What a module says is public: its ``__all__``, or the errors that it defines where it has none."""
    return getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__
    ]


def kind_of(value: Any) -> str:
    """Which of autodoc's kinds a value is."""
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if inspect.isroutine(value) else "data"


def source_of(module: str, name: str, value: Any) -> tuple[str, str]:
    """The module that defines a name, and the name there."""
    if kind_of(value) != "data":
        return value.__module__, value.__qualname__
    tree = ast.parse(Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return source_of(node.module, alias.name, value)
    return module, name


@cache
def chapters() -> dict[str, list[str]]:
    """Documented path -> stems of the notebooks whose code uses it, in their order."""
    used: dict[str, list[str]] = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for entry in sorted({public_names()[name].path for name in named_in(code) if name in public_names()}):
            used.setdefault(entry, []).append(path.stem)
    return used


@cache
def origins() -> dict[str, tuple[str, list[str]]]:
    """Documented path -> where one meets a name: the public functions that give a class, or that call a function."""
    described = [entry for entry in {entry.path: entry for entry in public_names().values()}.values()]
    functions = [entry for entry in described if entry.kind == "function"]
    found: dict[str, tuple[str, list[str]]] = {}
    for entry in described:
        name = re.compile(rf"\b{entry.name}\b")
        if entry.kind == "class":
            makers = [
                maker for maker in functions if name.search(str(inspect.signature(maker.value).return_annotation))
            ]
            verb = "Given by"
        else:
            makers = [maker for maker in functions if maker is not entry and entry.name in called_by(maker.path)]
            verb = "Called by"
        if makers and entry.kind in ("class", "function"):
            found[entry.path] = (verb, sorted({maker.path for maker in makers}))
    return found


@cache
def users() -> dict[str, list[str]]:
    """Documented path -> modules of the package whose code uses it, its own among them."""
    found: dict[str, list[str]] = {}
    root = Path(str(importlib.import_module(PACKAGE).__file__)).parent
    for file in sorted(root.rglob("*.py")):
        module = ".".join([PACKAGE, *file.relative_to(root).with_suffix("").parts])
        nodes_of = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        names = {node.id for node in nodes_of if isinstance(node, ast.Name)}
        names |= {node.attr for node in nodes_of if isinstance(node, ast.Attribute)}
        for entry in public_names().values():
            if entry.name in names and module not in found.get(entry.path, ()):
                found.setdefault(entry.path, []).append(module)
    return found


@cache
def called_by(path: str) -> frozenset[str]:
    """The bare names that a public function calls."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(public_names()[path].value))))
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return frozenset(call.id for call in calls if isinstance(call, ast.Name))


def named_in(code: str) -> Iterator[str]:
    """Whole paths of what code takes from the package, by import or through a module that it imported."""
    modules = {}
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    yield from (path for path in modules.values() if path.startswith(PACKAGE))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield f"{modules[node.value.id]}.{node.attr}"


class PublicDirective(SphinxDirective):
    """Documents names of one room: a table with a line each, then each in full; errors lead to their pages."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """The nodes of the table and of the descriptions."""
        room = self.arguments[0]
        self.env.note_dependency(__file__)
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
    value = " ".join(repr(entry.value).split()) if is_plain(entry.value) else ""
    if len(value) > LONGEST_VALUE:
        value = value[: value.rfind(" ", 0, LONGEST_VALUE)] + " ..."
    lines = [f".. py:data:: {entry.name}", f"   :module: {entry.room}"]
    lines += [f"   :value: {value}", ""] if value else [""]
    return [*lines, *(f"   {line}" for line in text or []), *(f"   {line}" for line in used_in(entry.path)), ""]


def is_plain(value: Any) -> bool:
    """Whether a value's text reads like the code that makes it."""
    return type(value).__module__ in ("builtins", "typing") and " object at 0x" not in repr(value)


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
