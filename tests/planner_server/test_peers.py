"""Which connection is whose: greetings, and who is forgotten when there are too many."""

from collections.abc import Callable
from typing import Any

import pytest
import zmq

from planner_server.errors import PlannerError
from planner_server.peers import TAKE_OVER_AFTER_S, Peers, Sender
from planner_server.security.tokens import EVERYBODY
from robot_client.protocol import Act, ErrorReply, Hello, Observe, Welcome, decode


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sender(number: int, identity: bytes | None = None) -> Sender:
    return Sender(identity or str(number).encode(), str(number))


def greet(peers: Peers, number: int, session: str) -> None:
    peers.greet(sender(number), EVERYBODY, session, instance=None)


def test_any_number_of_connections_that_hold_nothing_never_displace_a_working_robot(
    clock: Clock,
) -> None:
    peers = Peers(clock, most=4)
    greet(peers, 0, "work")
    for number in range(1, 50):
        clock.now_s += 10.0  # the robot is the one that was not heard for the longest time
        greet(peers, number, "toy")  # every one takes it from the one before
    assert len(peers) == 4
    holder = peers.holder("work")
    assert holder is not None
    assert holder.sender == sender(0)


def test_of_those_that_hold_nothing_the_longest_silent_goes_first(clock: Clock) -> None:
    peers = Peers(clock, most=3)
    for number in range(3):
        greet(peers, number, "toy")
        clock.now_s += 1.0
    assert peers.find(sender(0)) is not None  # heard just now
    greet(peers, 3, "toy")
    assert peers.find(sender(0)) is not None
    assert peers.find(sender(1)) is None


def test_where_all_are_at_work_a_newcomer_is_refused_until_one_falls_silent(clock: Clock) -> None:
    peers = Peers(clock, most=2)
    greet(peers, 0, "a")
    greet(peers, 1, "b")
    with pytest.raises(PlannerError, match="2 robots are at work") as caught:
        greet(peers, 2, "c")
    assert caught.value.code == "too_many_sessions"
    clock.now_s += TAKE_OVER_AFTER_S
    peers.find(sender(1))
    greet(peers, 2, "c")
    assert peers.holder("a") is None
    assert peers.holder("b") is not None


def test_a_session_that_is_over_holds_nobodys_place(clock: Clock) -> None:
    peers = Peers(clock)
    for number in range(5):
        greet(peers, 0, f"s{number}")
    peers.release_all_but({"s4"})
    robot = peers.find(sender(0))
    assert robot is not None
    assert list(robot.newest_seq) == peers.held_by(robot) == ["s4"]


def test_nobody_is_told_under_a_routing_id_that_the_next_connection_has(clock: Clock) -> None:
    peers = Peers(clock)
    before, after = sender(1, b"same"), sender(2, b"same")
    peers.greet(before, EVERYBODY, "s", None)
    assert peers.greet(after, EVERYBODY, "s", None) is None
    assert peers.find(after) is peers.holder("s")


@pytest.fixture
def dealer() -> Any:
    """Connect DEALERs that choose their routing id."""
    context: zmq.Context[Any] = zmq.Context()
    made: list[Any] = []

    def connect(endpoint: str, routing_id: bytes) -> Any:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, routing_id)
        socket.connect(endpoint)
        made.append(socket)
        return socket

    yield connect
    for socket in made:
        socket.close(linger=0)
    context.destroy(linger=0)


def test_whoever_comes_under_a_robots_routing_id_has_not_said_hello(
    server: Any,
    dealer: Callable[[str, bytes], Any],
    session_with_goal: Callable[[Any], str],
    observation: Callable[..., Observe],
) -> None:
    session = session_with_goal(server)
    robot = dealer(server.zmq, b"arm")
    robot.send(Hello(1, "robot", session=session).encode())
    assert isinstance(decode(robot.recv()), Welcome)
    robot.send(observation(session, seq=1).encode())
    assert isinstance(decode(robot.recv()), Act)
    robot.close(linger=0)  # its cable is pulled
    for _ in range(
        40
    ):  # until the server has noticed that, nobody else gets in under its routing id
        stranger = dealer(server.zmq, b"arm")
        stranger.send(observation(session, seq=2).encode())
        if stranger.poll(500):
            break
        stranger.close(linger=0)
    reply = decode(stranger.recv())
    assert isinstance(reply, ErrorReply)
    assert reply.code == "unauthorised"
    stranger.send(Hello(1, "the robot, back", session=session).encode())
    assert isinstance(decode(stranger.recv()), Welcome)
    stranger.send(observation(session, seq=0).encode())
    assert isinstance(decode(stranger.recv()), Act)
