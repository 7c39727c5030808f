"""The robots' door of a running server, over real sockets."""

import threading
import time
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from robot_client import codec
from robot_client.protocol import (
    MAX_MESSAGE_BYTES,
    Act,
    Bye,
    ErrorReply,
    Hello,
    Message,
    Observe,
    Ping,
    Pong,
    Welcome,
)

Observation = Callable[..., Observe]
Connect = Callable[[str], Any]


@pytest.fixture
def robot(server: Any, robots: Connect) -> Any:
    return robots(server.zmq)


def refused(reply: Message, code: str) -> str:
    assert isinstance(reply, ErrorReply), reply
    assert reply.code == code, reply
    return reply.message


def test_hello_is_welcomed_with_what_the_model_expects(robot: Any) -> None:
    welcome = robot.greet()
    assert isinstance(welcome, Welcome)
    assert (welcome.protocol, welcome.model, welcome.frame_size) == (1, "tiny", (32, 32))
    assert welcome.control_period_s == 1.0
    assert welcome.action_limits.max_step_m == 0.15
    assert {"icem", "cem"} <= set(welcome.planners)
    assert (welcome.state, welcome.goals, welcome.goal_index) == ("running", 0, 0)


def test_an_observation_is_answered_with_an_action(
    server: Any, robot: Any, session_with_goal: Callable[[Any], str], observation: Observation
) -> None:
    session = session_with_goal(server)
    assert robot.greet(session).session == session
    act = robot.ask(observation(session, seq=5))
    assert isinstance(act, Act), act
    assert (act.session, act.seq, act.goal_index, act.dropped) == (session, 5, 0, 0)
    assert act.actions.shape == act.predicted_states.shape == (1, 7)
    assert (np.abs(act.actions) <= [0.15, 0.15, 0.15, 0, 0, 0, 1]).all()
    assert act.evaluations >= 32
    with server.http() as http:
        counters = http.get(f"/v1/sessions/{session}").json()
    assert (counters["observations"], counters["plans"], counters["errors"]) == (1, 1, 0)


def test_the_same_observation_and_seed_give_the_same_action(
    server: Any, robot: Any, session_with_goal: Callable[[Any], str], observation: Observation
) -> None:
    first, second = session_with_goal(server), session_with_goal(server)
    robot.greet(first)
    robot.greet(second)
    answers = [robot.ask(observation(session, seq=2)) for session in (first, second)]
    np.testing.assert_array_equal(answers[0].actions, answers[1].actions)


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_compressed_frames_are_understood(
    server: Any,
    robot: Any,
    session_with_goal: Callable[[Any], str],
    observation: Observation,
    frame: Any,
    encoding: str,
) -> None:
    session = session_with_goal(server)
    robot.greet(session)
    reply = robot.ask(observation(session, frame=codec.encode_image(frame, encoding)))
    assert isinstance(reply, Act), reply


def test_what_cannot_be_planned_is_answered_with_its_reason(
    server: Any, robot: Any, session_with_goal: Callable[[Any], str], observation: Observation
) -> None:
    empty = robot.greet().session
    assert "PUT /v1/sessions" in refused(robot.ask(observation(empty, seq=9)), "no_goal")
    session = session_with_goal(server)
    refused(robot.ask(observation(session)), "unauthorised")
    robot.greet(session)
    refused(robot.ask(observation(session, goal_index=3)), "no_goal")
    refused(robot.ask(observation("nobody")), "unknown_session")
    tiny = np.zeros((8, 8, 3), np.uint8)
    reply = robot.ask(observation(session, seq=1, frame=tiny))
    assert "16 to 4096" in refused(reply, "invalid_frame")
    whole = codec.encode_image(np.full((64, 64, 3), 90, np.uint8), "jpeg")
    half = codec.EncodedImage("jpeg", whole.data[: len(whole.data) // 2])
    refused(robot.ask(observation(session, seq=2, frame=half)), "invalid_frame")
    broken = codec.EncodedImage("jpeg", b"\xff\xd8 no jpeg")
    reply = robot.ask(observation(session, seq=77, frame=broken))
    refused(reply, "invalid_frame")
    assert reply.seq == 77
    refused(robot.ask(Hello(protocol=1, client="t", session="nobody")), "unknown_session")


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "malformed_message"),
        (b"\x00\xff\xc1 no msgpack", "malformed_message"),
        (b"\x93\x01\x02\x03", "malformed_message"),
        (msgpack.packb({"no": "type"}), "unknown_type"),
        (msgpack.packb({"type": "dance"}), "unknown_type"),
        (msgpack.packb({"type": "hello", "protocol": 2, "client": "x"}), "unsupported_protocol"),
        (msgpack.packb({"type": "observe", "session": "s", "seq": 1}), "malformed_message"),
        (Pong(t=1.0).encode(), "unknown_type"),
        (bytes(MAX_MESSAGE_BYTES + 1), "too_large"),
    ],
)
def test_bytes_that_make_no_sense_are_answered_and_do_no_harm(
    robot: Any, payload: bytes, code: str
) -> None:
    refused(robot.ask(payload), code)
    assert robot.ping() < 10.0


def test_random_bytes_and_odd_framing_do_no_harm(server: Any, robot: Any) -> None:
    noise = np.random.default_rng(1)
    for _ in range(50):
        assert isinstance(robot.ask(noise.bytes(int(noise.integers(0, 200)))), ErrorReply)
    robot.socket.send_multipart([b"", Ping(t=0.0).encode()])
    refused(robot.receive(), "malformed_message")
    robot.send(ErrorReply(code="planner_failed", message="a client's complaint"))
    assert robot.is_silent()
    assert robot.ping() < 10.0


def test_bye_ends_the_session(
    server: Any, robot: Any, session_with_goal: Callable[[Any], str], observation: Observation
) -> None:
    session = session_with_goal(server)
    robot.greet(session)
    robot.send(Bye(session=session))
    refused(robot.ask(observation(session)), "session_ended")
    refused(robot.ask(Hello(protocol=1, client="t", session=session)), "session_ended")


def test_a_robot_that_pings_keeps_its_session_and_a_silent_one_loses_it(
    run_server: Any, make_settings: Callable[..., Any], robots: Connect
) -> None:
    with run_server(make_settings(session_idle_s=3.0)) as address, address.http() as http:

        def sessions() -> set[str]:
            return {each["id"] for each in http.get("/v1/sessions").json()["sessions"]}

        alive, silent = robots(address.zmq), robots(address.zmq)
        kept, lost = alive.greet().session, silent.greet().session
        deadline = time.monotonic() + 60
        while lost in sessions():
            assert time.monotonic() < deadline, "it was never forgotten"
            alive.ping()
            time.sleep(0.1)
        assert kept in sessions()
        refused(silent.ask(Hello(protocol=1, client="t", session=lost)), "session_ended")


def test_where_there_is_a_token_it_must_be_known(
    run_server: Any,
    make_settings: Callable[..., Any],
    robots: Connect,
    observation: Observation,
) -> None:
    with run_server(make_settings(token="secret")) as address:
        stranger = robots(address.zmq)
        for token in (None, "wrong", "secret2", "sécret"):
            reply = stranger.ask(Hello(protocol=1, client="t", token=token))
            assert "PLANNER_TOKEN" in refused(reply, "unauthorised")
        friend = robots(address.zmq)
        session = friend.greet(token="secret").session
        refused(stranger.ask(observation(session)), "unauthorised")
        stranger.send(Bye(session=session))
        refused(stranger.receive(), "unauthorised")
        refused(friend.ask(observation(session)), "no_goal")  # so the session still lives
        assert stranger.ping() < 10.0


def test_only_the_newest_observation_is_planned(
    slow_server: Any,
    robots: Connect,
    session_with_goal: Callable[[Any], str],
    observation: Observation,
) -> None:
    session = session_with_goal(slow_server)
    robot = robots(slow_server.zmq)
    robot.greet(session)
    robot.send(observation(session, seq=0))
    slow_server.wait_until_planning(session)
    sent = time.monotonic()
    for seq in range(1, 21):
        robot.send(observation(session, seq=seq))
    acts = [robot.receive()]
    while acts[-1].seq < 20:
        acts.append(robot.receive())
    waited_ms = 1e3 * (time.monotonic() - sent)
    seqs = [act.seq for act in acts]
    assert seqs[0] == 0
    assert seqs == sorted(set(seqs))
    # The burst overtook itself while the first plan ran; a stall may let a few of it through.
    assert len(acts) <= 5
    assert acts[-1].dropped == 21 - len(acts)
    assert 0 < acts[-1].queue_ms < waited_ms
    assert robot.is_silent()
    with slow_server.http() as http:
        counters = http.get(f"/v1/sessions/{session}").json()
    assert counters["observations"] == 21
    assert (counters["plans"], counters["dropped"]) == (len(acts), 21 - len(acts))


def test_ping_is_answered_at_once_while_a_plan_is_made(
    slow_server: Any,
    robots: Connect,
    session_with_goal: Callable[[Any], str],
    observation: Observation,
) -> None:
    session = session_with_goal(slow_server)
    planning, pinging = robots(slow_server.zmq), robots(slow_server.zmq)
    planning.greet(session)
    pinging.ping()
    planning.send(observation(session))
    answered = 0
    while planning.is_silent(0.0):
        pinging.ping()
        answered += 1
    assert answered > 3  # the first would be the only one if it had to wait for the plan
    assert isinstance(planning.receive(), Act)


def test_two_robots_are_served_in_turns(
    slow_server: Any,
    robots: Connect,
    session_with_goal: Callable[[Any], str],
    observation: Observation,
) -> None:
    eager, patient = robots(slow_server.zmq), robots(slow_server.zmq)
    sessions = [session_with_goal(slow_server), session_with_goal(slow_server)]
    eager.greet(sessions[0])
    patient.greet(sessions[1])
    eager.send(observation(sessions[0], seq=0))
    patient.send(observation(sessions[1], seq=0))
    stop = threading.Event()

    def flood() -> None:
        seq = 1
        while not stop.wait(0.02):
            eager.send(observation(sessions[0], seq=seq))
            seq += 1

    thread = threading.Thread(target=flood)
    started = time.monotonic()
    thread.start()
    try:
        assert isinstance(patient.receive(), Act)
    finally:
        stop.set()
        thread.join()
    assert time.monotonic() - started < 15.0  # one plan of the other robot, then its own


def test_a_peer_beyond_all_bounds_is_cut_off_and_nobody_else(
    robot: Any, server: Any, robots: Connect
) -> None:
    robots(server.zmq).socket.send(bytes(4 * MAX_MESSAGE_BYTES + 1), zmq.NOBLOCK)
    assert robot.ping() < 10.0


def test_a_server_that_stops_says_so_and_answers_what_waits(
    run_server: Any,
    make_settings: Callable[..., Any],
    robots: Connect,
    session_with_goal: Callable[[Any], str],
    observation: Observation,
) -> None:
    endless = {"icem": {"uniform_candidates": 200_000}}
    with run_server(make_settings(planners=endless, deadline_ms=400)) as address:
        sessions = [session_with_goal(address) for _ in range(2)]
        robot = robots(address.zmq)
        for session in sessions:
            robot.greet(session)
        for session in sessions:
            robot.send(observation(session))
        for session in sessions:
            address.wait_for_observations(session)
    replies = [robot.receive() for _ in range(3)]
    assert sorted(reply.TYPE for reply in replies) == ["act", "act", "closing"]


def test_the_port_is_free_after_the_server(
    run_server: Any, make_settings: Callable[..., Any]
) -> None:
    with run_server(make_settings()) as address:
        endpoint = address.zmq
    with run_server(make_settings(zmq_endpoint=endpoint)) as address:
        assert address.zmq == endpoint


def test_a_bug_in_the_server_is_answered_and_the_next_message_too(
    server: Any, robots: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a secret of the inside")

    robot = robots(server.zmq)
    with monkeypatch.context() as broken:
        broken.setattr("planner_server.dialogue.Dialogue._welcome", fail)
        answer = robot.ask(Hello(protocol=1, client="test"))
    assert isinstance(answer, ErrorReply)
    assert answer.code == "planner_failed"
    assert "secret" not in answer.message
    robot.greet()
