"""Talking to a server that is being tested: one message at a time, over a real socket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import zmq

from robot_client.errors import RobotClientError
from robot_client.protocol import (
    ErrorReply,
    Hello,
    Message,
    Ping,
    Pong,
    Welcome,
    decode,
)

_ANSWER_S = 10.0


class BrokenRuleError(Exception):
    """A rule is not kept; the message says what was seen."""


@dataclass(frozen=True)
class Target:
    """The server to be tested.

    Attributes:
        endpoint: Where robots connect.
        http: URL of the HTTP API; None leaves out what needs goals.
        token: Secret with the role operate, where it wants one.
    """

    endpoint: str
    http: str | None = None
    token: str | None = None


class Connection:
    """A DEALER that says one thing at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(target.endpoint)

    def close(self) -> None:
        """Free the socket."""
        self._context.destroy(linger=0)

    def send(self, message: Message | bytes) -> None:
        """Send a message, or bytes that shall be none."""
        self._socket.send(message if isinstance(message, bytes) else message.encode())

    def send_parts(self, parts: list[bytes]) -> None:
        """Send several parts, which the protocol does not know."""
        self._socket.send_multipart(parts)

    def hear(self) -> Message | None:
        """Return the next message, or None when none comes in time."""
        if not self._socket.poll(round(1000 * _ANSWER_S)):
            return None
        try:
            return decode(self._socket.recv())
        except RobotClientError as error:
            raise BrokenRuleError(f"the server sent what is no message: {error}") from error

    def ask(self, message: Message | bytes) -> Message:
        """Send and wait for the answer."""
        self.send(message)
        answer = self.hear()
        if answer is None:
            raise BrokenRuleError(f"no answer within {_ANSWER_S:g} s")
        return answer

    def greet(self, session: str | None = None, instance: str | None = None) -> Welcome:
        """Say hello."""
        hello = Hello(
            protocol=1,
            client="conformance",
            token=self._target.token,
            session=session,
            instance=instance,
        )
        welcome: Welcome = expect(self.ask(hello), Welcome)
        return welcome

    def ping(self) -> float:
        """Return the time to the pong [s]; nothing else may be under way."""
        started_s = time.monotonic()
        pong = expect(self.ask(Ping(t=12.5)), Pong)
        if pong.t != 12.5:
            raise BrokenRuleError(f"ping {{t: 12.5}} came back as t = {pong.t}")
        return time.monotonic() - started_s


@contextmanager
def connected(target: Target) -> Iterator[Connection]:
    """Connect, and let go at the end."""
    connection = Connection(target)
    try:
        yield connection
    finally:
        connection.close()


def expect(message: Message, kind: type[Any]) -> Any:
    """Return the message if it is of a kind."""
    if not isinstance(message, kind):
        said = f"error {message.code}" if isinstance(message, ErrorReply) else message.TYPE
        raise BrokenRuleError(f"expected {kind.TYPE}, got {said}")
    return message


def expect_error(message: Message, *codes: str) -> ErrorReply:
    """Return the message if it is an error of one of some codes."""
    reply: ErrorReply = expect(message, ErrorReply)
    if reply.code not in codes:
        raise BrokenRuleError(
            f"expected error {' or '.join(codes)}, got {reply.code}: {reply.message}"
        )
    return reply
