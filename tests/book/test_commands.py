"""The page of the command line: every command is on it, with an example; what begins with ``$`` runs."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import typer.main
from PIL import Image
from typer.testing import CliRunner

import refam_analysis as ra
from refam_analysis.cli import app

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_extensions"))
import commands as extension  # noqa: E402

PAGE = (ROOT / "book" / "reference" / "commands.md").read_text(encoding="utf-8")
SECTIONS = dict(zip(*[iter(re.split(r"^### refam (.+)$", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))
EXAMPLES = re.findall(r"^```console\n\$ refam (.+)\n```$", PAGE, re.MULTILINE)


def test_every_command_is_on_the_page() -> None:
    assert sorted(SECTIONS) == sorted(extension.commands())


@pytest.mark.parametrize("name", sorted(SECTIONS), ids=str)
def test_a_command_is_described_and_has_an_example(name: str) -> None:
    assert f"```{{command}} {name}\n" in SECTIONS[name]
    (example,) = re.findall(r"^```(?:console\n\$ |bash\n)refam (.+)\n```$", SECTIONS[name], re.MULTILINE)
    assert example.startswith(name)


@pytest.mark.parametrize("name", sorted(SECTIONS), ids=str)
def test_every_option_is_described(name: str) -> None:
    command = extension.commands()[name]
    lines = "\n".join(extension.described(name, command))
    asked = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    offered = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", asked.output)) - {"--help"}
    assert offered <= set(re.findall(r"--[a-z][a-z-]+", lines))


def test_examples_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture = ra.Scenes("test", length=1)[0].image
    (tmp_path / "frames").mkdir()
    for place in ("scene.png", "frames/0.png", "frames/1.png"):
        Image.fromarray(picture).save(place)
    (tmp_path / "asked.csv").write_text("image,expression\nscene.png,the red circle\n")
    assert len(EXAMPLES) > 8
    for example in EXAMPLES:
        done = CliRunner().invoke(app, shlex.split(example))
        assert done.exit_code == 0, f"refam {example}\n{done.output}\n{done.exception!r}"


def test_the_application_is_the_one_that_is_installed() -> None:
    assert set(typer.main.get_command(app).commands) == {name.split()[0] for name in SECTIONS}
