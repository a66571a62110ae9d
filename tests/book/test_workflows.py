"""The workflows: valid, pinned, and of the same commands as on one's own machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def commands(path: Path) -> list[str]:
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def test_workflows_match_their_schema() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    assert WORKFLOWS
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.github-workflows", *WORKFLOWS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_commit(path: Path) -> None:
    used = re.findall(r"uses: (.+)", path.read_text())
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []


def test_checks_are_those_of_the_local_script() -> None:
    local = set(re.findall(r"^make ([a-z-]+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    (checks,) = [path for path in WORKFLOWS if path.stem == "checks"]
    remote = {found for command in commands(checks) for found in re.findall(r"^make ([a-z-]+)$", command)}
    assert {"lint", "test", "test-book"} <= remote <= local


def test_what_is_published_was_looked_at() -> None:
    (book,) = [path for path in WORKFLOWS if path.stem == "book"]
    assert "make test-book" in commands(book)
