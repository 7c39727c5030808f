"""The rules of docs/protocol.md that can be seen from outside: each is a function that raises `BrokenRuleError`.

Knows the wire protocol, and nothing of the server.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import msgpack
import numpy as np

from planner_server.conformance.conversation import (
    BrokenRuleError,
    Connection,
    Target,
    connected,
    expect,
    expect_error,
)
from robot_client.errors import RobotClientError
from robot_client.protocol import (
    MAX_MESSAGE_BYTES,
    Ack,
    Act,
    Bye,
    ErrorReply,
    Hello,
    Observe,
    Ping,
    Pong,
)
from robot_client.rest import RestClient, SessionOptions

_PING_S = 1.0
_STATE = (0.5, 0.0, 0.35, 3.1416, 0.0, 0.0, 0.0)

Check = Callable[[Target, Connection], None]
_CHECKS: list[tuple[str, bool, Check]] = []


def rule(text: str, *, needs_goals: bool = False) -> Callable[[Check], Check]:
    """Register a check under the rule's own words."""

    def register(check: Check) -> Check:
        _CHECKS.append((text, needs_goals, check))
        return check

    return register


@dataclass(frozen=True)
class Result:
    """One rule, and what is wrong with it; None where it is kept."""

    rule: str
    problem: str | None


def run_checks(target: Target) -> list[Result]:
    """Check every rule that the target's addresses allow to check."""
    return [
        Result(text, _problem(target, check))
        for text, needs_goals, check in _CHECKS
        if target.http is not None or not needs_goals
    ]


def _problem(target: Target, check: Check) -> str | None:
    with connected(target) as connection:
        try:
            check(target, connection)
        except (BrokenRuleError, RobotClientError) as error:
            return str(error)
    return None


def observe(session: str, seq: int, **changes: Any) -> Observe:
    """Return an observation of a grey picture."""
    fields: dict[str, Any] = {
        "t_capture": 0.0,
        "frame": np.full((64, 64, 3), 128, np.uint8),
        "state": np.array(_STATE),
        "goal_index": 0,
    }
    return Observe(session=session, seq=seq, **(fields | changes))


def _session_with_goal(target: Target) -> str:
    rest = RestClient(str(target.http), target.token)
    session = rest.create_session(SessionOptions())
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[16:48, 16:48] = 255
    rest.put_goals(session, [bytes(cv2.imencode(".png", picture)[1].tobytes())])
    return session


@rule("ping is answered with its own number, without a hello")
def _(_: Target, connection: Connection) -> None:
    connection.ping()


@rule("hello is welcomed with a session, a frame size, a control period and limits")
def _(_: Target, connection: Connection) -> None:
    welcome = connection.greet()
    if not welcome.session or min(welcome.frame_size) < 1:
        raise BrokenRuleError(f"welcome says {welcome}")


@rule("the same hello again means the same session")
def _(_: Target, connection: Connection) -> None:
    if connection.greet().session != connection.greet().session:
        raise BrokenRuleError("a second session was made")


@rule("another protocol version is answered with unsupported_protocol")
def _(_: Target, connection: Connection) -> None:
    hello = msgpack.packb({"type": "hello", "protocol": 2, "client": "conformance"})
    expect_error(connection.ask(hello), "unsupported_protocol")


@rule("unknown keys are ignored")
def _(_: Target, connection: Connection) -> None:
    expect(connection.ask(msgpack.packb({"type": "ping", "t": 1.0, "colour": "red"})), Pong)


@rule("unknown types and a server's own messages are answered with unknown_type")
def _(_: Target, connection: Connection) -> None:
    expect_error(connection.ask(msgpack.packb({"type": "dance"})), "unknown_type")
    expect_error(connection.ask(Pong(t=0.0)), "unknown_type")


@rule("bytes that are no message are answered with malformed_message")
def _(_: Target, connection: Connection) -> None:
    for payload in (b"", b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa4type", msgpack.packb([1])):
        expect_error(connection.ask(payload), "malformed_message")


@rule("a message of several parts is answered with malformed_message")
def _(_: Target, connection: Connection) -> None:
    connection.send_parts([b"", Ping(t=0.0).encode()])
    answer = connection.hear()
    if answer is None:
        raise BrokenRuleError("no answer")
    expect_error(answer, "malformed_message")


@rule(
    "a message beyond 16 MiB is answered with too_large, or the connection is cut, and nobody else notices"
)
def _(target: Target, connection: Connection) -> None:
    with connected(target) as other:
        connection.send(bytes(MAX_MESSAGE_BYTES + 1))
        answer = connection.hear()
        if answer is not None:
            expect_error(answer, "too_large")
        if other.ping() > _PING_S:
            raise BrokenRuleError("another connection had to wait")


@rule("an error message is not answered")
def _(_: Target, connection: Connection) -> None:
    connection.send(ErrorReply(code="planner_failed", message="conformance check"))
    connection.ping()


@rule("an observation before hello is refused with unauthorised")
def _(target: Target, connection: Connection) -> None:
    with connected(target) as other:
        session = other.greet().session
        expect_error(connection.ask(observe(session, 0)), "unauthorised")


@rule("an observation of a session that does not exist is refused with unknown_session")
def _(_: Target, connection: Connection) -> None:
    connection.greet()
    expect_error(connection.ask(observe("nobody", 0)), "unknown_session", "unauthorised")


@rule("an observation without a goal is refused with no_goal and its own seq")
def _(_: Target, connection: Connection) -> None:
    session = connection.greet().session
    reply = expect_error(connection.ask(observe(session, 7)), "no_goal")
    if reply.seq != 7:
        raise BrokenRuleError(f"the error says seq {reply.seq}, the observation said 7")


@rule("a state that is not finite, or not 7 numbers, is refused with invalid_state")
def _(_: Target, connection: Connection) -> None:
    session = connection.greet().session
    fields = msgpack.unpackb(observe(session, 0).encode(), strict_map_key=False)
    for values in ([0.0] * 6, [0.0] * 6 + [float("nan")]):
        data = np.array(values, "<f8").tobytes()
        body = msgpack.packb(["<f8", [len(values)], data])
        fields["state"] = msgpack.ExtType(1, body)
        expect_error(connection.ask(msgpack.packb(fields)), "invalid_state")


@rule("a second client cannot claim a session whose holder is alive")
def _(target: Target, connection: Connection) -> None:
    session = connection.greet(instance=secrets.token_hex(4)).session
    with connected(target) as other:
        hello = Hello(1, "conformance", target.token, session, secrets.token_hex(4))
        expect_error(other.ask(hello), "session_taken")
    expect_error(connection.ask(observe(session, 0)), "no_goal")


@rule("the same client takes its session back at once")
def _(target: Target, connection: Connection) -> None:
    me = secrets.token_hex(4)
    session = connection.greet(instance=me).session
    with connected(target) as again:
        if again.greet(session, me).session != session:
            raise BrokenRuleError("it got another session")


@rule("bye ends the session")
def _(_: Target, connection: Connection) -> None:
    session = connection.greet().session
    connection.send(Bye(session=session))
    codes = "session_ended", "unknown_session", "unauthorised"
    expect_error(connection.ask(observe(session, 0)), *codes)


@rule("an observation is answered with its plan, inside the limits of welcome", needs_goals=True)
def _(target: Target, connection: Connection) -> None:
    session = _session_with_goal(target)
    limits = connection.greet(session).action_limits
    act: Act = expect(connection.ask(observe(session, 5)), Act)
    box = np.array([limits.max_step_m] * 3 + [limits.max_rotation_rad] * 3 + [limits.max_gripper])
    if (act.session, act.seq) != (session, 5):
        raise BrokenRuleError(f"the plan is for session {act.session}, seq {act.seq}")
    if (np.abs(act.actions) > box + 1e-9).any():
        raise BrokenRuleError(f"actions {act.actions.tolist()} leave the box {box.tolist()}")


@rule(
    "an observation that is not newer is refused with stale_seq; a hello starts the count anew",
    needs_goals=True,
)
def _(target: Target, connection: Connection) -> None:
    session = _session_with_goal(target)
    connection.greet(session)
    expect(connection.ask(observe(session, 5)), Act)
    expect_error(connection.ask(observe(session, 5)), "stale_seq")
    connection.greet(session)
    expect(connection.ask(observe(session, 0)), Act)


@rule("the newest observation wins, and ping does not wait for plans", needs_goals=True)
def _(target: Target, connection: Connection) -> None:
    session = _session_with_goal(target)
    connection.greet(session)
    with connected(target) as other:
        for seq in range(20):
            connection.send(observe(session, seq))
        if other.ping() > _PING_S:
            raise BrokenRuleError("ping waited")
    seqs: list[int] = []
    while not seqs or seqs[-1] != 19:
        answer = connection.hear()
        if answer is None:
            raise BrokenRuleError(f"plans for {seqs} came, but none for the newest observation, 19")
        seqs.append(expect(answer, Act).seq)
    if seqs != sorted(seqs):
        raise BrokenRuleError(f"plans came out of order: {seqs}")


@rule("a paused robot is told until it acknowledges, and is not planned for", needs_goals=True)
def _(target: Target, connection: Connection) -> None:
    session = _session_with_goal(target)
    connection.greet(session)
    RestClient(str(target.http), target.token).give_order(session, "pause", "conformance check")
    orders = [connection.hear(), connection.hear()]
    if [getattr(order, "TYPE", None) for order in orders] != ["pause", "pause"]:
        raise BrokenRuleError(f"expected pause twice, heard {orders}")
    connection.send(Ack(session=session, order=getattr(orders[0], "order", 0)))
    connection.send(observe(session, 1))
    answer = connection.hear()
    while getattr(answer, "TYPE", None) == "pause":
        answer = connection.hear()
    if answer is None:
        raise BrokenRuleError("no answer")
    expect_error(answer, "paused")
