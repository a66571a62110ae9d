"""Every error has a page in the book, whose message is the one that the code says: each page is a doctest."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import re
from pathlib import Path

import pytest

from refam_analysis.errors import RefamError

ROOT = Path(__file__).parents[2]
ERRORS = ROOT / "book" / "reference" / "errors"
PAGES = sorted(ERRORS.glob("*/*.md"))
PACKAGE = ROOT / "refam_analysis"


def every_error() -> set[str]:
    """Whole paths of the package's error classes: those that derive from RefamError or from one that does."""
    bases: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases[f"{module}.{node.name}"] = {base.id for base in node.bases if isinstance(base, ast.Name)}
    found = {"refam_analysis.errors.RefamError"}
    while True:
        names = {path.rpartition(".")[2] for path in found}
        more = {path for path, above in bases.items() if above & names} - found
        if not more:
            return found
        found |= more


def error_of(page: Path) -> type[RefamError]:
    """The class that a page is about."""
    (path,) = re.findall(r"^```\{error\} (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    module, _, name = path.rpartition(".")
    found: type[RefamError] = getattr(importlib.import_module(module), name)
    return found


def test_every_error_has_one_page() -> None:
    written = [f"{error.__module__}.{error.__qualname__}" for error in map(error_of, PAGES)]
    assert sorted(every_error() - set(written)) == []
    assert len(written) == len(set(written))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
class TestPageOfAnError:
    def test_shows_the_message_that_the_code_says(
        self, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        text = page.read_text(encoding="utf-8").replace("\n```\n", "\n\n")
        example = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, page.stem, str(page), 0)
        said: list[str] = []
        options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        outcome = doctest.DocTestRunner(optionflags=options).run(example, out=said.append)
        assert outcome.attempted and not outcome.failed, "".join(said)

    def test_ends_in_that_error(self, page: Path) -> None:
        error = error_of(page)
        last = re.findall(r"^Traceback .*\n\.\.\.\n(\S+?)(?::|$)", page.read_text(encoding="utf-8"), re.MULTILINE)[-1]
        module, _, name = last.rpartition(".")
        raised = getattr(importlib.import_module(module), name)
        assert issubclass(raised, error)

    def test_says_cause_and_remedy(self, page: Path) -> None:
        parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        sections = dict(zip(parts[1::2], parts[2::2], strict=True))
        assert list(sections) == ["Symptom", "Cause", "Remedy"]
        assert all(len(text.split()) > 3 for text in sections.values())

    def test_is_led_to_by_the_page_of_its_room(self, page: Path) -> None:
        index = ERRORS / f"{page.parent.name}.md"
        assert f"```{{errors}} {page.parent.name}\n" in index.read_text(encoding="utf-8")


def test_no_page_shows_a_path_of_this_machine() -> None:
    assert [page.name for page in PAGES if re.search(rf"/work/|/root/|/home/|{os.environ.get('HOME', '/root')}/",
                                                     page.read_text(encoding="utf-8"))] == []  # fmt: skip
