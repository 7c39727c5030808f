"""A server that has run for a while takes no more memory than before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from planner_server.store.database import open_database, sqlite_url
from robot_client import codec
from robot_client.protocol import Act, Observe

ROBOTS = 8
Observation = Callable[..., Observe]


def memory_kib(pid: int) -> int:
    """Return the resident memory of a process [KiB]."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_the_databases_own_memory_is_full_after_a_few_records(tmp_path: Path) -> None:
    """SQLite's default of 2 MB takes minutes to fill, and looks like a leak until then."""
    engine = open_database(sqlite_url(tmp_path / "planner.db"))
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA cache_size")).scalar_one() == -256
    engine.dispose()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thousands_of_plans_cost_no_memory(
    start_server: Callable[..., Any],
    tmp_path: Path,
    session_with_goal: Callable[[Any], str],
    robots: Callable[[str], Any],
    observation: Observation,
    frame: Any,
) -> None:
    quick = {"icem": {"uniform_candidates": 8, "cloud_elites": []}}
    server = start_server(
        PLANNER_DATA_DIR=str(tmp_path),
        PLANNER_DEFAULT_PLANNER="icem",
        PLANNER_PLANNERS=json.dumps(quick),
    )
    jpeg = codec.encode_image(frame, "jpeg")
    sessions = [session_with_goal(server.address) for _ in range(ROBOTS)]
    connected = [robots(server.address.zmq) for _ in sessions]
    for robot, session in zip(connected, sessions, strict=True):
        robot.greet(session)

    def drive(first: int, plans: int) -> int:
        """Have every robot look twice at a time, and return the server's memory afterwards [KiB]."""
        for seq in range(first, first + 2 * plans // ROBOTS, 2):
            for robot, session in zip(connected, sessions, strict=True):
                robot.send(observation(session, seq=seq, frame=jpeg))
                robot.send(observation(session, seq=seq + 1, frame=jpeg))
            for robot in connected:
                act = robot.receive()
                while act.seq <= seq:
                    act = robot.receive()
                assert isinstance(act, Act), act
        return memory_kib(server.process.pid)

    drive(0, 1600)
    settled = drive(10_000, 400)
    assert drive(20_000, 4000) - settled < 1024  # 256 bytes a plan would be too much
