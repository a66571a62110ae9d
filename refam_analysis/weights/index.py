"""Where pip would find a package: the indexes it is set up with, and the address of one source archive there.

pip itself is only asked for its settings. It downloads nothing and runs no code of any package.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    import requests
    from pypi_simple import DistributionPackage


class NotInIndexError(RefamError, LookupError):
    """None of pip's package indexes has the source archive."""

    def __init__(self, project: str, version: str, reasons: list[str]) -> None:
        told = "; ".join(reasons) or "pip is set up to use no index"
        super().__init__(f"No package index gives the source archive of {project} {version}: {told}.")


@dataclass(frozen=True)
class IndexSettings:
    """How pip reaches its package indexes.

    Attributes:
        indexes: their addresses, in pip's order: the index, then the extra ones. An address may be a ``file:`` one.
        certificate: file of trusted certificates; None for the usual ones.
        proxy: address of a proxy; None for what the environment says.
    """

    indexes: tuple[str, ...]
    certificate: str | None = None
    proxy: str | None = None


@dataclass(frozen=True)
class Archive:
    """A source archive in an index.

    Attributes:
        url: where it lies; a ``file:`` address for a local index.
        sha256: as the index states it; None if it states none.
        size: in bytes, as the index states it; None if it states none.
    """

    url: str
    sha256: str | None
    size: int | None


def index_settings() -> IndexSettings:
    """What pip is set up with: its configuration files, then the environment (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, ...).

    Without pip in this environment only the environment variables count; without either, the index is pip's default.
    """
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    found = _pip_config()
    first = [] if _is_true(found.get("no-index")) else [found.get("index-url") or PYPI_SIMPLE_ENDPOINT]
    extra = [] if _is_true(found.get("no-index")) else (found.get("extra-index-url") or "").split()
    return IndexSettings(tuple(first + extra), found.get("cert"), found.get("proxy"))


def open_session(settings: IndexSettings) -> requests.Session:
    """A session that reaches the indexes as pip does."""
    import requests

    session = requests.Session()
    if settings.certificate:
        session.verify = settings.certificate
    if settings.proxy:
        session.proxies = {"http": settings.proxy, "https": settings.proxy}
    return session


def find_archive(project: str, version: str, settings: IndexSettings, session: requests.Session) -> Archive:
    """The source archive of one version of a package, in the first index that has it.

    Args:
        project: name of the package.
        version: of the package.
        settings: the indexes to look in.
        session: from :func:`open_session`.

    Raises:
        NotInIndexError: no index has it; the reason of each is told.
    """
    reasons = []
    for index in settings.indexes:
        try:
            packages = _packages(index, project, session)
        except Exception as error:  # of the network, the server, or the page: the next index may do
            reasons.append(f"{_shown(index)}: {_without_password(str(error), index)}")
            continue
        for package in packages:
            if package.package_type == "sdist" and package.version == version:
                return Archive(package.url, package.digests.get("sha256"), package.size)
        reasons.append(f"{_shown(index)} has no such archive")
    raise NotInIndexError(project, version, reasons)


def local_path(url: str) -> Path | None:
    """The file that a ``file:`` address names; None for other addresses.

    >>> local_path("https://example.org/a.tar.gz") is None
    True
    >>> local_path("file:///tmp/a%20b").as_posix()
    '/tmp/a b'
    """
    from urllib.request import url2pathname  # here, since it brings a whole web client along

    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _packages(index: str, project: str, session: requests.Session) -> list[DistributionPackage]:
    from pypi_simple import ProjectPage, PyPISimple

    client = PyPISimple(index, session=session)
    if (folder := local_path(client.get_project_url(project))) is None:
        return client.get_project_page(project, timeout=(10, 60)).packages
    page = folder / "index.html"
    if not page.is_file():
        return []
    return ProjectPage.from_html(project, page.read_bytes(), base_url=page.as_uri()).packages


def _pip_config() -> dict[str, str]:
    """Settings by name; the environment wins over pip's section for downloads, and that over the global one."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (fixed words)
    if listed.returncode != 0:
        named = {name: value for name, value in os.environ.items() if name.startswith("PIP_") and value}
        return {name.removeprefix("PIP_").lower().replace("_", "-"): value for name, value in named.items()}
    sections: dict[str, dict[str, str]] = {"global": {}, "download": {}, ":env:": {}}
    for line in listed.stdout.splitlines():
        key, separator, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if separator and section in sections:
            sections[section][name] = str(ast.literal_eval(value))
    return sections["global"] | sections["download"] | sections[":env:"]


def _is_true(value: str | None) -> bool:
    return (value or "").lower() in {"1", "true", "yes", "on", "y", "t"}


def _shown(index: str) -> str:
    """An index's address without the name and password that it may hold."""
    return _without_password(index, index)


def _without_password(text: str, index: str) -> str:
    secret, at, _ = urlsplit(index).netloc.rpartition("@")
    return text.replace(secret + at, "") if at else text
