"""One file from one address, whole or not at all: resumed where it was cut, and checked before it gets its name."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from refam_analysis.errors import RefamError
from refam_analysis.weights.index import local_path

if TYPE_CHECKING:
    import requests

_PIECE = 2**18
_ATTEMPTS = 4
_PATIENCE = (10, 60)
"""Seconds to wait for a connection, and for the next piece."""


class WeightsError(RefamError):
    """Weights could not be had, or are not what they should be."""


class WrongChecksumError(WeightsError, ValueError):
    """A file is complete, and not the one that was asked for."""

    def __init__(self, what: object, expected: str, found: str) -> None:
        super().__init__(
            f"What came from {what} is not the expected file: its sha256 is {found}, it should be {expected}. It was "
            f"not kept. Try again, or another network; if it stays so, the source has changed."
        )


class CutDownloadError(WeightsError, ConnectionError):
    """A download ended before the file did."""

    def __init__(self, what: object, received: int, expected: int | None, reason: object) -> None:
        whole = f" of {expected:,}" if expected else ""
        super().__init__(
            f"The download from {what} was cut after {received:,}{whole} bytes ({reason}). Run it again: it goes on "
            f"from there."
        )


class DiskFullError(WeightsError, OSError):
    """There is no room for the file."""

    def __init__(self, folder: Path, needed: int | None) -> None:
        room = f"{needed:,} bytes are needed" if needed else "the file needs more"
        super().__init__(
            f"The disk with {str(folder)!r} is full: {room}. Free some, or name another folder in the environment "
            f"variable REFAM_CACHE."
        )


class SourceError(WeightsError, ConnectionError):
    """A source cannot be reached, or does not have the file."""


def download(
    url: str,
    path: Path,
    *,
    size: int | None,
    sha256: str | None,
    session: requests.Session,
    progress: bool = False,
    what: object = None,
) -> None:
    """Bring a file here.

    The bytes gather in ``<name>.partial`` beside the file, where a later call finds them and asks only for the rest.
    When all are there and their sum is right, the file gets its name in one step.

    Args:
        url: where it is; ``file:`` too.
        path: its place here.
        size: bytes, if known.
        sha256: its sum, if known.
        session: from :func:`~refam_analysis.weights.index.open_session`.
        progress: show a bar.
        what: the source's name in errors; None for the address.

    Raises:
        SourceError: no connection, or no such file.
        CutDownloadError: it stopped, and again after several attempts to go on.
        WrongChecksumError: it is another file; what was received is deleted.
        DiskFullError: no room.
    """
    what = what or url
    partial = _partial(path)
    check_room(path.parent, missing_bytes(path, size))
    with _bar(path.name, size, progress) as advance, told_when_full(path.parent):
        if (local := local_path(url)) is not None:
            _copy(local, partial, what, advance)
        else:
            _resume(url, partial, size, session, what, advance)
    finish(partial, path, sha256, what)


def finish(partial: Path, path: Path, sha256: str | None, what: object) -> None:
    """Give a complete file its name, if its sum is right; otherwise delete it.

    Raises:
        WrongChecksumError: it is another file.
    """
    if sha256 is not None and (found := file_sha256(partial)) != sha256:
        partial.unlink()
        raise WrongChecksumError(what, sha256, found)
    partial.replace(path)


def file_sha256(path: Path) -> str:
    """The sum of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def missing_bytes(path: Path, size: int | None) -> int:
    """How much of a file is still to come after what an earlier call received; 0 where its size is not known."""
    return max((size or 0) - _length(_partial(path)), 0)


def check_room(folder: Path, needed: int) -> None:
    """Refuse before the first byte what will not fit.

    Raises:
        DiskFullError: less than ``needed`` bytes are free.
    """
    if shutil.disk_usage(folder).free < needed:
        raise DiskFullError(folder, needed)


def _resume(
    url: str,
    partial: Path,
    size: int | None,
    session: requests.Session,
    what: object,
    advance: Callable[[int], object],
) -> None:
    """Ask for what is missing until all is there, as long as each attempt brings something."""
    import requests

    advance(_length(partial))
    for attempt in range(_ATTEMPTS):
        before = _length(partial)
        try:
            whole = _receive(url, partial, session, what, advance)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            received = _length(partial)
            if received == 0:
                raise SourceError(f"{what} cannot be reached: {_first_reason(error)}.") from error
            if received == before or attempt == _ATTEMPTS - 1:
                raise CutDownloadError(what, received, size, _first_reason(error)) from error
            continue
        expected = size if size is not None else whole
        if expected is None or _length(partial) >= expected:
            return
        if _length(partial) == before:
            raise CutDownloadError(what, _length(partial), expected, "the source sends nothing more")
    raise CutDownloadError(what, _length(partial), size, f"{_ATTEMPTS} attempts")


def _receive(
    url: str, partial: Path, session: requests.Session, what: object, advance: Callable[[int], object]
) -> int | None:
    """Append what one request brings; returns the length of the whole file, if the server says it."""
    start = _length(partial)
    # Compressed on the way, a range would count other bytes than those of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with session.get(url, headers=headers, stream=True, timeout=_PATIENCE) as answer:
        if answer.status_code == 416:  # nothing is left to send
            return start
        if not answer.ok:
            raise SourceError(f"{what} does not give the file: HTTP {answer.status_code} {answer.reason}.")
        if answer.status_code != 206:  # the whole file, although only the rest was asked for
            advance(-start)
            start = 0
        rest = answer.headers.get("Content-Length")
        # Otherwise what came before a cut, up to a whole piece, would be thrown away; the length is compared later.
        answer.raw.enforce_content_length = False
        with partial.open("ab" if start else "wb") as opened:
            for piece in answer.iter_content(_PIECE):
                opened.write(piece)
                advance(len(piece))
    return start + int(rest) if rest else None


def _copy(source: Path, partial: Path, what: object, advance: Callable[[int], object]) -> None:
    if not source.is_file():
        raise SourceError(f"{what} does not give the file: there is no {source}.")
    with source.open("rb") as opened, partial.open("wb") as written:
        copy_pieces(opened, written, advance)


def copy_pieces(source: BinaryIO, target: BinaryIO, advance: Callable[[int], object]) -> None:
    """Copy all bytes, telling the length of each piece."""
    while piece := source.read(_PIECE):
        target.write(piece)
        advance(len(piece))


@contextmanager
def _bar(name: str, size: int | None, shown: bool) -> Iterator[Callable[[int], object]]:
    from tqdm.auto import tqdm

    with tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=not shown) as bar:
        yield bar.update


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Say so in a sentence when the disk runs full while something is written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(folder, None) from error
        raise


def _partial(path: Path) -> Path:
    """Where the bytes of a file gather."""
    return path.with_name(path.name + ".partial")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _first_reason(error: BaseException) -> str:
    """The innermost cause, in one line, without addresses of objects."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
