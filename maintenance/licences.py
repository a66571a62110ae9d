"""LICENCES.md: under which licence every package is that `make` may install, from PyPI and from the npm registry.

    python -m maintenance.licences           # or make licences: writes it, from what is installed and the lock file
    python -m maintenance.licences --check   # exits with 1 where it is not true any more

What a package says of itself stands in its metadata. Packages of `constraints.txt` that are not installed (those of the
extra `quantised`, or of another platform) are asked of pip.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "LICENCES.md"
LOCK = ROOT / "book" / "package-lock.json"
UNSTATED = "not stated"
NOTED = {
    "segment-anything": "Apache-2.0 (its LICENSE file)",
    "cuda-toolkit": "an empty package that asks for those of NVIDIA",
    **dict.fromkeys(
        ("compute-gcd", "compute-lcm", "validate.io-function", "validate.io-integer", "validate.io-integer-array",
         "validate.io-number"), "MIT (its LICENSE file)",
    ),
}  # fmt: skip
"""What was read by hand, of packages whose metadata say nothing."""

INTRODUCTION = """# Licences

What `make` may install, each at the version of `constraints.txt` and `book/package-lock.json`, and what it says of its
own licence. Nothing of it is copied into this repository, which is under [Apache-2.0](LICENSE). The built book holds
the widget manager and onnxruntime-web, under BSD-3-Clause and MIT. The packages of NVIDIA are those that PyTorch asks
for on Linux. Two of the extra `quantised`, which `make` does not install, state nothing in their metadata. Made by
`make licences`.
"""


def pins() -> dict[str, str]:
    """Name -> version, of `constraints.txt`."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def licence_of(fields: Mapping[str, list[str]]) -> str:
    r"""What a package's metadata say: an expression, else what the classifiers name, else the first line of the text.

    >>> licence_of({"license_expression": ["MIT"]}), licence_of({"license": ["BSD\n\nCopyright ..."]}), licence_of({})
    ('MIT', 'BSD', 'not stated')
    """
    for expression in fields.get("license_expression", []):
        return expression
    classified = [line for line in fields.get("classifier", []) if line.startswith("License ::")]
    names = [line.rpartition(" :: ")[2] for line in classified if line != "License :: OSI Approved"]
    if names:
        return ", ".join(names)
    for text in fields.get("license", []):
        if text.strip():
            return text.strip().splitlines()[0][:60]
    return UNSTATED


def installed(name: str) -> dict[str, list[str]] | None:
    """The metadata of an installed package, by lower-case names; None where it is not installed."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return None
    keys = {key.lower().replace("-", "_") for key in found}
    return {key: [str(value) for value in found.get_all(key.replace("_", "-")) or []] for key in keys}


def python_rows() -> list[tuple[str, str, str]]:
    """Name, version and licence of every pinned package, sorted."""
    found = {name: installed(name) for name in pins()}
    there = {name: fields for name, fields in found.items() if fields and fields["version"] == [pins()[name]]}
    elsewhere = asked({name: version for name, version in pins().items() if name not in there})
    return [(name, pins()[name], licence_of((there | elsewhere)[name])) for name in sorted(pins())]


def asked(wanted: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """The metadata of packages that are not installed, from the index that pip is set up for."""
    if not wanted:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
        names = [f"{name}=={version}" for name, version in wanted.items()]
        subprocess.run([*command, "--report", str(report), *names], check=True)  # noqa: S603 (our own pins)
        told = json.loads(report.read_text(encoding="utf-8"))["install"]
    found = {}
    for entry in told:
        fields = {key: value if isinstance(value, list) else [str(value)] for key, value in entry["metadata"].items()}
        found[re.sub(r"[-_.]+", "-", fields["name"][0].lower())] = fields
    return found


def npm_rows() -> Iterator[tuple[str, str, str]]:
    """Name, version and licence of every package of the lock file."""
    for path, about in json.loads(LOCK.read_text(encoding="utf-8"))["packages"].items():
        if path:
            yield path.rpartition("node_modules/")[2], about["version"], str(about.get("license", UNSTATED))


def table(rows: list[tuple[str, str, str]]) -> str:
    """Rows in Markdown."""
    lines = []
    for name, version, licence in rows:
        said = NOTED.get(name, licence) if licence == UNSTATED else licence
        lines.append(f"| {name} | {version} | {said.replace('|', '/')} |")
    return "\n".join(["| package | version | licence |", "|---|---|---|", *lines])


def written() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## From PyPI\n", table(python_rows()), "\n## From the npm registry\n"]
    return "\n".join([*parts, table(sorted(set(npm_rows())))]) + "\n"


if __name__ == "__main__":
    page = written()
    if "--check" in sys.argv:
        sys.exit(0 if TABLE.read_text(encoding="utf-8") == page else "LICENCES.md is out of date: make licences")
    TABLE.write_text(page, encoding="utf-8")
