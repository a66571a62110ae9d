"""The folder of a run: finished parts, one table at the end, and what it all follows from.

``run.json`` says what the run is. Each finished image or clip is a part of its own, written under another name and then
renamed: so it is there whole or not at all, whenever the process is killed. Parts are put together into one table
(``results.parquet``) at every start and at the end; rows of a part replace those that the table has of the same item.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from refam_analysis.errors import REFUSED, RefamError
from refam_analysis.evaluation.runner.description import differences
from refam_analysis.evaluation.runner.rows import CLIP_SCHEMA, IMAGE_SCHEMA, Row, as_table
from refam_analysis.files import DamagedFileError, read_json, told_when_refused, write_json, written_whole

ABOUT, TABLE, PARTS, LOCK = "run.json", "results.parquet", "parts", ".lock"
FORMAT = 1
_NOT_COMPARED = ("format", "starts", "problems", "finished")


class NoRunError(RefamError, FileNotFoundError):
    """A folder holds no run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"There is no run in {str(folder)!r}: give a folder that `refam evaluate --out` wrote.")


class RunFolderError(RefamError, ValueError):
    """A run cannot be written into this folder, or not read from it."""


class OtherRunError(RunFolderError):
    """The folder holds rows of another configuration."""

    def __init__(self, folder: Path, differ: Mapping[str, tuple[Any, Any]]) -> None:
        shown = "; ".join(f"{name} was {before!r} and is {now!r}" for name, (before, now) in differ.items())
        super().__init__(
            f"{str(folder)!r} holds another run, and rows of two never mix: {shown}. Give another folder, or start it "
            "as it was started first."
        )


@dataclass(frozen=True)
class RunResults:
    """What a run found, as far as it has come.

    Attributes:
        folder: where it lies.
        name: of the run, in tables.
        about: the contents of ``run.json``: ``configuration``, ``data``, ``model``, ``segmenter``, ``settings``,
            ``versions``, ``starts``, ``problems`` (what the reader of the data set left out), ``finished``.
        table: a row an expression, see :mod:`refam_analysis.evaluation.runner.rows`; facts are columns of their own,
            with ``fact_`` before their names.
    """

    folder: Path
    name: str
    about: Mapping[str, Any]
    table: pd.DataFrame

    @property
    def video(self) -> bool:
        """Whether it is of clips."""
        return bool(self.about["data"]["video"])

    @property
    def missing(self) -> int:
        """How many images or clips have no rows yet."""
        return int(self.about["data"]["items"]) - self.table["group"].nunique()


def load_results(folder: str | Path, *, name: str | None = None) -> RunResults:
    """Read a run, finished or not.

    Args:
        folder: that ``refam evaluate --out`` wrote.
        name: of the run, in tables; None for that of the folder.

    Returns:
        Its rows and what is known of the run; ``missing`` counts images or clips that have no rows yet.

    Raises:
        NoRunError: there is none.
        RunFolderError: it was written by another version, or is damaged.
    """
    place = Path(folder)
    about = _read_about(place)
    if about is None:
        raise NoRunError(place)
    schema = CLIP_SCHEMA if about["data"]["video"] else IMAGE_SCHEMA
    merged, _ = _merged(place, schema)
    table = merged.to_pandas()
    facts = pd.DataFrame([json.loads(text) for text in table["facts"]], index=table.index).add_prefix("fact_")
    rows = pd.concat([table.drop(columns="facts"), facts], axis=1)
    return RunResults(place, name or place.resolve().name, about, rows)


class RunStore:
    """The folder while a run writes into it.

    Args:
        folder: new, empty, or of the same run.
        identity: what the rows follow from: of :func:`~refam_analysis.evaluation.runner.description.identity_of` and
            :func:`~refam_analysis.evaluation.runner.description.describe_models`.
        start: what is noted of this start.
        problems: what the reader of the data set left out.

    Raises:
        OtherRunError: the folder holds another run.
        RunFolderError: it holds something else, or another process is writing into it.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], *, start: Mapping[str, Any], problems: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.schema = CLIP_SCHEMA if identity["data"]["video"] else IMAGE_SCHEMA
        refuse_other_run(folder, identity)
        with told_when_refused(folder):
            (folder / PARTS).mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder)
        before = _read_about(folder) or {"starts": []}
        self.about: dict[str, Any] = {
            "format": FORMAT, **identity, "problems": list(problems), "starts": [*before["starts"], dict(start)],
            "finished": None,
        }  # fmt: skip
        try:
            write_json(folder / ABOUT, self.about, indent=1)
            self.table = self._put_together()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def pending(self, groups: int) -> list[int]:
        """The items that have no rows, or a row with an error: those are tried again at every start."""
        known = self.table.select(["group", "error"])
        failed = set(known.filter(pc.is_valid(known["error"]))["group"].to_pylist())
        done = set(known["group"].to_pylist()) - failed
        return [group for group in range(groups) if group not in done]

    def write(self, rows: Sequence[Row]) -> None:
        """Keep the rows of one item."""
        path = self.folder / PARTS / f"{rows[0]['group']:08d}.parquet"
        _write_table(as_table(list(rows), self.schema), path)

    def finish(self) -> None:
        """Put all parts together, and say that the run is complete."""
        self.table = self._put_together()
        self.about["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.folder / ABOUT, self.about, indent=1)
        shutil.rmtree(self.folder / PARTS, ignore_errors=True)

    def _put_together(self) -> pa.Table:
        for left in self.folder.rglob("*.partial"):
            left.unlink()
        table, parts = _merged(self.folder, self.schema)
        if parts:
            _write_table(table, self.folder / TABLE)
            for part in parts:
                part.unlink()
        return table


def refuse_other_run(folder: Path, identity: Mapping[str, Any]) -> None:
    """Find out early whether a run may write here.

    Args:
        folder: new, empty, or of a run.
        identity: as far as it is known: only the parts given here are compared.

    Raises:
        OtherRunError: the folder holds another run.
        RunFolderError: it holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{str(folder)!r} is a file: give a folder.")
    about = _read_about(folder)
    if about is None:
        inside = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        allowed = (LOCK,) if any((folder / PARTS).glob("*.parquet")) else (LOCK, PARTS)
        if others := [name for name in inside if name not in allowed and not name.endswith(".partial")]:
            raise RunFolderError(f"{str(folder)!r} holds something else ({others[0]}), or its {ABOUT} is lost: give a "
                                 "new folder.")  # fmt: skip
        return
    there = {name: about.get(name) for name in identity if name not in _NOT_COMPARED}
    now = json.loads(json.dumps({name: identity[name] for name in there}))
    if differ := differences(there, now):
        raise OtherRunError(folder, differ)


def _merged(folder: Path, schema: pa.Schema) -> tuple[pa.Table, list[Path]]:
    """All rows in the order of the data set, and the parts that they came from, beside the table."""
    parts = sorted((folder / PARTS).glob("*.parquet"))
    tables = [table for part in parts if (table := _read_table(part, schema)) is not None]
    whole = _read_table(folder / TABLE, schema)
    if whole is not None:
        renewed = [group for table in tables for group in table["group"].unique().to_pylist()]
        tables.append(whole.filter(pc.invert(pc.is_in(whole["group"], pa.array(renewed, pa.int32())))))
    merged = pa.concat_tables(tables) if tables else schema.empty_table()
    return merged.sort_by([("group", "ascending"), ("number", "ascending")]), parts


def _read_table(path: Path, schema: pa.Schema) -> pa.Table | None:
    """A table; None where there is none, or where a power cut or a bad disk has left what is not one."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=path.name == TABLE)
        if not table.schema.equals(schema):
            raise pa.ArrowInvalid("its columns are not those of a run")
        return table
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno in REFUSED:
            raise  # it may be whole
        if path.name == TABLE and path.exists():
            raise RunFolderError(f"{str(path)!r} is damaged: delete it, and start the run again.") from None
        return None


def _write_table(table: pa.Table, path: Path) -> None:
    with written_whole(path) as place:
        pq.write_table(table, place, write_page_checksum=True)


def _read_about(folder: Path) -> dict[str, Any] | None:
    path = folder / ABOUT
    try:
        about = read_json(path)
        sound = about["format"] == FORMAT and isinstance(about["starts"], list) and "video" in about["data"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DamagedFileError as error:
        raise RunFolderError(f"{error} Its rows stay, and are read again when it is there.") from error
    except (KeyError, TypeError) as error:
        raise RunFolderError(f"{str(path)!r} cannot be read ({error!r}): give another folder.") from error
    if not sound:
        raise RunFolderError(f"{str(path)!r} is of another format than {FORMAT}: give another folder.")
    return dict(about)


def _locked(folder: Path) -> FileLock:
    """A lock that this process holds until it ends, however it ends."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunFolderError(f"Another process is writing into {str(folder)!r}: wait for it, or stop it.") from None
    return lock
