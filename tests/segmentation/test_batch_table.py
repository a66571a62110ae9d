"""Tables of pictures and sentences: what is read of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from refam_analysis.prompts import make_prompt
from refam_analysis.segmentation.batch_table import BadRow, BatchRow, BatchRowError, BatchTableError, read_rows


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_rows_are_read_in_order_with_paths_from_the_tables_folder(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, 'image,expression\na.png,the ring\nb/c.png,"left, the big one"\n'))
    assert rows == [
        BatchRow(1, tmp_path / "a.png", "the ring"),
        BatchRow(2, tmp_path / "b" / "c.png", "left, the big one"),
    ]


def test_absolute_paths_stay(tmp_path: Path) -> None:
    assert read_rows(written(tmp_path, "image,expression\n/x/a.png,ring\n"))[0].image == Path("/x/a.png")


TABLES = {
    "other columns": "split,image,expression\nval,a.png,ring\n",
    "other order": "expression,image\nring,a.png\n",
    "other case and spaces": "Image , EXPRESSION\na.png,ring\n",
    "byte order mark": "\ufeffimage,expression\na.png,ring\n",
    "windows lines": "image,expression\r\na.png,ring\r\n",
    "empty lines": "image,expression\n\na.png,ring\n\n",
    "no last newline": "image,expression\na.png,ring",
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_a_table_may_come_in_many_forms(tmp_path: Path, text: str) -> None:
    assert read_rows(written(tmp_path, text)) == [BatchRow(1, tmp_path / "a.png", "ring")]


def test_a_column_of_magnets_says_what_is_appended(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, "image,expression,magnets\na.png,ring,. blue\na.png,ring,\n"))
    assert [row.magnets for row in rows] == [(".", "blue"), ()]
    assert make_prompt(rows[0].expression, rows[0].magnets or ()).text == "ring . blue"


BAD = {
    "empty": ("", "no column image and no column expression"),
    "no expression": ("image,text\na.png,ring\n", "no column expression"),
    "header alone": ("image,expression\n", "no row"),
    "too few cells": ("image,expression\na.png,ring\nb.png\n", "row 2 has not as many cells"),
    "too many cells": ("image,expression\na.png,left, the ring\n", "row 1 has not as many cells"),
    "no text": (b"\xff\xfe\x00image", "decode"),
    "open quote": ('image,expression\na.png,"ring\n', "unexpected end"),
}


@pytest.mark.parametrize(("text", "says"), BAD.values(), ids=BAD)
def test_what_is_no_table_is_answered_with_why(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(BatchTableError, match=says):
        read_rows(written(tmp_path, text))


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BatchTableError, match=r"none\.csv.*No such file"):
        read_rows(tmp_path / "none.csv")


def test_the_first_bad_row_is_told_and_how_many_more() -> None:
    bad = [BadRow(BatchRow(number, Path("x/a.png"), ""), "The expression is empty.") for number in (3, 7)]
    assert str(BatchRowError(bad)).startswith("Row 3 ('a.png', '') cannot be answered: The expression is empty. 1 more")
