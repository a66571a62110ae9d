"""A real server, asked over the network as a browser would, and as a browser never would."""

from __future__ import annotations

import json
import re
import signal
import uuid
from collections.abc import Iterator

import psutil
import pytest
import requests
from references.probe_server import TOKEN, Served, served
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from refam_analysis.widgets.server_settings import HEADERS, MAX_BODY_BYTES, MAX_MESSAGE_BYTES

NOBODY = "00000000-0000-0000-0000-000000000000"
ANSWERED = (
    "", f"api/kernels/{NOBODY}", f"voila/api/shutdown/{NOBODY}", "voila/templates/refam-probe/static/page.js",
    "voila/static/voila.js", "voila/labextensions/anywidget/package.json",
    "voila/api/themes/@jupyterlab/theme-light-extension/index.css", "nothing/of/the/kind",
)  # fmt: skip
"""One of each kind of address that the server knows, and one that it does not."""
ELSEWHERE = (
    "api/contents", "api/contents/probe.ipynb", "api/kernels", "api/kernelspecs", "api/sessions", "api/terminals",
    "api/me", "api/status", f"api/kernels/{NOBODY}/restart", f"api/kernels/{NOBODY}/interrupt", "terminals/1",
    "terminals/websocket/1", "lab", "tree", "edit/probe.ipynb", "files/probe.ipynb", "nbconvert/html/probe.ipynb",
    "probe.ipynb", "notebooks/probe.ipynb", "view/probe.ipynb", "login", "logout", "metrics", "voila/tree",
    "voila/render/probe.ipynb", "voila/files/probe.ipynb", "voila/files/kernel.png", "voila/api/contents/",
    f"voila/execution/{NOBODY}", f"voila/query/{NOBODY}", "voila/static/../../../../etc/passwd",
    "voila/static/%2e%2e/%2e%2e/app.py", "voila/templates/refam-probe/static/../index.html.j2",
    "voila/templates/refam-probe/static/%2e%2e/index.html.j2", "voila/templates/reveal/static/voila.js",
    "voila/labextensions/@jupyter-widgets/jupyterlab-manager/../../../kernels/python3/kernel.json",
    "voila/labextensions/jupyterlab_pygments/package.json", "voila/api/themes/../../../etc/passwd",
)  # fmt: skip
"""What a Jupyter server has and this one has not; files beside those that are served."""
Visitor = tuple[requests.Session, str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with two places. No process of it outlives SIGTERM."""
    with served(tmp_path_factory.mktemp("served"), "--visitors", "2") as running:
        yield running
        assert running.end(signal.SIGTERM) == []
        assert list(running.temporary.iterdir()) == []


def enter(server: Served) -> Visitor:
    """A new visitor with a cookie, and the kernel of the visit."""
    session = requests.Session()
    page = session.get(server.page, timeout=120)
    assert page.status_code == 200
    return session, re.findall(r'"kernelId": "([\w-]+)"', page.text)[0]


def leave(server: Served, visitor: Visitor) -> None:
    session, kernel = visitor
    session.post(f"{server.address}voila/api/shutdown/{kernel}", timeout=60)


@pytest.fixture
def visitor(server: Served) -> Iterator[Visitor]:
    """A visitor who leaves again."""
    entered = enter(server)
    yield entered
    leave(server, entered)


def kind_of(said: str | bytes) -> str:
    """Of a message from the kernel; one with a map, such as the first answer's, comes as a buffer."""
    return json.loads(said)["header"]["msg_type"] if isinstance(said, str) else "buffer"


def raw(server: Served, path: str, **options: object) -> requests.Response:
    """An answer to exactly this path, which requests would tidy up first."""
    request = requests.Request("GET", server.address, **options).prepare()
    request.url = server.address + path
    with requests.Session() as session:
        return session.send(request, timeout=60, allow_redirects=False)


def channels(server: Served, visitor: Visitor, **options: object) -> ClientConnection:
    """The websocket of a visit."""
    session, kernel = visitor
    cookie = "; ".join(f"{one.name}={one.value}" for one in session.cookies)
    options = {"additional_headers": {"Cookie": cookie}, "open_timeout": 60, "max_size": None, **options}
    return connect(f"{server.socket}api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}", **options)


def message(kind: str, channel: str = "shell", **content: object) -> str:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "username": "",
        "session": "s",
        "date": "",
        "version": "5.3",
    }
    whole = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": channel}
    return json.dumps({**whole, "buffers": []})


@pytest.mark.parametrize(
    "token", ["", "?token=", "?token=wrong", f"?token={TOKEN}x"], ids=["none", "empty", "wrong", "longer"]
)
@pytest.mark.parametrize("path", ANSWERED, ids=lambda path: path or "page")
def test_nothing_is_answered_without_the_token(server: Served, path: str, token: str) -> None:
    answer = raw(server, path + token)
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers
    assert "wrong" not in answer.text


@pytest.mark.parametrize("path", ELSEWHERE)
def test_nothing_else_is_there(server: Served, path: str) -> None:
    answer = raw(server, path, headers={"Authorization": f"token {TOKEN}"})
    assert answer.status_code in (403, 404)
    assert "root:" not in answer.text and "cell_type" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path", ["", "api/kernels", f"api/kernels/{NOBODY}", "api/contents/new.ipynb", "api/terminals"]
)
def test_nothing_can_be_made_or_changed(server: Served, method: str, path: str) -> None:
    token = {"Authorization": f"token {TOKEN}"}
    answer = requests.request(method, server.address + path, headers=token, json={"name": "python3"}, timeout=60)
    assert answer.status_code in (403, 404, 405)


@pytest.mark.parametrize("path", ["voila/static/voila.js", f"api/kernels/{NOBODY}", "nothing"])
def test_every_answer_has_the_headers(server: Served, path: str) -> None:
    answer = raw(server, path, headers={"Authorization": f"token {TOKEN}"})
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Server" not in answer.headers


def test_a_page_of_another_name_is_no_page_of_ours(server: Served) -> None:
    assert raw(server, f"?token={TOKEN}", headers={"Host": "evil.example"}).status_code == 403


def test_a_large_body_is_cut_off(server: Served) -> None:
    body = b"x" * (MAX_BODY_BYTES + 1)
    token = {"Authorization": f"token {TOKEN}"}
    try:
        answer = requests.post(f"{server.address}voila/api/shutdown/{NOBODY}", data=body, headers=token, timeout=60)
        assert answer.status_code in (400, 413)
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        pass  # closed while the body was still being sent
    assert raw(server, "nothing", headers=token).status_code == 404


def test_the_cookie_is_for_this_site_and_no_script(visitor: Visitor) -> None:
    (cookie,) = visitor[0].cookies
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "Strict"


class TestChannels:
    def test_are_closed_to_those_without_the_token(self, server: Served, visitor: Visitor) -> None:
        with pytest.raises(InvalidStatus, match="403"):
            channels(server, (requests.Session(), visitor[1]))

    def test_are_closed_to_other_sites(self, server: Served, visitor: Visitor) -> None:
        with pytest.raises(InvalidStatus, match="403"):
            channels(server, visitor, origin="http://evil.example")

    def test_run_no_code(self, server: Served, visitor: Visitor) -> None:
        with channels(server, visitor) as line:
            line.send(message("execute_request", code="raise SystemExit", silent=False))
            line.send(message("execute_request", "control", code="raise SystemExit", silent=False))
            line.send(message("kernel_info_request"))
            kinds = []
            while "kernel_info_reply" not in kinds:
                kinds.append(kind_of(line.recv(60)))
        assert not {"execute_reply", "execute_input", "error"} & set(kinds)

    def test_speak_the_older_protocol_too_without_stopping_the_server(self, server: Served) -> None:
        session = requests.Session()
        page = session.get(server.page, timeout=120).text
        visitor = (session, re.findall(r'"kernelId": "([\w-]+)"', page)[0])
        (model,) = re.findall(r'"model_id": "(\w+)"', page)
        with channels(server, visitor) as line:
            line.send(message("comm_msg", comm_id=model, data={"method": "request_state"}))
            while not isinstance(line.recv(120), bytes):  # the map of the first answer comes as a buffer
                pass
            assert session.get(f"{server.address}api/kernels/{visitor[1]}", timeout=60).status_code == 200
        leave(server, visitor)

    def test_are_cut_off_at_a_message_that_is_too_large_and_open_again(self, server: Served, visitor: Visitor) -> None:
        with channels(server, visitor) as line:
            # The server says 1009 and cuts the line; what is still on its way to it then may swallow the word.
            with pytest.raises(ConnectionClosedError, match="1009|no close frame"):
                line.send(b"x" * (MAX_MESSAGE_BYTES + 1))
                while True:
                    line.recv(60)
        with channels(server, visitor) as line:
            line.send(message("kernel_info_request"))
            while kind_of(line.recv(60)) != "kernel_info_reply":
                pass


def test_visitors_have_processes_of_their_own_and_one_too_many_is_told_so(server: Served) -> None:
    first, second = enter(server), enter(server)
    assert first[1] != second[1]
    full = requests.get(server.page, timeout=60)
    assert full.status_code == 503
    assert "All places are taken" in full.text and int(full.headers["Retry-After"]) > 0
    leave(server, first)
    third = enter(server)
    for visitor in (second, third):
        leave(server, visitor)
    for session, kernel in (first, second, third):
        assert session.get(f"{server.address}api/kernels/{kernel}", timeout=60).status_code == 404
    psutil.wait_procs(server.kernels(), timeout=10)
    assert server.kernels() == []
