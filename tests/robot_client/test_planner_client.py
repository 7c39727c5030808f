"""The ZMQ conversation over real sockets: faults of the server must not become faults of the robot."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import zmq

from robot_client import protocol
from robot_client.errors import ServerRefusedError, ServerUnreachableError
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.protocol import Act, ErrorReply, Observe
from tests.robot_client.conftest import StandIn


@pytest.fixture
def client(stand_in: Any) -> Iterator[PlannerClient]:
    with PlannerClient(ServerAddress(stand_in.endpoint)) as connected:
        connected.connect()
        yield connected


def observation(client: PlannerClient, seq: int) -> Observe:
    frame = np.zeros((8, 8, 3), np.uint8)
    return Observe(client.session, seq, time.monotonic(), frame, np.zeros(7))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_welcome_says_what_the_model_expects(client: PlannerClient) -> None:
    assert client.welcome is not None
    assert client.welcome.frame_size == (8, 8)
    assert client.control_period_s == 0.2


def test_an_observation_gets_its_plan(client: PlannerClient) -> None:
    client.send_observation(observation(client, 1))
    act = client.poll_act(2.0)
    assert isinstance(act, Act)
    assert act.seq == 1


def test_a_server_that_is_not_there_is_told_with_a_remedy_within_seconds() -> None:
    with PlannerClient(ServerAddress(f"tcp://127.0.0.1:{free_port()}")) as client:
        started = time.monotonic()
        with pytest.raises(ServerUnreachableError, match="uvicorn planner_server"):
            client.connect()
        assert time.monotonic() - started < 15.0


def test_a_listener_that_never_answers_is_told_when_the_time_is_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = ServerAddress(f"tcp://127.0.0.1:{mute.getsockname()[1]}")
        with PlannerClient(address) as client:
            started = time.monotonic()
            with pytest.raises(ServerUnreachableError):
                client.connect(timeout_s=0.5)
            assert time.monotonic() - started < 15.0


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:5555", "tcp://nowhere", "127.0.0.1:5555"])
def test_what_is_no_address_is_told_at_once(endpoint: str) -> None:
    with (
        PlannerClient(ServerAddress(endpoint)) as client,
        pytest.raises(ServerUnreachableError, match="looks like tcp://"),
    ):
        client.connect()


def test_an_unknown_session_is_refused_with_its_code(stand_in: Any) -> None:
    with PlannerClient(ServerAddress(stand_in.endpoint)) as client:
        with pytest.raises(ServerRefusedError) as caught:
            client.connect(session="gone")
        assert caught.value.code == "unknown_session"


def test_garbage_and_foreign_plans_are_passed_over(stand_in: Any, client: PlannerClient) -> None:
    def mislead(observe: Observe, send: Callable[[bytes], None]) -> None:
        send(b"\xc1 garbage")
        send(stand_in.act(observe, session="somebody-else").encode())
        send(stand_in.act(observe).encode())

    stand_in.on_observe = mislead
    client.send_observation(observation(client, 5))
    act = client.poll_act(2.0)
    assert isinstance(act, Act)
    assert (act.session, act.seq) == (client.session, 5)
    assert client.ignored_messages == 2


def test_of_several_plans_the_newest_is_returned(stand_in: Any, client: PlannerClient) -> None:
    def answer_all(observe: Observe, send: Callable[[bytes], None]) -> None:
        for seq in (1, 2, 3):
            send(stand_in.act(observe, seq=seq).encode())
        answered.set()

    answered = threading.Event()
    stand_in.on_observe = answer_all
    client.send_observation(observation(client, 1))
    assert answered.wait(5.0)
    time.sleep(0.1)  # so that all three have crossed the loopback
    act = client.poll_act(1.0)
    assert isinstance(act, Act)
    assert act.seq == 3


def test_an_error_reply_is_returned_not_raised(stand_in: Any, client: PlannerClient) -> None:
    error = ErrorReply("no_goal", "upload a goal image first", 1)
    stand_in.on_observe = lambda observe, send: send(error.encode())
    client.send_observation(observation(client, 1))
    reply = client.poll_act(1.0)
    assert isinstance(reply, ErrorReply)
    assert reply.code == "no_goal"


def test_waiting_for_a_plan_ends_with_the_time_allowed(
    stand_in: Any, client: PlannerClient
) -> None:
    stand_in.on_observe = lambda observe, send: None
    client.send_observation(observation(client, 1))
    started = time.monotonic()
    assert client.poll_act(0.15) is None
    assert 0.14 < time.monotonic() - started < 5.0


def test_a_slow_server_is_heard_and_a_dead_one_is_not(stand_in: Any, client: PlannerClient) -> None:
    stand_in.on_observe = lambda observe, send: None
    client.send_observation(observation(client, 1))
    client.poll_act(1.5)
    assert client.silence_s() < 1.0
    stand_in.die()
    client.poll_act(0.4)
    assert client.silence_s() > 0.3


def test_only_the_newest_observation_waits_for_a_server_that_comes_back(stand_in: Any) -> None:
    with PlannerClient(ServerAddress(stand_in.endpoint)) as client:
        client.connect()
        stand_in.die()
        deadline = time.monotonic() + 5.0
        while not is_gone(client) and time.monotonic() < deadline:
            time.sleep(0.02)
        for seq in range(10, 60):
            client.send_observation(observation(client, seq))
        arrived = receive_for(stand_in.endpoint, 1.0, client)
        assert arrived[-1] == 59
        assert len(arrived) <= 3  # the newest, after at most what two slots of ZMQ still held


def is_gone(client: PlannerClient) -> bool:
    """Whether ZMQ has noticed: it no longer takes messages for the old connection."""
    client.send_observation(observation(client, 1))
    return client._waiting is not None


def receive_for(endpoint: str, seconds: float, client: PlannerClient) -> list[int]:
    """Start another server at the same place; the seqs of the observations that reach it."""
    from robot_client import protocol

    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(endpoint)
    seqs: list[int] = []

    def serve() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if router.poll(10):
                message = protocol.decode(router.recv_multipart()[1])
                if isinstance(message, Observe):
                    seqs.append(message.seq)

    thread = threading.Thread(target=serve)
    thread.start()
    client.poll_act(seconds)
    thread.join()
    context.destroy(linger=0)
    return seqs


def test_a_connection_that_broke_unasked_is_greeted_again_and_orders_get_through(
    stand_in: Any,
) -> None:
    with PlannerClient(ServerAddress(stand_in.endpoint)) as client:
        session = client.connect().session
        stand_in.die()
        with closing(StandIn(zmq_port=stand_in.port)) as back:
            back.known_sessions.add(session)
            deadline = time.monotonic() + 20.0
            while not back.hellos and time.monotonic() < deadline:
                client.listen(0.05)
            assert [hello.session for hello in back.hellos] == [session]
            back.push(protocol.Pause(session, 1, "somebody is in the cell"))
            while client.orders.state != "paused" and time.monotonic() < deadline:
                client.listen(0.05)
            assert client.orders.state == "paused"


def test_the_session_is_taken_up_again_after_a_reconnection(stand_in: Any) -> None:
    with PlannerClient(ServerAddress(stand_in.endpoint)) as client:
        session = client.connect().session
        stand_in.known_sessions.add(session)
        assert client.reconnect().session == session
        assert [hello.session for hello in stand_in.hellos] == [None, session]
