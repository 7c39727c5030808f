"""What the server lets in before it looks at tokens: whose machine, which key, how much at once."""

import contextlib
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import zmq.auth
from starlette.testclient import TestClient

from planner_server.gate import GateMiddleware
from planner_server.security.keys import KnownKeys, make_keys

IMAGE = {"Content-Type": "image/png"}


@pytest.mark.parametrize(
    ("server", "host", "is_served"),
    [
        (("127.0.0.1", 8000), "localhost:8000", True),
        (("::1", 8000), "[::1]:8000", True),
        (("::1", 8000), "[fd00::1]:8000", False),  # a name of its own for this machine
        (("127.0.0.1", 8000), "evil.example", False),
        (("192.168.0.7", 8000), "localhost", False),
        (("/run/planner.sock", None), "anything", True),  # a file of this machine
    ],
)
def test_without_tokens_only_this_machine_is_served(
    server: tuple[str, int | None], host: str, is_served: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def placed(scope: Any, receive: Any, send: Any) -> None:
        scope = {**scope, "server": server, "state": {"request_id": "1"}}
        await GateMiddleware(app, is_open=True)(scope, receive, send)

    answer = TestClient(placed).get("/", headers={"Host": host})
    assert answer.status_code == (204 if is_served else 401)


def test_a_key_file_that_cannot_be_read_lets_nobody_in_and_keeps_nobody_out(tmp_path: Path) -> None:
    public, _ = make_keys(tmp_path, "robot")
    (tmp_path / "broken.key").write_text("no key at all")
    (tmp_path / "binary.key").write_bytes(bytes(range(256)))
    known = KnownKeys(tmp_path)
    assert known.has(zmq.auth.load_certificate(public)[0])
    assert not known.has(b"")
    assert not known.has(b"no key at all")


def test_uploads_that_hold_too_much_memory_together_are_refused_until_some_are_over(
    run_server: Any, make_settings: Callable[..., Any]
) -> None:
    most = 1024
    half = b"x" * 1000
    head = (
        "PUT /v1/sessions/{}/goals HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: image/png\r\nContent-Length: {most}\r\n\r\n"
    )
    with (
        run_server(make_settings(max_request_bytes=most)) as address,
        address.http() as http,
        contextlib.ExitStack() as stack,
    ):
        session = http.post("/v1/sessions").json()["id"]
        host, port = address.url.removeprefix("http://").split(":")
        upload = head.format(session).encode() + half

        def begin() -> socket.socket:
            link = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
            link.sendall(upload)
            return link

        links = [begin() for _ in range(9)]  # eight of the largest size may be under way
        refused = _first_answered(links)
        assert b"too many uploads at once" in refused.recv(4096)
        for link in links:
            link.close()
        where, deadline = f"/v1/sessions/{session}/goals", time.monotonic() + 20
        while (code := _code_of(http.put(where, content=half, headers=IMAGE))) == "busy":
            assert time.monotonic() < deadline  # those that are over are noticed one by one
        assert code == "invalid_frame"  # read, and looked at


def _code_of(answer: httpx.Response) -> str:
    return str(answer.json()["code"])


def _first_answered(links: list[socket.socket]) -> socket.socket:
    ready, _, _ = select.select(links, [], [], 20)
    assert ready, "no upload was refused"
    found: socket.socket = ready[0]
    return found
