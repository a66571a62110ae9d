"""The pages of the Python reference: every public name is on one, and its docstring says all that it should."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from pathlib import Path

import pytest

import refam_analysis as ra

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_extensions"))
import public_names as extension  # noqa: E402
import usage  # noqa: E402
from sphinx.pycode import ModuleAnalyzer  # noqa: E402

PAGES = [ROOT / "book/reference/index.md", *sorted((ROOT / "book/reference/api").glob("*.md"))]
PUBLIC = {entry.path: entry for entry in extension.public_names().values()}
DESCRIBED = sorted(path for path, entry in PUBLIC.items() if entry.kind in ("class", "function"))


def named_on_pages() -> list[str]:
    """Whole paths of the names that pages give to the directive."""
    found = []
    for page in PAGES:
        for room, names in re.findall(r"^```\{public\} (\S+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            found += [f"{room}.{name}" for name in names.split()]
    return found


def section(docs: str, *titles: str) -> str:
    """What stands below a title of a docstring."""
    return "\n".join(re.findall(rf"^(?:{'|'.join(titles)}):\n((?:[ ]{{4}}.*\n|\n)*)", docs + "\n", re.MULTILINE))


def parameters(entry: extension.Public) -> list[str]:
    """What is given to a function or to make a class; nothing where the class takes its object's constructor."""
    value = entry.value
    if getattr(value, "_is_protocol", False):
        return []
    own = dataclasses.is_dataclass(value) or "__init__" in vars(value) if entry.kind == "class" else True
    return [name for name in inspect.signature(value).parameters if name != "self"] if own else []


def test_every_public_name_is_documented_in_its_room() -> None:
    on_pages = named_on_pages()
    assert sorted(set(PUBLIC) - set(on_pages)) == []
    assert sorted(path for path in set(on_pages) if on_pages.count(path) > 1) == []


def test_every_name_of_the_package_itself_is_on_the_first_page() -> None:
    listed = {path.rpartition(".")[2] for path in named_on_pages() if path.count(".") == 1}
    assert listed == set(ra.__all__)


def test_every_name_on_a_page_exists() -> None:
    assert sorted(set(named_on_pages()) - set(extension.public_names())) == []


@pytest.mark.parametrize("path", sorted(PUBLIC), ids=lambda path: path.removeprefix("refam_analysis."))
def test_a_public_name_says_what_it_is(path: str) -> None:
    entry = PUBLIC[path]
    if entry.kind == "data":
        docs = ModuleAnalyzer.for_module(entry.source[0]).find_attr_docs().get(("", entry.source[1]))
        text = " ".join(docs or [])
    else:
        text = (inspect.getdoc(entry.value) or "").split("\n\n")[0]
    assert text.split() and text.strip()[-1] in ".:,;", text


@pytest.mark.parametrize("path", DESCRIBED, ids=lambda path: path.removeprefix("refam_analysis."))
class TestDescription:
    def test_names_every_argument(self, path: str) -> None:
        docs = inspect.getdoc(PUBLIC[path].value) or ""
        heads = re.findall(r"^    (\S[^:\n]*):", section(docs, "Args", "Attributes"), re.MULTILINE)
        named = {name.strip().lstrip("*") for head in heads for name in head.split(",")}
        assert [name for name in parameters(PUBLIC[path]) if name not in named] == []

    def test_says_what_is_returned(self, path: str) -> None:
        entry = PUBLIC[path]
        if entry.kind == "function" and inspect.signature(entry.value).return_annotation not in (None, "None"):
            assert section(inspect.getdoc(entry.value) or "", "Returns", "Yields").strip()

    def test_has_an_example_or_says_where_one_meets_it(self, path: str) -> None:
        docs = inspect.getdoc(PUBLIC[path].value) or ""
        own = [docs, *(inspect.getdoc(member) or "" for member in vars(PUBLIC[path].value).values())]
        examples = any(">>>" in text or re.search(r"^Example:", text, re.MULTILINE) for text in own)
        assert examples or usage.chapters().get(path) or usage.origins().get(path) or usage.users().get(path)

    def test_has_types_throughout(self, path: str) -> None:
        value = PUBLIC[path].value
        own = [value] if PUBLIC[path].kind == "function" else [one for one in vars(value).values() if callable(one)]
        functions = [one for one in own if inspect.isfunction(one) and "refam_analysis" in one.__code__.co_filename]
        for function in functions:
            signature = inspect.signature(function)
            named = {
                name: each.annotation for name, each in signature.parameters.items() if name not in ("self", "cls")
            }
            untyped = [name for name, annotation in named.items() if annotation is inspect.Parameter.empty]
            assert untyped == [] and (signature.return_annotation is not inspect.Signature.empty), function.__qualname__


def test_every_example_runs() -> None:
    """What stands below the title is a doctest, which `make test` runs, and no code that nobody has tried."""
    files = {path: path.read_text(encoding="utf-8") for path in (ROOT / "refam_analysis").rglob("*.py")}
    titled = {path.name: re.findall(r"^ *Examples?:\n *(.*)", text, re.MULTILINE) for path, text in files.items()}
    assert {name: lines for name, lines in titled.items() if any(not line.startswith(">>>") for line in lines)} == {}
