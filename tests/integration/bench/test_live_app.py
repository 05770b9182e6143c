"""The web server of `ridelake live` only answers its own page, and slow viewers do not delay others."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from live_page import LivePage, address_of, send

from bench.live import stream
from bench.live.app import BODY_BYTES_MAX, build_app
from bench.live.session import HOST
from bench.live.stream import LiveState, Viewer, Viewers
from ridelake import web_server
from ridelake.errors import UsageError
from ridelake.web_server import CONNECTIONS_MAX, ListenAddress, WebServer, listening, serving

TOKEN = "a-token"


@dataclass
class Served:
    url: str
    state: LiveState
    received: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def served() -> Iterator[Served]:
    """The application with one command, `note`. It records its body, and refuses {"wrong": …}."""
    state = LiveState({"version": "0"})
    received: list[dict[str, Any]] = []

    def record(body: dict[str, Any]) -> None:
        if "wrong" in body:
            raise UsageError("wrong is not a field")
        received.append(body)

    with listening(ListenAddress.of(HOST, 0)) as listener:
        port = listener.getsockname()[1]
        web = build_app(TOKEN, port, Viewers(state), {"note": record})
        with serving(WebServer(web), listener):
            yield Served(f"http://{HOST}:{port}/{TOKEN}/", state, received)


def test_a_command_reaches_its_function_and_an_error_is_one_line(served: Served):
    assert send(f"{served.url}note", b'{"clients": 8}') == (200, {"ok": True})
    assert send(f"{served.url}note", b'{"wrong": 1}') == (400, {"error": "wrong is not a field"})
    assert send(f"{served.url}other", b"{}")[0] == 404
    assert served.received == [{"clients": 8}]


def test_an_answer_is_sent_at_once(served: Served):
    """With Nagle's algorithm, the second answer on a connection would be delayed by 40 ms."""
    with listening(ListenAddress.of(HOST, 0)) as listener:
        server = WebServer(build_app(TOKEN, 0, Viewers(served.state), {}))
        with (
            serving(server, listener),
            socket.create_connection(listener.getsockname(), timeout=30) as client,
        ):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1)
            (connection,) = server.server_state.connections
            accepted = connection.transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_request_without_the_token_is_not_found(served: Served):
    root = served.url.removesuffix(f"{TOKEN}/")
    for path in ("", "events", "note", "another-token/", f"{TOKEN}x/events"):
        assert send(f"{root}{path}")[0] == 404
    assert send(f"{root}another-token/note", b"{}")[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_a_request_to_another_host_is_refused(served: Served, host: str):
    port = address_of(served.url)[1]
    assert send(f"{served.url}note", b"{}", Host=host.format(port=port))[0] == 400


def test_a_post_from_another_page_is_refused(served: Served):
    port = address_of(served.url)[1]
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}", f"http://localhost:{port}"):
        assert send(f"{served.url}note", b"{}", Origin=origin)[0] == 403
    assert send(f"{served.url}note", b"{}", Origin=f"http://127.0.0.1:{port}")[0] == 200
    assert served.received == [{}]


def test_a_post_of_another_type_is_refused(served: Served):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert send(f"{served.url}note", b"{}", Content_Type=kind)[0] == 415
    for body in (b"[]", b"{", b'"text"', b"[" * 5_000):
        assert send(f"{served.url}note", body)[0] == 400
    assert served.received == []


def test_a_large_body_is_refused(served: Served):
    large = json.dumps({"sql": "x" * 10_000_000}).encode()
    assert send(f"{served.url}note", large) == (
        413,
        {"error": f"the request is too large: send at most {BODY_BYTES_MAX:,} bytes"},
    )
    assert send(f"{served.url}note", b"{}")[0] == 200


def test_other_methods_and_paths_outside_of_the_page_are_refused(served: Served):
    host, port = address_of(served.url)
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD"):
        assert b" 405 " in raw_answer(host, port, f"{method} /{TOKEN}/note HTTP/1.1")
    for path in ("assets/..%2fapp.py", "assets/%2e%2e/app.py", "assets/../app.py", "assets/app.py"):
        assert b" 404 " in raw_answer(host, port, f"GET /{TOKEN}/{path} HTTP/1.1")
    for target in ("?", "*", f"/{TOKEN}/assets/{'a' * 5_000}.js"):
        assert b" 404 " in raw_answer(host, port, f"GET {target} HTTP/1.1")


def test_the_answers_forbid_other_pages_to_read_or_frame_them(served: Served):
    head = raw_answer(*address_of(served.url), f"GET /{TOKEN}/assets/none.js HTTP/1.1").lower()
    assert b"access-control-allow" not in head
    for line in (b"content-security-policy: default-src 'self'", b"x-frame-options: deny"):
        assert line in head
    assert b"referrer-policy: no-referrer" in head


def raw_answer(host: str, port: int, line: str) -> bytes:
    with socket.create_connection((host, port), timeout=30) as connection:
        connection.sendall(f"{line}\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        found = b""
        while block := connection.recv(65_536):
            found += block
        return found


def test_all_viewers_see_the_same_state(served: Served):
    first, second = LivePage(served.url), LivePage(served.url)
    served.state.report("load", {"state": "running", "rides_per_second": 12.0})
    for page in (first, second):
        page.wait_for(lambda state: state.get("load") == {"state": "running", "rides_per_second": 12.0})
    late = LivePage(served.url)
    assert late.state["load"] == first.state["load"]
    assert late.hello["version"] == "0"
    assert late.hello["history"], "a page that is opened later has no history"
    assert first.ids == sorted(first.ids)


def test_only_changed_parts_are_sent(served: Served):
    state = served.state
    state.report("load", {"clients": 1})
    assert b'"load"' in state.tick() + state.tick()
    state.report("load", {"clients": 1})
    assert b'"load"' not in state.tick()


def test_viewers_beyond_the_limit_are_refused_and_the_others_continue(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stream, "VIEWERS_MAX", 2)
    first, second = LivePage(served.url), LivePage(served.url)
    assert send(f"{served.url}events")[0] == 503
    second.close()
    ticks = len(first.ids)
    first.wait_for(lambda _: len(first.ids) > ticks + 2)
    give_up = time.monotonic() + 30
    while stream_status(served) == 503:  # until the server has noticed that the second viewer is disconnected
        assert time.monotonic() < give_up
        time.sleep(0.05)


def stream_status(served: Served) -> int:
    """The status of GET events; the connection is closed immediately."""
    host, port = address_of(served.url)
    with socket.create_connection((host, port), timeout=30) as connection:
        connection.sendall(f"GET /{TOKEN}/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        return int(connection.recv(12).split()[1])


def test_connections_beyond_the_limit_are_closed_and_the_others_continue(served: Served):
    page = LivePage(served.url)
    address = address_of(served.url)
    idle = [socket.create_connection(address, timeout=30) for _ in range(CONNECTIONS_MAX + 200)]
    ticks = len(page.ids)
    page.wait_for(lambda _: len(page.ids) > ticks + 2)
    refused = sum(is_closed(connection) for connection in idle)
    assert refused >= 200
    for connection in idle:
        connection.close()
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        try:
            assert send(f"{served.url}note", b"{}")[0] == 200
            return
        except OSError:  # the server has not closed the other connections yet
            time.sleep(0.05)
    pytest.fail("no new connection was accepted")


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: "])
def test_a_connection_that_sends_no_whole_request_is_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes
):
    monkeypatch.setattr(web_server, "REQUEST_SECONDS", 0.1)
    with socket.create_connection(address_of(served.url), timeout=30) as stalled:
        stalled.sendall(sent)
        assert stalled.recv(1) == b""


def test_a_connection_that_receives_no_answer_is_closed(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web_server, "REQUEST_SECONDS", 0.1)
    host, port = address_of(served.url)
    request = f"GET /{TOKEN}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    with socket.create_connection((host, port), timeout=30) as stalled, pytest.raises(ConnectionError):
        while True:
            stalled.sendall(request)


def test_a_slow_viewer_gets_the_newest_state_from_a_bounded_queue():
    state = LiveState({})
    viewer = Viewer(state)
    for number in range(10 * stream.QUEUE_TICKS_MAX):
        state.report("load", {"number": number})
        viewer.put(state.tick())
    assert len(viewer._events) <= stream.QUEUE_TICKS_MAX
    latest = viewer._events[-1].decode()
    assert f'"number":{10 * stream.QUEUE_TICKS_MAX - 1}' in latest


def test_a_viewer_that_does_not_read_does_not_delay_others(served: Served):
    host, port = address_of(served.url)
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    stuck.connect((host, port))
    stuck.sendall(f"GET /{TOKEN}/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    page = LivePage(served.url)
    for number in range(5):
        served.state.report("ride", {"number": number, "bytes": "x" * 500_000})
        page.wait_for(lambda state, number=number: (state.get("ride") or {}).get("number") == number)
    stuck.close()
