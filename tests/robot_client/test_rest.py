"""Goals over HTTP with the standard library."""

import socket
import threading
from typing import Any

import pytest

from robot_client.errors import RobotClientError, ServerRefusedError, ServerUnreachableError
from robot_client.rest import RestClient, SessionOptions


def test_goals_arrive_in_order_byte_for_byte(stand_in: Any) -> None:
    rest = RestClient(stand_in.url)
    session = rest.create_session(SessionOptions(seed=3))
    images = [b"first\r\n--", b"\x89PNG\r\n\x1a\n\0\xff", b"third"]
    assert len(rest.put_goals(session, images)) == 3
    assert stand_in.goals == images


def test_a_session_whose_goals_are_refused_does_not_stay_behind(stand_in: Any) -> None:
    stand_in.is_refusing_goals = True
    with pytest.raises(ServerRefusedError, match="invalid_frame"):
        stand_in.link().open()
    assert stand_in.known_sessions == set()


def test_readiness_is_a_yes_or_no(stand_in: Any) -> None:
    assert RestClient(stand_in.url).is_ready()
    assert not RestClient("http://127.0.0.1:9").is_ready()


def test_a_refusal_carries_the_servers_code_and_message(stand_in: Any) -> None:
    with pytest.raises(ServerRefusedError, match="loading") as caught:
        RestClient(stand_in.url).model()
    assert caught.value.code == "not_ready"


def test_a_server_that_is_not_there_is_told_with_a_remedy() -> None:
    with pytest.raises(ServerUnreachableError, match="uvicorn planner_server"):
        RestClient("http://127.0.0.1:9").model()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(RobotClientError, match="looks like"):
        RestClient(url)


def test_some_other_web_server_is_recognised() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def serve() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ServerRefusedError, match="no planner server"):
            RestClient(f"http://127.0.0.1:{other.getsockname()[1]}").model()
        thread.join()
