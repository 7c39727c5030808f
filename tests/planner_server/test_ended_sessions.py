"""Sessions that somebody else than their robot ends, or that a server has lost: the robot does not move on."""

import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from robot_client.cameras.testcard import TestCard
from robot_client.loop import ControlLoop
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.protocol import Act, ErrorReply, Hello, Message, Observe, Stop, Welcome
from robot_client.records import Event, RunEnd
from robot_client.rest import RestClient, SessionOptions
from robot_client.server_link import ServerLink
from robot_client.tasks import SubGoal, Task
from tests.robot_client.conftest import WatchedArm

Observation = Callable[..., Observe]

TASK = Task(
    name="long",
    description="More steps than anybody waits for.",
    sub_goals=(SubGoal(name="a", max_steps=50),),
    settled_step_m=0.0,
    stop_after_missed=30,
)


class RobotAtWork:
    """The robot client with an arm that notes what it was told, in a thread of its own."""

    def __init__(self, url: str, endpoint: str, goal: bytes) -> None:
        self.arm, self.events = WatchedArm(), list[Event]()
        self.end: RunEnd | None = None
        self._link = ServerLink(
            PlannerClient(ServerAddress(endpoint)), RestClient(url), SessionOptions(), [goal]
        )
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        self._link.open()
        try:
            self.end = ControlLoop(
                arm=self.arm,
                camera=TestCard(),
                link=self._link,
                task=TASK,
                is_moving_allowed=True,
                on_step=lambda _: None,
                on_event=self.events.append,
            ).run()
        finally:
            self._link.close()

    def wait_for_moves(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while self.arm.names().count("move") < count:
            assert time.monotonic() < deadline, "it never moved"
            time.sleep(0.002)

    def moves_after(self, when: float) -> int:
        return sum(name == "move" and at > when for name, at in self.arm.calls)

    def wait_for_end(self) -> RunEnd:
        self._thread.join(60)
        assert self.end is not None, "the run goes on"
        return self.end


def told(reply: Message) -> str:
    assert isinstance(reply, ErrorReply), reply
    return reply.code


def test_a_robot_is_told_at_once_that_its_session_was_deleted_and_not_welcomed_again(
    run_server: Any, make_settings: Any, robots: Callable[[str], Any]
) -> None:
    with run_server(make_settings()) as address, address.http() as http:
        robot = robots(address.zmq)
        session = robot.greet().session
        http.delete(f"/v1/sessions/{session}").raise_for_status()
        reply = robot.receive()
        assert told(reply) == "session_ended"
        assert reply.seq is None
        assert "hold the arm" in reply.message
        assert robot.is_silent(1.2)  # once is enough, and what it ends itself it is not told
        assert told(robot.ask(Hello(protocol=1, client="t", session=session))) == "session_ended"
        assert robot.greet().session != session


def test_a_session_that_was_deleted_is_known_as_such_by_the_next_process(
    run_server: Any, make_settings: Any, robots: Callable[[str], Any], tmp_path: Any
) -> None:
    settings = make_settings(data_dir=tmp_path)
    with run_server(settings) as address, address.http() as http:
        session = http.post("/v1/sessions").json()["id"]
        http.delete(f"/v1/sessions/{session}").raise_for_status()
    with run_server(settings) as address:
        robot = robots(address.zmq)
        assert told(robot.ask(Hello(protocol=1, client="t", session=session))) == "session_ended"
        assert told(robot.ask(Hello(protocol=1, client="t", session="x"))) == "unknown_session"


def test_a_robot_is_told_of_the_end_that_another_replica_made(
    run_server: Any, make_settings: Any, postgres_url: str, robots: Callable[[str], Any]
) -> None:
    settings = make_settings(database_url=postgres_url)
    with run_server(settings) as here, run_server(settings) as there:
        robot = robots(here.zmq)
        session = robot.greet().session
        httpx.delete(f"{there.url}/v1/sessions/{session}").raise_for_status()
        assert told(robot.receive()) == "session_ended"
        other = robots(there.zmq)
        assert told(other.ask(Hello(protocol=1, client="t", session=session))) == "session_ended"


def test_a_plan_that_was_under_way_when_its_session_ended_is_not_sent(
    slow_server: Any,
    robots: Callable[[str], Any],
    session_with_goal: Callable[[Any], str],
    observation: Observation,
) -> None:
    session, robot = session_with_goal(slow_server), robots(slow_server.zmq)
    robot.greet(session)
    robot.send(observation(session))
    slow_server.wait_until_planning(session)
    with slow_server.http() as http:
        http.delete(f"/v1/sessions/{session}").raise_for_status()
    replies = [robot.receive(), robot.receive()]
    assert told(replies[0]) == "session_ended"
    assert not any(isinstance(reply, Act) for reply in replies)


def test_a_robot_whose_session_is_deleted_holds_in_its_motion_and_ends_its_run(
    run_server: Any, make_settings: Any, goal_png: bytes
) -> None:
    with run_server(make_settings()) as address, address.http() as http:
        robot = RobotAtWork(address.url, address.zmq, goal_png)
        robot.wait_for_moves(2)
        (session,) = http.get("/v1/sessions").json()["sessions"]
        http.delete(f"/v1/sessions/{session['id']}").raise_for_status()
        assert "session_ended" in robot.wait_for_end().reason
        assert robot.arm.names()[-2:] == ["hold", "stop"]
        assert robot.arm.names().count("move") <= 3
        assert http.get("/v1/sessions").json()["sessions"] == []  # it opened none by itself


def test_a_session_in_the_place_of_a_lost_one_begins_stopped_where_everything_was_stopped(
    run_server: Any, make_settings: Any, robots: Callable[[str], Any]
) -> None:
    def begin(**query: str) -> tuple[str, str, int]:
        made = http.post("/v1/sessions", params=query).raise_for_status().json()
        return made["id"], made["state"], made["order"]

    with run_server(make_settings()) as address, address.http() as http:
        assert begin(replaces="lost")[1:] == ("running", 0)
        http.post("/v1/stop-all", json={"reason": "smoke"}).raise_for_status()
        assert begin()[1:] == ("running", 0)  # a new run is somebody's wish
        session, state, number = begin(replaces="lost")
        assert (state, number) == ("stopped", 1)
        robot = robots(address.zmq)
        robot.send(Hello(protocol=1, client="t", session=session))
        replies = [robot.receive(), robot.receive()]
        assert [each.reason for each in replies if isinstance(each, Stop)] == ["smoke"]
        assert [each.state for each in replies if isinstance(each, Welcome)] == ["stopped"]


def test_a_robot_of_which_a_restarted_server_knows_nothing_obeys_an_order_to_stop_everything(
    start_server: Callable[..., Any], free_endpoint: Callable[[], str], goal_png: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    url, endpoint = f"http://127.0.0.1:{port}", free_endpoint()
    answered: list[float] = []

    def press() -> None:
        while not answered:
            try:
                answer = httpx.post(f"{url}/v1/stop-all", json={"reason": "smoke"})
                answered.extend([time.monotonic()] if answer.is_success else [])
            except httpx.HTTPError:
                time.sleep(0.005)

    server = start_server("--port", port, PLANNER_ZMQ_ENDPOINT=endpoint)
    robot = RobotAtWork(url, endpoint, goal_png)
    robot.wait_for_moves(2)
    server.stop(signal.SIGKILL)  # every one of these has a disk of its own: what was open is lost
    presser = threading.Thread(target=press)
    presser.start()
    start_server("--port", port, PLANNER_ZMQ_ENDPOINT=endpoint)
    presser.join(60)
    end = robot.wait_for_end()
    assert "ordered a stop: smoke" in end.reason
    assert robot.moves_after(answered[0]) == 0
    assert "reconnected" in [event.kind for event in robot.events]
