"""Real processes that are killed, stopped and started again: what was begun goes on."""

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from robot_client.protocol import (
    Ack,
    Act,
    Closing,
    ErrorReply,
    Hello,
    Observe,
    Pause,
    Ping,
    Welcome,
)

Start = Callable[..., Any]
Observation = Callable[..., Observe]
SLOW = {
    "PLANNER_PLANNERS": '{"icem": {"uniform_candidates": 200000}}',
    "PLANNER_DEFAULT_PLANNER": "icem",
    "PLANNER_DEADLINE_MS": "800",
}


def get(address: Any, path: str) -> Any:
    return httpx.get(f"{address.url}{path}").raise_for_status().json()


def test_a_server_killed_in_the_middle_of_a_plan_goes_on_where_it_was(
    start_server: Start,
    free_endpoint: Callable[[], str],
    tmp_path: Path,
    robots: Callable[[str], Any],
    session_with_goal: Callable[[Any], str],
    observation: Observation,
    goal_png: bytes,
) -> None:
    place = {"PLANNER_DATA_DIR": str(tmp_path), "PLANNER_ZMQ_ENDPOINT": free_endpoint(), **SLOW}
    server = start_server(**place)
    session = session_with_goal(server.address)
    robot = robots(server.address.zmq)
    robot.send(Hello(protocol=1, client="t", session=session, instance="me"))
    assert isinstance(robot.receive(), Welcome)
    robot.send(observation(session, seq=0))
    before = robot.receive()
    assert isinstance(before, Act)
    other = session_with_goal(server.address)
    httpx.post(f"{server.address.url}/v1/sessions/{other}/pause").raise_for_status()
    cut_off = session_with_goal(server.address, deadline_ms=10_000)
    robot.greet(cut_off)
    robot.send(observation(cut_off, seq=0))
    server.address.wait_until_planning(cut_off)
    server.stop(signal.SIGKILL)

    server = start_server(**place)
    info = get(server.address, f"/v1/sessions/{session}")
    assert [goal["width"] for goal in info["goals"]] == [48]
    image = httpx.get(f"{server.address.url}/v1/sessions/{session}/goals/0/image")
    assert image.content == goal_png
    # The old connection comes back by itself, and is told to say hello again.
    robot.send(observation(session, seq=2))
    while isinstance(reply := robot.receive(), Act):
        pass
    assert isinstance(reply, ErrorReply)
    assert reply.code == "unauthorised"
    robot.send(Hello(protocol=1, client="t", session=session, instance="me"))
    welcome = robot.receive()
    assert isinstance(welcome, Welcome)
    assert (welcome.session, welcome.goals) == (session, 1)
    after = robot.ask(observation(session, seq=0))
    assert isinstance(after, Act)
    assert after.energy_now == pytest.approx(before.energy_now, rel=1e-4)
    seqs = [plan["seq"] for plan in get(server.address, f"/v1/sessions/{session}/plans")["plans"]]
    assert seqs == [0, 0]  # of both lives
    assert get(server.address, f"/v1/sessions/{cut_off}/plans")["plans"] == []
    paused = robots(server.address.zmq)
    paused.send(Hello(protocol=1, client="t", session=other))
    replies = [paused.receive(), paused.receive()]
    assert any(isinstance(reply, Welcome) and reply.state == "paused" for reply in replies)
    assert any(isinstance(reply, Pause) for reply in replies)
    assert server.stop() == -signal.SIGTERM  # uvicorn ends by the signal that it was sent


def test_a_server_that_is_asked_to_stop_drains_tells_robots_and_ends_streams(
    start_server: Start,
    robots: Callable[[str], Any],
    session_with_goal: Callable[[Any], str],
    observation: Observation,
) -> None:
    server = start_server(**SLOW)
    session = session_with_goal(server.address)
    robot = robots(server.address.zmq)
    robot.greet(session)
    kinds: list[str] = []
    listening = threading.Event()

    def watch() -> None:
        with (
            server.address.http() as http,
            http.stream("GET", f"/v1/sessions/{session}/stream") as s,
        ):
            for line in s.iter_lines():
                if line.startswith("event: "):
                    kinds.append(line.removeprefix("event: "))
                    listening.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert listening.wait(20)
    robot.send(observation(session))
    server.address.wait_for_observations(session)
    assert server.stop() == -signal.SIGTERM  # uvicorn ends by the signal that it was sent
    watcher.join(20)
    assert not watcher.is_alive()
    replies = [robot.receive(), robot.receive()]
    assert {type(reply) for reply in replies} == {Act, Closing}
    assert kinds[0] == "session"
    assert "shutdown complete" in "".join(server.log)
    assert "Traceback" not in "".join(server.log)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_reported_and_planning_goes_on(
    run_server: Any,
    make_settings: Callable[..., Any],
    small_disk: Path,
    robots: Callable[[str], Any],
    session_with_goal: Callable[[Any], str],
    observation: Observation,
) -> None:
    with run_server(make_settings(data_dir=small_disk)) as address:
        session = session_with_goal(address)
        robot = robots(address.zmq)
        robot.greet(session)
        filler = small_disk / "filler"
        fill(filler)
        deadline = time.monotonic() + 60
        seq = 0
        while not unrecorded(robot.ask(observation(session, seq=seq))):
            assert time.monotonic() < deadline, "the disk never filled"
            seq += 1
        assert "disk" in get(address, "/readyz")["problem"]
        filler.unlink()
        while get(address, "/readyz")["problem"] is not None:
            assert time.monotonic() < deadline, "the server did not recover"
            time.sleep(0.1)
        assert not unrecorded(robot.ask(observation(session, seq=seq + 1)))
        plans = f"/v1/sessions/{session}/plans?limit=1000"
        while len(get(address, plans)["plans"]) < seq + 2:  # none was lost
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_quota_that_is_used_up_is_reported_and_planning_goes_on(
    start_server: Start,
    tmp_path: Path,
    robots: Callable[[str], Any],
    session_with_goal: Callable[[Any], str],
    observation: Observation,
) -> None:
    """As a small disk, for whoever may not mount one: the server may write to no file beyond its first byte."""
    server = start_server(PLANNER_DATA_DIR=str(tmp_path))
    session = session_with_goal(server.address)
    robot = robots(server.address.zmq)
    robot.greet(session)
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, before[1]))
    deadline = time.monotonic() + 60
    seq = 0
    while not unrecorded(robot.ask(observation(session, seq=seq))):
        assert time.monotonic() < deadline, "the quota was never used up"
        seq += 1
    assert "disk" in get(server.address, "/readyz")["problem"]
    assert isinstance(robot.ask(observation(session, seq=seq + 1)), Act)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
    while get(server.address, "/readyz")["problem"] is not None:
        assert time.monotonic() < deadline, "the server did not recover"
        time.sleep(0.1)
    plans = f"/v1/sessions/{session}/plans?limit=1000"
    while len(get(server.address, plans)["plans"]) < seq + 2:  # none was lost
        assert time.monotonic() < deadline
        time.sleep(0.1)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def unrecorded(act: Any) -> bool:
    assert isinstance(act, Act), act
    return any("not being recorded" in warning for warning in act.warnings)


def test_a_robot_that_only_pings_keeps_its_session_for_the_next_server(
    run_server: Any,
    make_settings: Callable[..., Any],
    robots: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    settings = make_settings(data_dir=tmp_path, session_idle_s=8.0)
    with run_server(settings) as address:
        robot = robots(address.zmq)
        session = robot.greet().session
        httpx.post(f"{address.url}/v1/sessions/{session}/pause").raise_for_status()
        assert isinstance(robot.receive(), Pause)
        robot.send(Ack(session=session, order=1))
        with contextlib.closing(sqlite3.connect(tmp_path / "planner.db")) as database:

            def used_at() -> float:
                return float(database.execute("SELECT used_at FROM sessions").fetchone()[0])

            paused_at, deadline = used_at(), time.monotonic() + 20
            while used_at() < paused_at + 1.0:
                assert time.monotonic() < deadline, "its use is not saved"
                robot.send(Ping(t=0.0))
                time.sleep(0.1)


def test_servers_that_share_a_database_share_sessions_goals_and_orders(
    run_server: Any,
    make_settings: Callable[..., Any],
    postgres_url: str,
    robots: Callable[[str], Any],
    session_with_goal: Callable[[Any], str],
    observation: Observation,
) -> None:
    shared = make_settings(database_url=postgres_url)
    with run_server(shared) as here, run_server(shared) as there:
        session = session_with_goal(here)
        robot = robots(there.zmq)
        assert robot.greet(session).goals == 1  # made at the other one
        assert isinstance(robot.ask(observation(session)), Act)
        httpx.post(f"{here.url}/v1/sessions/{session}/pause").raise_for_status()
        assert isinstance(robot.receive(), Pause)
        httpx.delete(f"{there.url}/v1/sessions/{session}").raise_for_status()
        deadline = time.monotonic() + 20
        while httpx.get(f"{here.url}/v1/sessions/{session}").status_code != 404:
            assert time.monotonic() < deadline
            time.sleep(0.1)
