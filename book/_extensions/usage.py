"""Where one meets a public name: in the code of which chapters, of which functions, of which modules."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from public_names import PACKAGE, public_names

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


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
