"""The table of a batch: pictures and sentences, a pair a row, and which rows cannot be answered."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refam_analysis.errors import RefamError

_NEEDED = ("image", "expression")


class BatchTableError(RefamError, ValueError):
    """A file is no table of pictures and expressions."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"The table {str(path)!r} cannot be used: {problem}. Give a CSV file in UTF-8 with the columns image and "
            "expression, and magnets if you like."
        )


@dataclass(frozen=True)
class BatchRow:
    """One row.

    Attributes:
        row: its number, from 1 for the first below the header.
        image: path of the picture.
        expression: what to look for.
        magnets: to append; None for those of the batch.
    """

    row: int
    image: Path
    expression: str
    magnets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be answered, and why."""

    row: BatchRow
    reason: str


class BatchRowError(RefamError, ValueError):
    """Rows of a table cannot be answered.

    Attributes:
        bad: all that are known to be so.
    """

    def __init__(self, bad: Sequence[BadRow]) -> None:
        self.bad = tuple(bad)
        first = bad[0]
        others = f" {len(bad) - 1} more rows cannot be answered either." if len(bad) > 1 else ""
        super().__init__(
            f"Row {first.row.row} ({first.row.image.name!r}, {first.row.expression!r}) cannot be answered: "
            f"{first.reason}{others} Mend the table, or skip bad rows (on_error='skip')."
        )


def read_rows(path: str | Path) -> list[BatchRow]:
    """Read a table.

    Args:
        path: of a CSV file in UTF-8, with or without a byte order mark. The columns ``image`` and ``expression`` are
            needed; paths of pictures are taken from the folder of the table on. Where there is a column ``magnets``,
            its cell says what is appended to the row's expression, between spaces, and an empty cell means nothing.
            Other columns are passed over, and so are empty lines.

    Raises:
        BatchTableError: the file cannot be read, lacks a column, has no row, or a row has too few or too many cells.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [cells for cells in csv.reader(file, strict=True) if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BatchTableError(path, getattr(error, "strerror", None) or str(error)) from error
    entries = _entries(lines, path)
    if not entries:
        raise BatchTableError(path, "it has no row below its header")
    return [
        BatchRow(number, path.parent / entry["image"].strip(), entry["expression"], _magnets(entry))
        for number, entry in enumerate(entries, 1)
    ]


def _entries(lines: Sequence[Sequence[str]], path: Path) -> list[Mapping[str, str]]:
    """The cells of every row below the header, by the names of their columns."""
    columns = [name.strip().lower() for name in lines[0]] if lines else []
    if missing := [name for name in _NEEDED if name not in columns]:
        raise BatchTableError(path, f"it has no column {' and no column '.join(missing)}")
    if twice := [name for name in (*_NEEDED, "magnets") if columns.count(name) > 1]:
        raise BatchTableError(path, f"it has two columns {' and two columns '.join(twice)}")
    for number, cells in enumerate(lines[1:], 1):
        if len(cells) != len(columns):
            raise BatchTableError(path, f"row {number} has not as many cells as the header ({len(columns)})")
    return [dict(zip(columns, cells, strict=True)) for cells in lines[1:]]


def _magnets(entry: Mapping[str, str]) -> tuple[str, ...] | None:
    return tuple(entry["magnets"].split()) if "magnets" in entry else None
