"""The command line in the book: what a command says of itself, read from the application when the book is built.

The directive ``command`` describes one command: its sentence, its arguments and options with their defaults. Typer
brings a Click of its own, which tools for Click do not know; what is needed of it is little.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from refam_analysis import cli

CLI = Path(cli.__file__).parent

_KINDS = {Path: "path", str: "text", int: "whole number", float: "number"}


def commands() -> dict[str, Any]:
    """Every command, by its words behind ``refam``."""

    def walk(group: Any, before: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            words = (*before, name)
            if hasattr(command, "commands"):
                yield from walk(command, words)
            elif not command.hidden:
                yield " ".join(words), command

    return dict(walk(typer.main.get_command(cli.app), ()))


class CommandDirective(SphinxDirective):
    """Describes one command, named as it is typed, without ``refam``."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The nodes of its description."""
        name = self.arguments[0]
        for file in CLI.rglob("*.py"):
            self.env.note_dependency(str(file))
        if name not in commands():
            raise self.error(f"There is no command refam {name}.")
        lines = ["```{eval-rst}", *described(name, commands()[name]), "```"]
        place = nodes.container()
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), self.content_offset, place)
        return place.children


def described(name: str, command: Any) -> list[str]:
    """A command in reStructuredText."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [each for each in shown if each.param_type_name == "argument"]
    options = [each for each in shown if each.param_type_name == "option"]
    usage = " ".join(["refam", name, *(signature(each) for each in arguments)])
    lines = [inspect.cleandoc(command.help or ""), "", f".. program:: refam {name}", ""]
    lines += [".. code-block:: none", "", f"   {usage} [OPTIONS]" if options else f"   {usage}", ""]
    for each in [*arguments, *options]:
        lines += [f".. option:: {signature(each)}", "", f"   {about(each)}", ""]
    return [line for text in lines for line in text.split("\n")]


def signature(parameter: Any) -> str:
    """An option's names and what it takes: ``--model <text>``."""
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper() + ("..." if parameter.nargs == -1 else "")
    names = [*parameter.opts, *parameter.secondary_opts]
    takes = "" if parameter.is_flag else f" <{kind_of(parameter)}>"
    return ", ".join(f"{name}{takes}" for name in names)


def kind_of(parameter: Any) -> str:
    """What an option takes, in a word, or its choices; twice where it takes two."""
    kind = parameter.type_descriptor.annotation
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
    if get_origin(kind) is tuple:
        return " ".join(_KINDS.get(each, each.__name__) for each in get_args(kind))
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return "|".join(str(each.value) for each in kind)
    return _KINDS.get(kind, getattr(kind, "__name__", str(kind)))


def about(parameter: Any) -> str:
    """What an option means, with its default and the variable that stands for it."""
    notes = ["May be given several times."] if parameter.param_type_name == "option" and parameter.multiple else []
    default = parameter.default() if callable(parameter.default) else parameter.default
    if parameter.required:
        notes.append("Required.")
    elif default not in (None, [], ()) and not (parameter.param_type_name == "option" and default is False):
        notes.append(f"Default: ``{spelt(default, parameter)}``.")
    if parameter.envvar:
        notes.append(f"Environment: ``{parameter.envvar}``.")
    return " ".join([(parameter.help or "").strip(), *notes])


def spelt(default: Any, parameter: Any) -> str:
    """A default as it is typed."""
    if default is True and parameter.secondary_opts:
        return str(parameter.opts[0])
    if isinstance(default, (list, tuple)):
        return " ".join(map(str, default))
    return str(default.value if isinstance(default, Enum) else default) or '""'


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known to Sphinx."""
    app.add_directive("command", CommandDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
