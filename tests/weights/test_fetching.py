"""Weights from a real server that fails in the ways servers fail: what is kept is whole and right."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from weights.conftest import Site

from refam_analysis.weights import (
    BrokenWeightsError,
    CacheFolderError,
    CutDownloadError,
    DiskFullError,
    NoSourceError,
    NotFetchedError,
    SourceError,
    UnknownWeightsError,
    WeightsFile,
    WrongChecksumError,
    cache_folder,
    fetch,
    is_fetched,
    verify,
)
from refam_analysis.weights.download import told_when_full
from refam_analysis.weights.table import Address, HubFile

Make = Callable[..., WeightsFile]
UNREACHABLE = Address("http://127.0.0.1:9/toy.pt")
"""The discard port: nothing listens there."""


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_a_file_is_fetched_once(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    site.files["/toy.pt"] = content
    toy = make_entry(content, Address(site.url("/toy.pt")))
    for _ in range(2):
        assert fetch(toy, folder=cache).read_bytes() == content
    assert site.asked == [("/toy.pt", None)]
    assert names_in(cache) == {"toy.pt"}


def test_a_cut_download_goes_on_where_it_stopped(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    site.files["/toy.pt"], site.cut_after, site.cuts = content, 300_000, 2
    assert fetch(make_entry(content, Address(site.url("/toy.pt"))), folder=cache).read_bytes() == content
    assert [wanted for _, wanted in site.asked] == [None, "bytes=300000-", "bytes=600000-"]


def test_a_download_that_stays_cut_is_kept_for_the_next_call(
    site: Site, content: bytes, cache: Path, make_entry: Make
) -> None:
    site.files["/toy.pt"], site.cut_after, site.cuts = content, 100_000, 4
    toy = make_entry(content, Address(site.url("/toy.pt")))
    with pytest.raises(CutDownloadError, match="after 400,000 of 1,048,576 bytes"):
        fetch(toy, folder=cache)
    assert names_in(cache) == {"toy.pt.partial"} and not is_fetched(toy, folder=cache)
    assert fetch(toy, folder=cache).read_bytes() == content
    assert site.asked[-1] == ("/toy.pt", "bytes=400000-")
    assert names_in(cache) == {"toy.pt"}


def test_a_server_that_knows_no_ranges_is_asked_for_the_whole(
    site: Site, content: bytes, cache: Path, make_entry: Make
) -> None:
    site.files["/toy.pt"], site.cut_after, site.cuts, site.ranges = content, 300_000, 1, False
    assert fetch(make_entry(content, Address(site.url("/toy.pt"))), folder=cache).read_bytes() == content


def test_a_partial_file_that_is_complete_needs_no_bytes(
    site: Site, content: bytes, cache: Path, make_entry: Make
) -> None:
    site.files["/toy.pt"] = content
    cache.mkdir()
    (cache / "toy.pt.partial").write_bytes(content)
    assert fetch(make_entry(content, Address(site.url("/toy.pt"))), folder=cache).read_bytes() == content
    assert site.asked == [("/toy.pt", f"bytes={len(content)}-")]


def test_another_file_is_refused_and_not_kept(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    site.files["/toy.pt"] = content[::-1]
    with pytest.raises(WrongChecksumError, match="should be"):
        fetch(make_entry(content, Address(site.url("/toy.pt"))), folder=cache)
    assert names_in(cache) == set()


def test_the_rest_of_another_file_is_not_glued_on(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    site.files["/toy.pt"] = content
    cache.mkdir()
    (cache / "toy.pt.partial").write_bytes(content[: 2**19][::-1])
    toy = make_entry(content, Address(site.url("/toy.pt")))
    with pytest.raises(WrongChecksumError):
        fetch(toy, folder=cache)
    assert fetch(toy, folder=cache).read_bytes() == content


def test_a_file_longer_than_announced_is_refused(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    site.files["/toy.pt"] = content + b"more"
    with pytest.raises(WrongChecksumError):
        fetch(make_entry(content, Address(site.url("/toy.pt"))), folder=cache)
    assert names_in(cache) == set()


def test_a_file_shorter_than_announced_is_never_used(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    site.files["/toy.pt"] = content[:1000]
    toy = make_entry(content, Address(site.url("/toy.pt")))
    with pytest.raises(CutDownloadError, match="nothing more"):
        fetch(toy, folder=cache)
    assert not is_fetched(toy, folder=cache)


def test_a_missing_file_names_the_servers_answer(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    with pytest.raises(SourceError, match="HTTP 404"):
        fetch(make_entry(content, Address(site.url("/gone.pt"))), folder=cache)


def test_no_network_names_the_source(content: bytes, cache: Path, make_entry: Make) -> None:
    with pytest.raises(SourceError, match="127.0.0.1:9/toy.pt cannot be reached: ConnectionRefusedError"):
        fetch(make_entry(content, UNREACHABLE), folder=cache)


def test_sources_are_tried_in_their_order(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    site.files |= {"/wrong.pt": content[::-1], "/right.pt": content}
    places = [UNREACHABLE, *(Address(site.url(f"/{name}.pt")) for name in ("gone", "wrong", "right", "never"))]
    assert fetch(make_entry(content, *places), folder=cache).read_bytes() == content
    assert [path for path, _ in site.asked] == ["/gone.pt", "/wrong.pt", "/right.pt"]


def test_when_every_source_fails_each_reason_is_told(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    site.files["/wrong.pt"] = content[::-1]
    places = [UNREACHABLE, Address(site.url("/gone.pt")), Address(site.url("/wrong.pt"))]
    with pytest.raises(NoSourceError, match=r"cannot be reached[^\n]*\n.*404[^\n]*\n.*sha256") as caught:
        fetch(make_entry(content, *places), folder=cache)
    assert [type(error) for error in caught.value.errors] == [SourceError, SourceError, WrongChecksumError]


def test_the_hub_is_not_asked_when_it_is_switched_off(content: bytes, cache: Path, make_entry: Make) -> None:
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        pytest.skip("HF_HUB_OFFLINE is not set")
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE"):
        fetch(make_entry(content, HubFile("nobody/nothing", "toy.pt")), folder=cache)


def test_what_does_not_fit_on_the_disk_is_refused_before_the_first_byte(
    site: Site, content: bytes, cache: Path, make_entry: Make
) -> None:
    site.files["/toy.pt"] = content
    with pytest.raises(DiskFullError, match="1,000,000,000,000,000,000 bytes are needed"):
        fetch(make_entry(content, Address(site.url("/toy.pt")), size=10**18), folder=cache)
    assert site.asked == []


def test_what_is_there_already_needs_no_room(
    site: Site, content: bytes, cache: Path, make_entry: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for the rest is enough: the beginning has taken its own when an earlier call brought it."""
    site.files["/toy.pt"] = content
    cache.mkdir()
    (cache / "toy.pt.partial").write_bytes(content[:-1000])
    usage = shutil.disk_usage(cache)._replace(free=1000)
    monkeypatch.setattr("refam_analysis.weights.download.shutil.disk_usage", lambda folder: usage)
    path = fetch(make_entry(content, Address(site.url("/toy.pt"))), folder=cache)
    assert path.read_bytes() == content
    assert site.asked == [("/toy.pt", f"bytes={len(content) - 1000}-")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_disk_that_runs_full_is_said(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    site.files |= {"/toy.pt": content}
    cache.mkdir()
    (cache / "toy.pt.partial").symlink_to("/dev/full")
    sources = [Address(site.url("/toy.pt"))] * 2
    with pytest.raises(DiskFullError, match="REFAM_CACHE"):
        fetch(make_entry(content, *sources), folder=cache)
    assert len(site.asked) == 1, "another source has no other disk"


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), told_when_full(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "gone")


def test_a_cache_that_cannot_be_written_is_named(content: bytes, tmp_path: Path, make_entry: Make) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheFolderError, match="file/weights.*REFAM_CACHE"):
        fetch(make_entry(content, UNREACHABLE), folder=tmp_path / "file" / "weights")


def test_a_broken_file_in_the_cache_is_replaced(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    site.files["/toy.pt"] = content
    toy = make_entry(content, Address(site.url("/toy.pt")))
    path = fetch(toy, folder=cache)
    path.write_bytes(content[:-1] + b"?")
    with pytest.raises(BrokenWeightsError, match="its sha256 is"):
        verify(toy, folder=cache)
    assert fetch(toy, folder=cache).read_bytes() == content == verify(toy, folder=cache).read_bytes()


def test_a_cut_file_in_the_cache_is_broken(content: bytes, cache: Path, make_entry: Make) -> None:
    cache.mkdir()
    (cache / "toy.pt").write_bytes(content[:10])
    with pytest.raises(BrokenWeightsError, match="10 bytes, not 1,048,576"):
        verify(make_entry(content), folder=cache)


def test_what_was_never_fetched_is_said(content: bytes, cache: Path, make_entry: Make) -> None:
    with pytest.raises(NotFetchedError, match="refam weights fetch toy"):
        verify(make_entry(content), folder=cache)


def test_two_who_ask_at_once_download_once(site: Site, content: bytes, cache: Path, make_entry: Make) -> None:
    site.files["/toy.pt"] = content
    toy = make_entry(content, Address(site.url("/toy.pt")))
    found: list[bytes] = []
    threads = [Thread(target=lambda: found.append(fetch(toy, folder=cache).read_bytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [content] * 4
    assert len(site.asked) == 1


def test_an_unknown_name_is_answered_with_those_there_are(cache: Path) -> None:
    with pytest.raises(UnknownWeightsError, match="'mobile-cat'.*mobile-sam, sam-vit-b"):
        fetch("mobile-cat", folder=cache)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFAM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "weights"
    monkeypatch.delenv("REFAM_CACHE")
    assert cache_folder().parts[-2:] == ("refam-analysis", "weights")
    assert os.fspath(tmp_path) not in os.fspath(cache_folder())
