"""The library's public names: each exported by its room and defined in a module of it, some by the package as well."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "refam_analysis"
ROOMS = (
    "errors", "weights", "scenes", "prompts", "models", "recording", "analysis", "segmentation", "segmentation.video",
    "evaluation", "evaluation.datasets", "experiments", "figures", "notebook", "widgets",
)  # fmt: skip
"""Modules whose ``__all__`` is public, in the order in which data flows: a name belongs to the first that has it."""


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
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
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
