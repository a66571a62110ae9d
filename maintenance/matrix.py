"""The tests with the oldest and the newest supported versions of PyTorch, diffusers and transformers.

    python -m maintenance.matrix                    # or make matrix: both, each in an environment of its own
    python -m maintenance.matrix oldest -- tests/models     # one of them, with some of the tests

The newest are those of `constraints.txt`; the oldest are `oldest.txt`, with `constraints.txt` for everything that it
does not name. Environments are made in `_build/matrix` (6 GB each) and used again. Each run is written to
`VERSIONS.md`: what was installed, which tests were run, and how many passed. The tests in a browser are left out:
they look at pages.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from maintenance.licences import ROOT, pins

FOLDER = ROOT / "_build" / "matrix"
RESULTS = Path(__file__).parent / "VERSIONS.md"
OLDEST = Path(__file__).parent / "oldest.txt"
NAMED = ("torch", "torchvision", "diffusers", "transformers", "huggingface-hub", "tokenizers")
EXTRAS = "book,probe,nlp,distributed,dev"
HEAD = """# Versions

The tests with the oldest and with the newest versions that are supported: `all` of them but those in a browser, or
what is named. The newest are those of `constraints.txt`, with which `make test` runs all of them on every change;
between the two nothing is tried. Everything else is at the versions of `constraints.txt`. Written by `make matrix`.

"""
COLUMNS = ("versions", "date", "Python", *NAMED, "tests", "passed", "failed", "skipped", "minutes")


class Outcome(NamedTuple):
    """What the test runner counted."""

    passed: int
    failed: int
    skipped: int
    minutes: float


def constraints(versions: str) -> dict[str, str]:
    """Name -> version of every package: "oldest" or "newest"."""
    if versions == "newest":
        return pins()
    lines = [line for line in OLDEST.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return pins() | dict(line.split("==") for line in lines)


def environment(versions: str) -> Path:
    """The Python of an environment with these versions, which is made, or brought up to date."""
    folder = FOLDER / versions
    python = folder / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", str(folder)])
    listed = FOLDER / f"{versions}.txt"
    listed.write_text("".join(f"{name}=={version}\n" for name, version in constraints(versions).items()))
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", str(listed)]
    run([*pip, "setuptools", "wheel"])
    run([*pip, "--no-build-isolation", "--editable", f"{ROOT}[{EXTRAS}]"])
    return python


def tested(python: Path, versions: str, chosen: Sequence[str]) -> Outcome:
    """Run the tests, and count."""
    report, start = FOLDER / f"{versions}.xml", time.monotonic()
    report.unlink(missing_ok=True)
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    surroundings["REFAM_VERSIONS"] = versions
    surroundings["PATH"] = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", f"--junitxml={report}"]
    run([str(python), "-m", "pytest", *options, *chosen], check=False, env=surroundings)
    suite = ElementTree.parse(report).getroot()[0]  # noqa: S314 (pytest wrote it)
    count = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    return Outcome(
        count["tests"] - failed - count["skipped"], failed, count["skipped"], (time.monotonic() - start) / 60
    )


def row(versions: str, chosen: Sequence[str], outcome: Outcome) -> list[str]:
    """A line of the table."""
    there = [constraints(versions)[name] for name in NAMED]
    counted = [str(outcome.passed), str(outcome.failed), str(outcome.skipped), f"{outcome.minutes:.0f}"]
    what = " ".join(chosen) or "all"
    return [versions, f"{datetime.now(UTC):%Y-%m-%d}", platform.python_version(), *there, what, *counted]


def write(rows: Sequence[Sequence[str]]) -> None:
    """Put rows into the table, in the place of those of the same versions."""
    known = {}
    if RESULTS.is_file():
        lines = re.findall(r"^\| ((?:oldest|newest) .*) \|$", RESULTS.read_text(encoding="utf-8"), re.MULTILINE)
        known = {line.split(" | ")[0]: line.split(" | ") for line in lines}
    known |= {line[0]: list(line) for line in rows}
    table = [COLUMNS, ["---"] * len(COLUMNS), *(known[name] for name in ("oldest", "newest") if name in known)]
    RESULTS.write_text(HEAD + "".join(f"| {' | '.join(line)} |\n" for line in table), encoding="utf-8")


def run(command: Sequence[str], *, check: bool = True, env: dict[str, str] | None = None) -> None:
    """A command in the repository's root."""
    subprocess.run(command, cwd=ROOT, check=check, env=env)  # noqa: S603 (our own)


def main(arguments: Sequence[str]) -> int:
    """Both, or the one that is named; after ``--`` what the test runner is told."""
    names, _, chosen = " ".join(arguments).partition("--")
    failed = 0
    for versions in names.split() or ["oldest", "newest"]:
        FOLDER.mkdir(parents=True, exist_ok=True)
        outcome = tested(environment(versions), versions, chosen.split())
        print(versions, outcome)
        failed += outcome.failed
        write([row(versions, chosen.split(), outcome)])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
