"""Files and folders that are there whole or not at all, whenever the process is killed, and that tell when damaged.

What is written here carries a checksum where its format has none, so that a turned bit is an error and no number.
All that writes raises :class:`NotWrittenError` where the system refuses.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refam_analysis.errors import REFUSED, RefamError, told

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

_SEAL = "crc32"


class NotWrittenError(RefamError, OSError):
    """The system refuses to write a file: no room, no permission, a broken disk.

    Attributes:
        reason: what the system said.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{str(path)!r} cannot be written: {reason}. What was finished before is kept: free some room, or whatever "
            "else is in the way, and start again."
        )


class DamagedFileError(RefamError, ValueError):
    """A file is not what was written."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{str(path)!r} is damaged: {problem}. Restore it from a copy, or delete it and start again.")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place to write to, which becomes the file at the end of the block.

    Args:
        path: of the file; one that is there already is replaced.

    Yields:
        A path in the same folder, ``.<name>.partial``. Where the block fails it is deleted, and the file is as it was;
        a killed process leaves it behind.

    Raises:
        NotWrittenError: the system refused.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "about.json"
    ...     with written_whole(path) as place:
    ...         print(place.name, place.write_text("{}"), path.exists())
    ...     path.read_text()
    .about.json.partial 2 False
    '{}'
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with told_when_refused(path):
            yield partial
            os.replace(partial, path)
    except BaseException:
        _delete(partial)
        raise


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which becomes the one at the path at the end of the block.

    Args:
        path: of the folder; one that is there already is replaced, and stays until then.

    Yields:
        An empty folder beside it, ``.<name>.partial``, which is deleted where the block fails.

    Raises:
        NotWrittenError: the system refused.
    """
    partial, old = (path.with_name(f".{path.name}.{state}") for state in ("partial", "old"))
    try:
        with told_when_refused(path):
            put_back(path)
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir(parents=True)
            yield partial
            if path.exists():
                path.rename(old)
            partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        put_back(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def put_back(path: Path) -> None:
    """Undo what :func:`written_folder` was killed in, between moving the old folder away and the new one to its place.

    Args:
        path: of the folder.
    """
    old = path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        old.rename(path)
    elif old.exists():
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def told_when_refused(path: Path) -> Iterator[None]:
    """Say in a sentence that the system refuses to write a file.

    Args:
        path: of the file.

    Raises:
        NotWrittenError: in the place of what the system, or a library that writes, said.
    """
    try:
        yield
    except RefamError:
        raise
    except Exception as error:
        if (reason := _refusal(error)) is None:
            raise
        raise NotWrittenError(path, reason) from error


def write_json(path: Path, entries: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """Write entries by name, with a checksum.

    Args:
        path: of the file, which is replaced.
        entries: what JSON takes.
        indent: spaces a level; None for one line.
    """
    sealed = _sealed(entries)
    with written_whole(path) as place:
        text = json.dumps(sealed, indent=indent, ensure_ascii=False)
        place.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Entries that :func:`write_json` wrote, or by hand without a checksum.

    Args:
        path: of the file.

    Raises:
        DamagedFileError: it cannot be read, or is not what was written.
        FileNotFoundError: it is not there.
    """
    try:
        entries = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, f"it cannot be read as JSON ({error})") from error
    if not isinstance(entries, dict):
        raise DamagedFileError(path, "it holds no entries by name")
    last = next(reversed(entries), "")
    # The checksum stands last; by hand nothing is written there, and a turned bit may be in its name.
    if len(last) == len(_SEAL) and re.fullmatch("[0-9a-f]{8}", str(entries[last])) or _SEAL in entries:
        sealed = entries.pop(last)
        if (last, sealed) != (_SEAL, _checksum(entries)):
            raise DamagedFileError(path, "its entries do not have their checksum")
    return entries


def add_entry(path: Path, entry: Mapping[str, Any]) -> None:
    """Add a line with a checksum to a log; nothing is added where it does not fit as a whole.

    Args:
        path: of the log, made where it is not there.
        entry: what JSON takes.

    Raises:
        NotWrittenError: the system refused.
    """
    line = json.dumps(_sealed(entry)).encode() + b"\n"
    with told_when_refused(path), path.open("ab") as file:
        end = file.tell()
        try:
            file.write(line)
            file.flush()
        except OSError:
            _cut(path, end)
            raise


def write_entries(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write a log anew, all or nothing.

    Args:
        path: of the log.
        entries: a line each.
    """
    lines = [json.dumps(_sealed(entry)) + "\n" for entry in entries]
    with written_whole(path) as place:
        place.write_text("".join(lines), encoding="utf-8")


def read_entries(path: Path) -> list[dict[str, Any] | None]:
    """The lines of a log; None for one that a kill has cut, or that is not what was written.

    Args:
        path: of the log, which need not be there.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [_entry(line) if line.endswith(b"\n") else None for line in lines]


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as parquet, with checksums.

    Args:
        table: without an index that matters.
        path: of the file, which is replaced.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _SEAL: _columns_checksum(arrow.schema)})
    with written_whole(path) as place:
        pq.write_table(arrow, place, write_page_checksum=True)


def read_table(path: Path) -> pd.DataFrame:
    """A table that :func:`write_table` wrote, or any other parquet file.

    Args:
        path: of the file.

    Raises:
        DamagedFileError: it is not what was written.
        FileNotFoundError: it is not there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            arrow = file.read()
        table = arrow.to_pandas()
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError, IndexError) as error:
        if _is_not_damage(error):
            raise
        raise DamagedFileError(path, str(error).rstrip(".")) from error
    found = _columns_checksum(arrow.schema)
    if (arrow.schema.metadata or {}).get(_SEAL.encode(), found.encode()) != found.encode():
        raise DamagedFileError(path, "its columns are not those that were written")
    return table


def kept_table(path: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """A table read from a file if that is there and whole, otherwise made and written.

    Args:
        path: of the file, in a folder that is made where it is not there.
        make: the table; called where the file is not there, or damaged.
    """
    try:
        return read_table(path)
    except (FileNotFoundError, DamagedFileError):
        table = make()
    with told_when_refused(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, path)
    return read_table(path)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors as safetensors, with plain values and a checksum in the header.

    Args:
        path: of the file, which is replaced.
        tensors: by name; they may share memory.
        state: what JSON takes.
    """
    import torch
    from safetensors.torch import save_file

    # Cloned, because safetensors refuses tensors that share memory, as tied embeddings do.
    kept = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    text = json.dumps(dict(state))
    with written_whole(path) as place:
        save_file(kept, place, metadata={"state": text, _SEAL: _tensors_checksum(kept, text)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors that :func:`write_tensors` wrote, and the values beside them.

    Args:
        path: of the file.

    Raises:
        DamagedFileError: it is not what was written.
        FileNotFoundError: it is not there.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        if _is_not_damage(error):
            raise
        raise DamagedFileError(path, str(error).rstrip(".")) from error
    if metadata.get(_SEAL) != _tensors_checksum(tensors, metadata.get("state", "")):
        raise DamagedFileError(path, "its tensors do not have their checksum")
    return tensors, json.loads(metadata["state"])


def file_checksum(path: Path) -> str:
    """Of a file's bytes, as 8 hexadecimal digits; empty where there is no file."""
    return f"{zlib.crc32(path.read_bytes()):08x}" if path.is_file() else ""


def _refusal(error: Exception) -> str | None:
    """Why the system would not write, from its own error or from that of a library; None for anything else."""
    if isinstance(error, shutil.Error):
        return str(error.args[0][0][-1])  # of the first file of a folder that was copied
    if isinstance(error, OSError):
        # NumPy and PyArrow lose the number of the error on the way.
        refused = error.errno is None or error.errno in REFUSED
        return (error.strerror or str(error)).rstrip(".") if refused else None
    return str(error).rstrip(".") if type(error).__name__ == "SafetensorError" and "os error" in str(error) else None


def _is_not_damage(error: Exception) -> bool:
    """Whether there is no file, or the system refuses to open it."""
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError) or error.errno in REFUSED
    return told(error) is not None


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass  # what was in the way of writing is in the way of this too


def _cut(path: Path, end: int) -> None:
    try:
        os.truncate(path, end)
    except OSError:
        pass


def _checksum(entries: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(entries, sort_keys=True).encode()):08x}"


def _sealed(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries as JSON gives them back, whose checksum is the one of those that are read, and the checksum last."""
    plain = json.loads(json.dumps(dict(entries)))
    return {**plain, _SEAL: _checksum(plain)}


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        return entry if entry.pop(_SEAL) == _checksum(entry) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _columns_checksum(schema: Any) -> str:
    """Of what the checksums of pages leave out: names, types, and what pandas says of them."""
    columns = [[field.name, str(field.type)] for field in schema]
    return f"{zlib.crc32(json.dumps(columns).encode() + (schema.metadata or {}).get(b'pandas', b'')):08x}"


def _tensors_checksum(tensors: Mapping[str, Tensor], state: str) -> str:
    import torch

    total = zlib.crc32(state.encode())
    for name, value in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), total)
        total = zlib.crc32(value.contiguous().reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"
