"""Orders to robots, claims to sessions, counts of observations: the conversation beyond question and answer."""

import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import zmq

from robot_client.protocol import (
    Ack,
    Act,
    ErrorReply,
    Hello,
    Message,
    Observe,
    Pause,
    Resume,
    Stop,
    Welcome,
)

Observation = Callable[..., Observe]


@pytest.fixture
def http(server: Any) -> Any:
    with server.http() as client:
        yield client


@pytest.fixture
def session(server: Any, session_with_goal: Callable[[Any], str]) -> str:
    return session_with_goal(server)


@pytest.fixture
def robot(server: Any, robots: Callable[[str], Any], session: str) -> Any:
    robot = robots(server.zmq)
    robot.greet(session)
    return robot


def refused(reply: Message) -> str:
    assert isinstance(reply, ErrorReply), reply
    return reply.code


def order(http: httpx.Client, session: str, verb: str, reason: str = "") -> dict[str, Any]:
    answer = http.post(f"/v1/sessions/{session}/{verb}", json={"reason": reason})
    return dict(answer.raise_for_status().json())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def test_an_order_reaches_the_robot_and_is_repeated_until_it_is_obeyed(
    http: httpx.Client, session: str, robot: Any
) -> None:
    info = order(http, session, "pause", "a person is in the cell")
    assert (info["state"], info["order"], info["is_order_obeyed"]) == ("paused", 1, False)
    first, again = robot.receive(), robot.receive()
    assert isinstance(first, Pause)
    assert (first.session, first.order, first.reason) == (session, 1, "a person is in the cell")
    assert isinstance(again, Pause)
    robot.send(Ack(session=session, order=1, arm="standing"))
    until(lambda: bool(http.get(f"/v1/sessions/{session}").json()["is_order_obeyed"]))
    while not robot.is_silent(1.2):  # what was under way already
        assert isinstance(robot.receive(), Pause)


def test_a_paused_session_plans_nothing_until_it_is_resumed(
    http: httpx.Client, session: str, robot: Any, observation: Observation
) -> None:
    order(http, session, "pause")
    assert isinstance(robot.receive(), Pause)
    robot.send(Ack(session=session, order=1))
    robot.send(observation(session, seq=1))
    replies = [robot.receive()]
    while isinstance(replies[-1], Pause):
        replies.append(robot.receive())
    assert refused(replies[-1]) == "paused"
    order(http, session, "resume")
    assert isinstance(robot.receive(), Resume)
    robot.send(Ack(session=session, order=2))
    robot.send(observation(session, seq=2))
    reply = robot.receive()
    while isinstance(reply, Resume):
        reply = robot.receive()
    assert isinstance(reply, Act)


def test_a_stopped_robot_that_comes_back_finds_that_it_is_stopped(
    http: httpx.Client, server: Any, session: str, robots: Callable[[str], Any]
) -> None:
    order(http, session, "stop", "enough")
    robot = robots(server.zmq)
    robot.send(Hello(protocol=1, client="test", session=session))
    replies = [robot.receive(), robot.receive()]
    welcome = next(reply for reply in replies if isinstance(reply, Welcome))
    assert welcome.state == "stopped"
    assert any(isinstance(reply, Stop) for reply in replies)


def test_an_acknowledgement_of_nothing_changes_nothing(
    http: httpx.Client, session: str, robot: Any
) -> None:
    robot.send(Ack(session=session, order=5))
    order(http, session, "pause")
    robot.receive()
    assert not http.get(f"/v1/sessions/{session}").json()["is_order_obeyed"]


def hello(session: str, instance: str | None) -> Hello:
    return Hello(protocol=1, client="test", session=session, instance=instance)


def test_a_robot_takes_its_own_session_back_at_once(
    server: Any, session: str, robots: Callable[[str], Any], observation: Observation
) -> None:
    before, after = robots(server.zmq), robots(server.zmq)
    before.ask(hello(session, "me"))
    assert isinstance(after.ask(hello(session, "me")), Welcome)
    assert refused(before.receive()) == "session_taken"
    assert refused(before.ask(observation(session))) == "session_taken"
    assert isinstance(after.ask(observation(session)), Act)


def test_a_second_robot_cannot_claim_a_session_that_is_alive(
    server: Any, session: str, robots: Callable[[str], Any], observation: Observation
) -> None:
    holder, thief = robots(server.zmq), robots(server.zmq)
    holder.ask(hello(session, "holder"))
    assert refused(thief.ask(hello(session, "thief"))) == "session_taken"
    assert refused(thief.ask(observation(session))) == "unauthorised"
    assert isinstance(holder.ask(observation(session)), Act)


def test_two_robots_that_claim_one_session_forever_do_not_both_get_plans(
    server: Any, session: str, robots: Callable[[str], Any], observation: Observation
) -> None:
    both = [robots(server.zmq), robots(server.zmq)]
    plans = [0, 0]
    for round_ in range(10):
        for index, robot in enumerate(both):
            robot.send(hello(session, f"robot {index}"))
            robot.send(observation(session, seq=round_))
    for index, robot in enumerate(both):
        while not robot.is_silent(0.5):
            plans[index] += isinstance(robot.receive(), Act)
    assert min(plans) == 0
    assert max(plans) > 0


def test_a_replayed_hello_makes_no_second_session(
    server: Any, robots: Callable[[str], Any], http: httpx.Client
) -> None:
    robot = robots(server.zmq)
    first = robot.greet().session
    before = len(http.get("/v1/sessions").json()["sessions"])
    assert [robot.greet().session for _ in range(20)] == [first] * 20
    assert len(http.get("/v1/sessions").json()["sessions"]) == before
    http.delete(f"/v1/sessions/{first}")


def test_duplicate_and_old_observations_are_refused_and_a_hello_starts_anew(
    session: str, robot: Any, observation: Observation
) -> None:
    assert isinstance(robot.ask(observation(session, seq=5)), Act)
    for seq in (5, 4, 0):
        reply = robot.ask(observation(session, seq=seq))
        assert (refused(reply), reply.seq) == ("stale_seq", seq)
    assert isinstance(robot.ask(observation(session, seq=6)), Act)
    robot.greet(session)
    assert isinstance(robot.ask(observation(session, seq=0)), Act)


def test_the_robots_clock_may_jump(session: str, robot: Any, observation: Observation) -> None:
    for seq, t_capture in enumerate((1e9, 0.0, -1e9, 1e300, 5.0)):
        assert isinstance(robot.ask(observation(session, seq=seq, t_capture=t_capture)), Act)


def goals_form(
    http: httpx.Client, session: str, images: list[bytes], goals: str
) -> list[dict[str, Any]]:
    files: Any = [("images", image) for image in images]
    answer = http.put(f"/v1/sessions/{session}/goals", files=files, data={"goals": goals})
    return list(answer.raise_for_status().json()["goals"])


def test_the_server_counts_sub_goals_for_a_robot_that_leaves_it_to_it(
    http: httpx.Client,
    session: str,
    robot: Any,
    observation: Observation,
    goal_png: bytes,
    encode_png: Callable[[Any], bytes],
    frame: Any,
) -> None:
    rules = (
        '[{"images": [0], "name": "above", "max_steps": 2},'
        ' {"images": [1], "name": "here", "energy_threshold": 0.001}]'
    )
    goals = goals_form(http, session, [goal_png, encode_png(frame)], rules)
    assert [(goal["name"], goal["max_steps"]) for goal in goals] == [("above", 2), ("here", None)]
    acts = [robot.ask(observation(session, seq=seq, goal_index=None)) for seq in range(4)]
    assert [act.goal_index for act in acts] == [0, 0, 1, 1]
    assert [act.is_goal_done for act in acts] == [False, True, True, True]
    assert [act.is_task_done for act in acts] == [False, False, True, True]
    assert robot.greet(session).goal_index == 1


def test_a_robot_that_counts_for_itself_is_only_advised(
    http: httpx.Client, session: str, robot: Any, observation: Observation, goal_png: bytes
) -> None:
    goals_form(
        http,
        session,
        [goal_png],
        '[{"images": [0], "max_steps": 2}, {"images": [0], "max_steps": 2}]',
    )
    acts = [robot.ask(observation(session, seq=seq, goal_index=0)) for seq in range(3)]
    assert [act.goal_index for act in acts] == [0, 0, 0]
    assert [act.is_goal_done for act in acts] == [False, True, True]


def test_a_late_answer_says_so(
    slow_server: Any,
    robots: Callable[[str], Any],
    session_with_goal: Callable[[Any], str],
    observation: Observation,
) -> None:
    with slow_server.http() as http:
        made = http.post("/v1/sessions", json={"deadline_ms": 1.0}).json()["id"]
        goals = http.get(f"/v1/sessions/{session_with_goal(slow_server)}/goals/0/image")
        http.put(f"/v1/sessions/{made}/goals", content=goals.content, headers=goals.headers)
    robot = robots(slow_server.zmq)
    robot.greet(made)
    act = robot.ask(observation(made))
    assert isinstance(act, Act)
    assert act.warnings[-1].startswith("late:")


def test_two_hundred_idle_connections_disturb_nobody(
    server: Any, session: str, robot: Any, observation: Observation, robots: Callable[[str], Any]
) -> None:
    idle = [robots(server.zmq) for _ in range(200)]
    for other in idle:
        other.ping()
    assert robot.ping() < 10.0
    assert isinstance(robot.ask(observation(session, seq=1)), Act)


def count(http: httpx.Client, name: str) -> float:
    """Return the value of a metric without labels."""
    lines = http.get("/metrics").raise_for_status().text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def test_a_slow_reader_loses_answers_and_nobody_else_does(
    run_server: Any,
    make_settings: Callable[..., Any],
    session_with_goal: Callable[[Any], str],
    robots: Callable[[str], Any],
    observation: Observation,
) -> None:
    with run_server(make_settings(messages_per_s=1e9)) as address, address.http() as http:
        slow, quick = robots(address.zmq), robots(address.zmq)
        slow.socket.disconnect(address.zmq)  # the limits count from the next connection on
        slow.socket.setsockopt(zmq.RCVHWM, 1)
        slow.socket.setsockopt(zmq.RCVBUF, 2048)
        slow.socket.connect(address.zmq)
        session = session_with_goal(address)
        quick.greet(session)
        sent = seq = 0
        deadline = time.monotonic() + 60
        while count(http, "planner_unsent_replies_total") < 100:
            assert time.monotonic() < deadline, f"{sent} answers lie somewhere"
            for _ in range(200):
                slow.socket.send(b"no message at all")
            sent, seq = sent + 200, seq + 1
            assert isinstance(quick.ask(observation(session, seq=seq)), Act)
        kept = 0
        while not slow.is_silent(1.0):  # now it reads
            assert refused(slow.receive()) == "malformed_message"
            kept += 1
        assert kept + count(http, "planner_unsent_replies_total") == sent
        assert slow.ping() < 10.0


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
HANDSHAKE = GREETING + b"\x04" + bytes([len(READY)]) + READY


def read_until(raw: socket.socket, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        more = raw.recv(4096)
        assert more, seen
        seen += more


def test_a_robot_cut_off_in_the_middle_of_a_message_leaves_no_trace(
    http: httpx.Client, server: Any, robot: Any, observation: Observation, session: str
) -> None:
    """At every stage of the conversation, and without a farewell: the connection is reset."""
    look = observation(session, frame=np.zeros((256, 256, 3), np.uint8)).encode()
    message = b"\x02" + len(look).to_bytes(8, "big") + look
    host, port = server.zmq.removeprefix("tcp://").split(":")
    address, timeout_s = (host, int(port)), 20

    for cut in (1, 10, 40, len(GREETING), len(GREETING) + 9):
        with socket.create_connection(address, timeout_s) as raw:
            raw.sendall(HANDSHAKE[:cut])
    for cut in (1, 8, 9, 100, len(message) // 2, len(message) - 1):
        with socket.create_connection(address, timeout_s) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.sendall(HANDSHAKE)
            read_until(raw, b"READY")
            raw.sendall(message[:cut])
    assert isinstance(robot.ask(observation(session, seq=1)), Act)
    info = http.get(f"/v1/sessions/{session}").json()
    assert (info["observations"], info["errors"]) == (1, 0)
    with socket.create_connection(address, timeout_s) as raw:  # the same bytes, all of them
        raw.sendall(HANDSHAKE)
        read_until(raw, b"READY")
        raw.sendall(message)
        read_until(raw, b"unauthorised")
