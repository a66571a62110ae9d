from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from references.commands import one_sentence, refam

from refam_analysis.widgets.probe_pictures import MAX_UPLOAD_BYTES
from refam_analysis.widgets.server import serve_probe
from refam_analysis.widgets.server_mother import Mother, MotherError
from refam_analysis.widgets.server_settings import (
    MAX_MESSAGE_BYTES,
    PortTakenError,
    ServerSettings,
    ServerSettingsError,
    UnguardedAddressError,
    content_security_policy,
)

LOOPBACK = ("127.0.0.1", "127.8.9.10", "::1", "localhost")
REACHABLE = ("0.0.0.0", "::", "192.168.1.7", "example.org")


def test_a_token_is_made_anew_and_cannot_be_guessed() -> None:
    tokens = {ServerSettings().token for _ in range(20)}
    assert len(tokens) == 20
    assert min(len(token or "") for token in tokens) >= 32


def test_the_token_is_not_told_by_repr() -> None:
    assert "hidden" not in repr(ServerSettings(token="hidden"))


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_may_be_served_without_a_token(host: str) -> None:
    assert ServerSettings(host=host, token="").on_this_machine


@pytest.mark.parametrize("host", REACHABLE)
def test_a_network_is_refused_without_a_token(host: str) -> None:
    with pytest.raises(UnguardedAddressError, match=r"everyone who reaches .* --open-to-anyone"):
        ServerSettings(host=host, token="")


def test_a_proxy_is_refused_without_a_token() -> None:
    with pytest.raises(UnguardedAddressError, match=r"reaches https://example\.org/probe"):
        ServerSettings(public_address="https://example.org/probe", token="")


def test_a_network_is_served_without_a_token_when_told_so() -> None:
    assert ServerSettings(host="0.0.0.0", token="", open_to_anyone=True).address(80) == "http://0.0.0.0:80/"


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"port": 70_000}, "no port 70000"),
        ({"port": -1}, "no port -1"),
        ({"host": ""}, "host is empty"),
        ({"visitors": 0}, "at least 1"),
        ({"idle_minutes": 0.0}, "more than 0"),
        ({"idle_minutes": float("nan")}, "more than 0"),
        ({"public_address": "example.org"}, "no address that visitors can type"),
        ({"public_address": "ftp://example.org"}, "no address that visitors can type"),
        ({"public_address": "https://example.org/?a=b"}, "no address that visitors can type"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_refused(choice: dict[str, Any], said: str) -> None:
    with pytest.raises(ServerSettingsError, match=said):
        ServerSettings(**choice)


def test_behind_a_proxy_the_page_keeps_its_path_and_its_cookie_keeps_to_https() -> None:
    settings = ServerSettings(public_address="https://example.org/tools/probe", token="t")
    assert settings.base_url == "/tools/probe/"
    assert settings.secure
    assert settings.address(8866) == "https://example.org/tools/probe/?token=t"
    assert "example.org" in settings.known_hosts


def test_no_script_of_the_pages_text_may_run() -> None:
    policy = dict(rule.split(" ", 1) for rule in content_security_policy().split("; "))
    assert policy["script-src"] == "'self' blob:"
    assert policy["default-src"] == policy["object-src"] == policy["frame-ancestors"] == "'none'"


def test_the_largest_picture_fits_into_a_message() -> None:
    assert MAX_UPLOAD_BYTES + 2**16 <= MAX_MESSAGE_BYTES <= MAX_UPLOAD_BYTES + 2**20


def test_a_taken_port_is_told_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"port {port}: .*--port 0"):
            serve_probe(ServerSettings(port=port))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0", "--no-token"), "everyone who reaches 0.0.0.0"),
        (("--port", "99999"), "no port 99999"),
    ],
    ids=["open", "port"],
)
def test_the_command_tells_what_is_wrong_in_one_sentence(options: tuple[str, ...], said: str) -> None:
    result = refam("probe", "--no-browser", *options)
    assert said in result.stderr.splitlines()[-1] if "Loading" in result.stderr else said in one_sentence(result)


def test_a_temporary_folder_too_deep_for_a_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(MotherError, match="Set TMPDIR to a folder with a shorter path"):
        Mother("embedded", tmp_path / ("deep" * 30))
