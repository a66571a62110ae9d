"""What holds for the repository as a whole: packaging, weights, notebooks, the README, the rooms of the package."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import refam_analysis as ra

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "refam_analysis"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ROOMS = (
    "errors", "files", "weights", "scenes", "prompts", "models", "recording", "analysis", "segmentation", "evaluation",
    "experiments", "figures", "notebook", "widgets", "training", "cli",
)  # fmt: skip
"""In the order in which data flows: a room imports only from rooms before it."""


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file that git has."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = tuple(ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file())
    assert files
    return files


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def all_requirements() -> list[str]:
    return project()["dependencies"] + sum(project()["optional-dependencies"].values(), [])


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-")


# Packaging


def conda_pip_section() -> list[str]:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (section,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return section


def test_conda_requirements_are_those_of_pyproject() -> None:
    named = [line for line in conda_pip_section() if not line.startswith("-")]
    assert named and set(named) <= set(all_requirements())


def test_conda_names_what_the_project_is_known_by() -> None:
    promised = "torch diffusers transformers segment-anything jupyter-book matplotlib seaborn scipy ipywidgets".split()
    assert set(promised) <= {name_of(line) for line in conda_pip_section()}


def test_conda_installs_the_package_with_its_pins_and_extras() -> None:
    assert "-c constraints.txt" in conda_pip_section()
    (editable,) = [line for line in conda_pip_section() if line.startswith("-e ")]
    extras = set(editable.removeprefix("-e .[").removesuffix("]").split(","))
    assert {"book", "probe", "nlp", "dev"} <= extras <= set(project()["optional-dependencies"])


def test_make_installs_extras_that_exist() -> None:
    extras = re.search(r"^EXTRAS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert extras and set(extras[1].split(",")) <= set(project()["optional-dependencies"])


def test_every_requirement_is_pinned() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+", line) for line in lines)
    assert {name_of(requirement) for requirement in all_requirements()} <= {name_of(line) for line in lines}


# What is committed


def test_weights_stay_under_forty_megabytes() -> None:
    weights = [path for path in tracked_files() if path.is_relative_to(PACKAGE / "weights" / "data")]
    assert sum(path.stat().st_size for path in weights) < 40e6


def test_no_pickled_weights_are_committed() -> None:
    pickled = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".npy"}
    assert [path for path in tracked_files() if path.suffix in pickled] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    kept = [cell["source"] for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    assert kept == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_cells_are_short(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]) for cell in cells if "".join(cell["source"]).count("\n") >= 20] == []


def test_every_notebook_and_page_is_in_the_book() -> None:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [contents["root"], *(name for part in contents["parts"] for name in _pages(part["chapters"]))]
    pages = NOTEBOOKS + sorted((ROOT / "book").rglob("*.md"))
    assert sorted(listed) == sorted(str(path.relative_to(ROOT).with_suffix("")) for path in pages)


def _pages(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        if "glob" in entry:
            yield from (str(path.relative_to(ROOT).with_suffix("")) for path in ROOT.glob(entry["glob"]))
        else:
            yield entry["file"]
            yield from _pages(entry.get("sections", []))


# README


def test_first_example_of_the_readme_runs(tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert example
    finished = run(example[1], tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("\n") >= 3


def test_pictures_and_links_of_the_readme_exist() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    local = [target for target in targets if "://" not in target]
    assert local and [target for target in local if not (ROOT / target).exists()] == []


def test_readme_commands_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)(?=[` \n])", text)) <= targets


# The package


def test_import_is_quick_and_loads_no_pytorch(tmp_path: Path) -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import refam_analysis; took = time.perf_counter() - start\n"
        "heavy = {'torch', 'numpy', 'pandas', 'xarray', 'diffusers', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy; assert took < 0.5, took"
    )
    finished = run(code, tmp_path)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("name", sorted({*ra.__all__, *ra._ROOMS}))
def test_public_name_is_there(name: str) -> None:
    assert getattr(ra, name) is not None
    assert name in dir(ra)


def test_types_and_run_time_agree_on_the_public_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (typed,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.name: str(node.module).removeprefix("refam_analysis.")
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    rooms = {name for name, module in imported.items() if module == "refam_analysis"}
    assert sorted(rooms) == sorted(ra._ROOMS)
    assert {name: room for name, room in imported.items() if name not in rooms} == ra._HOMES
    assert sorted(ra.__all__) == sorted(ra._HOMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'attention_sync'"):
        ra.attention_sync  # noqa: B018


def test_command_line_shows_its_commands(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("refam")
    finished = subprocess.run([command, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert {"record", "segment", "demo"} <= set(re.findall(r"\w+", finished.stdout))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
class TestFileOfThePackage:
    def test_has_at_most_400_lines(self, path: Path) -> None:
        assert len(path.read_text().splitlines()) <= 400

    def test_says_what_is_in_it(self, path: Path) -> None:
        assert ast.get_docstring(ast.parse(path.read_text()))

    def test_imports_only_from_rooms_before_its_own(self, path: Path) -> None:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            pytest.skip("the root exports every room")
        later = [room for room in imported_rooms(path) if ROOMS.index(room) > ROOMS.index(own)]
        assert later == []


def imported_rooms(path: Path) -> list[str]:
    """The rooms that a file imports from, at its top or inside a function."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}, line {node.lineno}: write the whole name of the module"
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [module.split(".") for module in modules]
    return [names[1] for names in parts if names[0] == "refam_analysis" and len(names) > 1 and names[1] in ROOMS]
