"""Orders from the button to the arm and back: stop all, acknowledgements with their times, the audit."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from planner_server.orders import GivenOrder, OrderBook, wait_until_settled
from planner_server.store.archive import Archive
from robot_client.protocol import Ack, Order, Pause, Resume, Stop


class ObedientRobot:
    """Holds a session and answers every order with the acknowledgements it is given."""

    def __init__(self, robot: Any, session: str, arms: tuple[str, ...]) -> None:
        self._robot, self._arms = robot, arms
        self._ending = threading.Event()
        self.heard: list[Order] = []
        robot.greet(session)
        self._thread = threading.Thread(target=self._obey)
        self._thread.start()

    def _obey(self) -> None:
        while not self._ending.is_set():
            if self._robot.is_silent(0.02):
                continue
            order = self._robot.receive()
            if not isinstance(order, Pause | Resume | Stop):
                continue
            self.heard.append(order)
            for arm in self._arms:
                self._robot.send(Ack(session=order.session, order=order.order, arm=arm))

    def end(self) -> None:
        self._ending.set()
        self._thread.join()


@pytest.fixture
def drive(robots: Callable[[str], Any]) -> Iterator[Callable[..., ObedientRobot]]:
    driven: list[ObedientRobot] = []

    def start(address: Any, session: str, *arms: str) -> ObedientRobot:
        driven.append(ObedientRobot(robots(address.zmq), session, arms))
        return driven[-1]

    yield start
    for robot in driven:
        robot.end()


def new_session(http: Any) -> str:
    return str(http.post("/v1/sessions").raise_for_status().json()["id"])


def forget_sessions_of_other_tests(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()


def ordered(book: OrderBook, *arms: str) -> GivenOrder:
    given = book.give("s1", 1)
    given.is_connected = True
    for arm in arms:
        book.acknowledge(Ack("s1", 1, arm))
    return given


def test_an_arm_that_stands_is_later_than_its_first_answer_and_stays_standing() -> None:
    now = [100.0]
    book = OrderBook(lambda: now[0])
    given = book.give("s1", 1)
    now[0] += 0.04
    assert book.acknowledge(Ack("s1", 1, "stopping")) is given
    now[0] += 0.1
    assert book.acknowledge(Ack("s1", 1, "stopping")) is None
    assert book.acknowledge(Ack("s1", 1, "standing")) is given
    now[0] += 1.0
    assert book.acknowledge(Ack("s1", 1, "stopping")) is None
    assert (given.arm, round(given.obeyed_ms or 0), round(given.standing_ms or 0)) == (
        "standing", 40, 140,
    )  # fmt: skip
    assert book.acknowledge(Ack("s1", 2, "standing")) is None
    assert book.acknowledge(Ack("s2", 1, "standing")) is None


def test_waiting_ends_with_the_last_arm_at_rest_and_not_with_the_first_answer() -> None:
    async def is_waiting(*arms: str) -> bool:
        wait = asyncio.ensure_future(wait_until_settled([ordered(OrderBook(), *arms)], 60.0))
        _, waiting = await asyncio.wait({wait}, timeout=0.1)
        wait.cancel()
        return bool(waiting)

    assert asyncio.run(is_waiting())
    assert asyncio.run(is_waiting("stopping"))
    assert not asyncio.run(is_waiting("stopping", "standing"))
    assert not asyncio.run(is_waiting("unknown"))


def test_stop_all_stops_every_robot_and_says_when_each_stood(
    run_server: Any, make_settings: Any, drive: Any
) -> None:
    with run_server(make_settings()) as address, address.http() as http:
        first, second, alone = (new_session(http) for _ in range(3))
        robots = [
            drive(address, first, "standing"),
            drive(address, second, "stopping", "standing"),
        ]
        answer = http.post("/v1/stop-all", json={"reason": "smoke"}).raise_for_status().json()
        stopped = {each["id"]: each for each in answer["sessions"]}
        assert stopped.keys() == {first, second, alone}
        for session in (first, second):
            assert stopped[session]["is_connected"]
            assert stopped[session]["arm"] == "standing"
            assert 0 <= stopped[session]["obeyed_ms"] <= stopped[session]["standing_ms"]
        assert answer["standing_ms"] == max(stopped[s]["standing_ms"] for s in (first, second))
        assert stopped[alone] == {
            "id": alone, "order": 1, "is_connected": False, "is_obeyed": False,
            "arm": None, "obeyed_ms": None, "standing_ms": None,
        }  # fmt: skip
        for robot in robots:
            assert isinstance(robot.heard[0], Stop)
            assert robot.heard[0].reason == "smoke"
        states = {s["id"]: s["state"] for s in http.get("/v1/sessions").json()["sessions"]}
        assert set(states.values()) == {"stopped"}


def test_a_silent_robot_does_not_keep_stop_all_from_answering(
    run_server: Any, make_settings: Any, robots: Callable[[str], Any]
) -> None:
    with run_server(make_settings()) as address, address.http() as http:
        session = new_session(http)
        robots(address.zmq).greet(session)
        (stopped,) = http.post("/v1/stop-all").raise_for_status().json()["sessions"]
        assert stopped["is_connected"]
        assert not stopped["is_obeyed"]


@pytest.mark.parametrize("arm", ["unknown", "stopping"])
def test_an_order_is_not_obeyed_before_the_arm_is_known_to_stand(
    run_server: Any, make_settings: Any, robots: Callable[[str], Any], arm: str
) -> None:
    with run_server(make_settings()) as address, address.http() as http:
        session, robot = new_session(http), robots(address.zmq)

        def wait_for(said: str) -> dict[str, Any]:
            deadline = time.monotonic() + 20
            while (info := http.get(f"/v1/sessions/{session}").json())["arm"] != said:
                assert time.monotonic() < deadline, info
                time.sleep(0.02)
            return dict(info)

        robot.greet(session)
        given = http.post(f"/v1/sessions/{session}/stop").raise_for_status().json()
        assert (given["arm"], given["is_order_obeyed"]) == (None, False)
        robot.send(Ack(session, 1, arm))
        assert not wait_for(arm)["is_order_obeyed"]
        while not robot.is_silent(1.2):  # what was under way already: it has heard the order
            assert isinstance(robot.receive(), Stop)
        robot.send(Ack(session, 1, "standing"))
        assert wait_for("standing")["is_order_obeyed"]
        robot.send(Ack(session, 1, arm))  # late, or for the order repeated
        robot.ping()
        assert wait_for("standing")["is_order_obeyed"]
        assert http.post(f"/v1/sessions/{session}/resume").json()["arm"] is None


def test_the_audit_says_who_ordered_what_and_when_it_was_obeyed(
    run_server: Any, make_settings: Any, drive: Any
) -> None:
    with run_server(make_settings()) as address, address.http() as http:
        session = new_session(http)
        drive(address, session, "stopping", "standing")
        http.post("/v1/stop-all", json={"reason": "smoke"}).raise_for_status()
        events = http.get("/v1/audit").json()["events"]
        (order,) = [each for each in events if each["kind"] == "order_stopped"]
        assert (order["session_id"], order["actor"], order["detail"], order["order_number"]) == (
            session, "anybody", "smoke", 1,
        )  # fmt: skip
        assert order["at"] <= order["acknowledged_at"] <= order["standing_at"]
        answers = [e["detail"] for e in events if e["kind"] == "order_acknowledged"]
        assert answers == ["1: standing", "1: stopping"]
        ids = [each["id"] for each in events]
        assert ids == sorted(ids, reverse=True)
        older = http.get("/v1/audit", params={"before": ids[1], "limit": 2}).json()["events"]
        assert [each["id"] for each in older] == ids[2:4]


def test_whoever_watches_sees_both_acknowledgements_with_their_times(
    run_server: Any, make_settings: Any, drive: Any
) -> None:
    with run_server(make_settings()) as address, address.http() as http:
        session = new_session(http)
        drive(address, session, "stopping", "standing")
        seen: list[dict[str, Any]] = []
        with http.stream("GET", f"/v1/sessions/{session}/stream") as stream:
            lines = stream.iter_lines()
            assert "event: session" in next(lines)
            http.post(f"/v1/sessions/{session}/pause").raise_for_status()
            for line in lines:
                if line == "event: acknowledged":
                    seen.append(json.loads(next(lines).removeprefix("data: ")))
                if len(seen) == 2:
                    break
        assert [each["arm"] for each in seen] == ["stopping", "standing"]
        assert seen[0]["standing_ms"] is None
        assert 0 <= seen[1]["after_ms"] <= seen[1]["standing_ms"]


def test_stop_all_says_what_it_does_not_know_of_other_replicas(
    run_server: Any, make_settings: Any, postgres_url: str
) -> None:
    forget_sessions_of_other_tests(postgres_url)
    full = make_settings(database_url=postgres_url, max_sessions=1)
    roomy = make_settings(database_url=postgres_url)
    with (
        run_server(full) as here,
        run_server(roomy) as there,
        here.http() as http_here,
        there.http() as http_there,
    ):
        mine, other = new_session(http_here), new_session(http_there)
        answer = http_here.post("/v1/stop-all").raise_for_status().json()
        assert [each["id"] for each in answer["sessions"]] == [mine]
        assert other in answer["problem"]
        answer = http_there.post("/v1/stop-all").raise_for_status().json()
        assert {each["id"] for each in answer["sessions"]} == {mine, other}
        assert answer["problem"] is None
        # Whether a robot was told, only its own replica knows.
        assert {each["is_connected"] for each in answer["sessions"]} == {None}


def test_a_session_whose_row_cannot_be_read_keeps_no_other_from_being_stopped(
    run_server: Any, make_settings: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_sessions_of_other_tests(postgres_url)
    settings = make_settings(database_url=postgres_url)
    with (
        run_server(settings) as here,
        run_server(settings) as there,
        here.http() as http_here,
        there.http() as http_there,
    ):
        lost, other = new_session(http_there), new_session(http_there)
        find = Archive.find_session

        def find_all_but_one(self: Archive, session_id: str, idle_s: float) -> Any:
            if session_id == lost:
                raise OperationalError("SELECT", {}, Exception("connection reset"))
            return find(self, session_id, idle_s)

        monkeypatch.setattr(Archive, "find_session", find_all_but_one)
        answer = http_here.post("/v1/stop-all").raise_for_status().json()
        assert [each["id"] for each in answer["sessions"]] == [other]
        assert lost in answer["problem"]


def test_only_operators_may_stop_everything(run_server: Any, make_settings: Any) -> None:
    settings = make_settings(token="secret")
    with run_server(settings, "secret") as address:
        with address.http() as http:
            assert http.post("/v1/stop-all").status_code == 401
        with address.http(headers={"Authorization": "Bearer secret"}) as http:
            assert http.post("/v1/stop-all").json()["sessions"] == []
