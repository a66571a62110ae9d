"""Long results: tables that took too long for a page of the book, committed with what is needed to make them again.

A result is a folder ``results/<name>/`` of parquet tables beside a ``provenance.json``. Here results are written, read
and refused when they are older than the shipped weights; what is in them is the business of each experiment.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from refam_analysis.errors import RefamError
from refam_analysis.files import (
    DamagedFileError,
    kept_table,
    put_back,
    read_json,
    write_json,
    written_folder,
)

ROOT = Path(__file__).parents[2]
"""The checkout that the package runs from."""

RESULTS = ROOT / "results"
SHIPPED_WEIGHTS = ROOT / "refam_analysis" / "weights" / "data"
_ABOUT = "provenance.json"
_LIBRARIES = ("diffusers", "numpy", "pandas", "scipy", "segment-anything", "torch", "transformers", "xarray")


class NoResultError(RefamError, FileNotFoundError):
    """A result is not there."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(
            f"There is no result {name!r} in {folder}. Results come with a checkout of the repository, not with the "
            f"installed package. An experiment's is made by `refam experiment {name}`, a ledger of claims by "
            "`refam claims --out`, what was timed by the benchmark of that name, and what compares trainings by the "
            "module of that name in refam_analysis.training."
        )


class StaleResultError(RefamError, ValueError):
    """A result was made with other weights than those that ship."""

    def __init__(self, name: str, changed: Sequence[str], command: str) -> None:
        files = ", ".join(changed)
        super().__init__(
            f"The result {name!r} is older than the shipped weights, of which {files} changed since: make it "
            f"again with `{command}`."
        )


@dataclass(frozen=True)
class Provenance:
    """How a result came about.

    Attributes:
        command: makes it again, from the root of the checkout.
        configuration: everything that was chosen, seeds included.
        weights: sha256 of every weights file used, by its path below the folder of the shipped weights.
        versions: of Python and of the libraries that compute.
        commit: of the checkout; None outside git.
        modified: whether the package differed from that commit.
        machine: model of the processor and number of its cores.
        date: when it was finished, ISO 8601 in UTC.
        seconds: how long it took, without earlier runs that it went on from.
        tables: sha256 of every table's file, by name; empty where it was written before these were noted.
    """

    command: str
    configuration: dict[str, Any]
    weights: dict[str, str]
    versions: dict[str, str]
    commit: str | None
    modified: bool
    machine: dict[str, Any]
    date: str
    seconds: float
    tables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A long result: ``result["outcomes"]`` is the table ``outcomes``.

    Attributes:
        name: of its folder.
        tables: by name.
        provenance: how they came about.
    """

    name: str
    tables: Mapping[str, pd.DataFrame]
    provenance: Provenance

    def __getitem__(self, table: str) -> pd.DataFrame:
        return self.tables[table]


@dataclass
class Stopwatch:
    """Notes when an experiment began, and signs its result when it is done.

    >>> Stopwatch().provenance("refam experiment cats", {"seed": 0}, weights={}).configuration
    {'seed': 0}
    """

    started: float = field(default_factory=time.perf_counter)

    def provenance(self, command: str, configuration: Mapping[str, Any], weights: Mapping[str, str]) -> Provenance:
        """The provenance of what was computed since this stopwatch was made.

        Args:
            command: makes the result again.
            configuration: everything that was chosen, as JSON takes it.
            weights: from :func:`weights_sha256`.
        """
        return Provenance(
            command=command,
            configuration=json.loads(json.dumps(dict(configuration))),
            weights=dict(weights),
            versions={"python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in _LIBRARIES},
            commit=_git("rev-parse", "HEAD") or None,
            modified=bool(_git("status", "--porcelain", "--", "refam_analysis")),
            machine={"processor": _processor(), "cores": os.cpu_count()},
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self.started, 1),
        )


def weights_sha256(folder: Path, *, also: Sequence[str] = ()) -> dict[str, str]:
    """The sha256 of the weights below a folder.

    Args:
        folder: of a model, such as ``embedded_folder("embedded-dit")``.
        also: further files in it that the numbers depend on, such as ``refam.json``.

    Returns:
        Of every safetensors file and every file of ``also``, by its path from the folder's parent on.
    """
    files = sorted({*folder.rglob("*.safetensors"), *(folder / name for name in also)})
    return {file.relative_to(folder.parent).as_posix(): _sha256(file) for file in files}


def named_place(path: Path) -> str:
    """A folder as a command names it: from the root of the checkout on; where else it lies is not told.

    >>> named_place(RESULTS / "claims"), named_place(Path("/data/claims"))
    ('results/claims', 'claims')
    """
    place = path.absolute()
    return place.relative_to(ROOT).as_posix() if place.is_relative_to(ROOT) else place.name


def write_result(
    name: str, tables: Mapping[str, pd.DataFrame], provenance: Provenance, *, results: Path = RESULTS
) -> Result:
    """Write a result, all or nothing, in the place of an earlier one of that name.

    Args:
        name: of its folder.
        tables: a parquet file each.
        provenance: how they came about.
        results: the folder of all results.
    """
    with written_folder(results / name) as place:
        for table, rows in tables.items():
            rows.to_parquet(place / f"{table}.parquet", index=False)
        sums = {table: _sha256(place / f"{table}.parquet") for table in tables}
        provenance = dataclasses.replace(provenance, tables=sums)
        write_json(place / _ABOUT, dataclasses.asdict(provenance))
    return Result(name, dict(tables), provenance)


def load_result(name: str, *, results: Path = RESULTS, weights: Path = SHIPPED_WEIGHTS) -> Result:
    """Read a result, if it was made with the weights that ship.

    Args:
        name: of its folder.
        results: the folder of all results.
        weights: the folder of the shipped weights.

    Returns:
        Its tables by name, and its provenance.

    Raises:
        NoResultError: there is no such result.
        StaleResultError: a weights file that it was made with has changed or is gone.
        DamagedFileError: a table, or what is said of it, is not what was written.

    >>> load_result("cats")
    Traceback (most recent call last):
    ...
    refam_analysis.experiments.provenance.NoResultError: There is no result 'cats' in ...
    """
    folder = results / name
    put_back(folder)
    if not (folder / _ABOUT).is_file():
        raise NoResultError(name, results)
    try:
        provenance = Provenance(**read_json(folder / _ABOUT))
    except TypeError as error:
        raise DamagedFileError(folder / _ABOUT, str(error)) from error
    changed = [
        file
        for file, digest in provenance.weights.items()
        if not (weights / file).is_file() or _sha256(weights / file) != digest
    ]
    if changed:
        raise StaleResultError(name, changed, provenance.command)
    for table, digest in provenance.tables.items():
        path = folder / f"{table}.parquet"
        if not path.is_file() or _sha256(path) != digest:
            raise DamagedFileError(path, "it is not there, or its sha256 is not the one in its provenance")
    return Result(name, {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}, provenance)


def results_of(model: str, results: Path = RESULTS) -> Path:
    """Where the results of one of the models that ship lie: those of the first by themselves, others in a folder.

    Args:
        model: its name, as :func:`refam_analysis.load_model` takes it.
        results: the folder of all results.

    >>> results_of("embedded-rich", Path("results")).as_posix(), results_of("embedded", Path("results")).as_posix()
    ('results/embedded-rich', 'results')
    """
    return results if model == "embedded" else results / model


class Parts:
    """Finished parts of an experiment, kept until its result is written, so that a stopped one goes on.

    Args:
        folder: where working folders lie, such as ``.cache``.
        name: of the experiment.
        depends_on: everything that the parts follow from; with anything else in it, all are made anew.
    """

    def __init__(self, folder: Path, name: str, depends_on: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(dict(depends_on), sort_keys=True).encode()).hexdigest()
        self.folder = folder / f"{name}-{digest[:12]}"

    def keep(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The part with this name: read if it is finished and whole, otherwise made and written, all or nothing."""
        return kept_table(self.folder / f"{name}.parquet", make)

    def batches(
        self, number: int, size: int, make: Callable[[slice], pd.DataFrame], *, unit: str, progress: bool = False
    ) -> pd.DataFrame:
        """The parts of some things, batch by batch, as one table.

        Args:
            number: of things.
            size: of a batch; the last one may be smaller.
            make: the rows of those in a slice.
            unit: what the things are called beside the bar.
            progress: show it.
        """
        found = []
        for first in tqdm(range(0, number, size), desc=unit, unit="batch", disable=not progress):
            found.append(self.keep(f"{first:06d}", partial(make, slice(first, first + size))))
        return pd.concat(found, ignore_index=True)

    def forget(self) -> None:
        """Delete the parts: the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git(*arguments: str) -> str:
    """What git answers about this checkout; empty where there is none."""
    try:
        # Fixed words of ours, to the reader's own git, wherever the PATH has it.
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
