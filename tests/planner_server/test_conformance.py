"""The conformance check: our own server passes it, and servers that break rules are found out."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from planner_server import __main__ as command
from planner_server.conformance import Target, run_checks
from robot_client.errors import ProtocolError
from robot_client.protocol import ErrorReply, Hello, Message, Observe, Ping, Pong, decode


def test_our_server_keeps_every_rule(server: Any) -> None:
    results = run_checks(Target(server.zmq, server.url))
    assert len(results) >= 20
    assert [result for result in results if result.problem is not None] == []


def test_a_server_with_a_token_keeps_them_too(
    run_server: Any, make_settings: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with run_server(make_settings(token="sesame")) as address:
        arguments = ["conformance", address.zmq, "--http", address.url, "--token", "sesame"]
        assert command.main(arguments) == 0
        assert command.main(["conformance", address.zmq]) == 1
    assert "FAIL" in capsys.readouterr().out


class FaultyServer:
    """Answers as told; what is not told gets silence or an error."""

    def __init__(self, answer: Callable[[Message], Message | None]) -> None:
        self._answer = answer
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        while not self._is_over.is_set():
            if not self._socket.poll(20):
                continue
            peer, *parts = self._socket.recv_multipart()
            try:
                reply = self._answer(decode(parts[0]))
            except ProtocolError as error:
                reply = ErrorReply(error.code, error.message)
            if reply is not None:
                self._socket.send_multipart([peer, reply.encode()])


@pytest.fixture
def faulty() -> Iterator[Callable[..., FaultyServer]]:
    made: list[FaultyServer] = []

    def make(answer: Callable[[Message], Message | None]) -> FaultyServer:
        made.append(FaultyServer(answer))
        return made[-1]

    yield make
    for server in made:
        server.close()


def test_a_server_that_changes_the_ping_and_welcomes_nobody_is_found_out(
    faulty: Callable[..., FaultyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner_server.conformance.conversation._ANSWER_S", 0.1)

    def answer(message: Message) -> Message | None:
        if isinstance(message, Ping):
            return Pong(t=message.t + 1)
        if isinstance(message, Hello | Observe):
            return ErrorReply("planner_failed", "never")
        return None

    results = run_checks(Target(faulty(answer).endpoint))
    problems = {result.rule: result.problem for result in results}
    assert "13.5" in str(problems["ping is answered with its own number, without a hello"])
    assert "planner_failed" in str(
        problems["hello is welcomed with a session, a frame size, a control period and limits"]
    )
    kept = "bytes that are no message are answered with malformed_message"
    assert problems[kept] is None
