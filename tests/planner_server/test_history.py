"""The past, looked at again: sessions that are over, their course, and what their robots saw."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, insert, text

from planner_server.orders import GivenOrder
from planner_server.store import database
from planner_server.store.database import open_database, sqlite_url
from planner_server.store.history import History
from planner_server.store.rows import Retention, delete_old
from planner_server.store.tables import events, plans, sessions
from planner_server.store.writer import Writer
from robot_client.protocol import Ack


@pytest.fixture
def plan(
    frame: np.ndarray, encode_png: Callable[..., bytes], pose: list[float]
) -> Callable[..., None]:
    """Have one observation of a session planned; `shade` makes its frame another one."""

    def ask(http: Any, session: str, shade: int = 0) -> None:
        files = {"frame": encode_png(np.bitwise_xor(frame, np.uint8(shade)))}
        http.post(
            f"/v1/sessions/{session}/plan", files=files, data={"state": str(pose)}
        ).raise_for_status()

    return ask


def listed(http: Any, **query: Any) -> dict[str, Any]:
    return dict(http.get("/v1/history/sessions", params=query).raise_for_status().json())


def test_a_session_that_is_over_is_still_told_of(
    run_server: Any, make_settings: Any, session_with_goal: Any, plan: Any
) -> None:
    with run_server(make_settings()) as address, address.http() as http:
        session = session_with_goal(address, task="tidy up")
        for shade in range(3):
            plan(http, session, shade)
        (now,) = listed(http)["sessions"]
        assert (now["is_open"], now["ended_at"]) == (True, None)
        http.delete(f"/v1/sessions/{session}").raise_for_status()
        (past,) = listed(http)["sessions"]
        assert (past["id"], past["task"], past["plans"]) == (session, "tidy up", 3)
        assert not past["is_open"]
        assert past["created_at"] <= past["ended_at"]
        course = http.get(f"/v1/history/sessions/{session}").json()["plans"]
        assert [each["seq"] for each in course] == sorted(each["seq"] for each in course)
        assert past["energy_first"] == course[0]["energy_now"]
        assert past["energy_last"] == course[-1]["energy_now"]


def test_reading_on_page_by_page_finds_every_session_once(
    run_server: Any, make_settings: Any
) -> None:
    with run_server(make_settings()) as address, address.http() as http:
        made = [http.post("/v1/sessions").json()["id"] for _ in range(5)]
        found: list[str] = []
        page = listed(http, limit=2)
        while page["sessions"]:
            found += [each["id"] for each in page["sessions"]]
            page = listed(http, limit=2, before=page["next"]) if page["next"] else {"sessions": []}
        assert found == made[::-1]


def test_what_the_robot_saw_is_kept_as_a_small_picture_whether_or_not_anybody_watched(
    run_server: Any, make_settings: Any, session_with_goal: Any, plan: Any
) -> None:
    with run_server(make_settings()) as address, address.http() as http:
        session = session_with_goal(address)
        plan(http, session)
        (moment,) = http.get(f"/v1/history/sessions/{session}").json()["plans"]
        path = f"/v1/history/frames/{moment['frame_sha256']}"
        deadline = time.monotonic() + 20
        while (answer := http.get(path)).status_code == 404:
            assert time.monotonic() < deadline, "the picture was never kept"
            time.sleep(0.05)
        picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (48, 48, 3)
        assert "immutable" in answer.headers["cache-control"]
        (moment,) = http.get(f"/v1/history/sessions/{session}").json()["plans"]
        assert moment["has_frame"]
        assert http.get(f"/v1/history/frames/{'0' * 64}").status_code == 404
        assert http.get("/v1/history/frames/..%2F..").status_code in (404, 422)


def test_no_picture_is_kept_where_none_is_wanted(
    run_server: Any, make_settings: Any, session_with_goal: Any, plan: Any
) -> None:
    with run_server(make_settings(retain_frames=0)) as address, address.http() as http:
        session = session_with_goal(address)
        plan(http, session, 0)
        plan(http, session, 1)
        first, _ = http.get(f"/v1/history/sessions/{session}").json()["plans"]
        assert not first["has_frame"]
        assert http.get(f"/v1/history/frames/{first['frame_sha256']}").status_code == 404


@pytest.fixture(params=["sqlite", "postgresql"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = sqlite_url(tmp_path / "planner.db")
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
    engine = open_database(url)
    writer = Writer(engine)
    yield History(engine, writer)
    writer.close()
    engine.dispose()


@pytest.mark.parametrize(("count", "limit"), [(1, 2), (7, 7), (7, 3), (100, 9)])
def test_a_long_course_is_thinned_out_evenly(history: History, count: int, limit: int) -> None:
    with history._engine.begin() as connection:
        for seq in range(count):
            for owner in ("s1", "another"):
                connection.execute(
                    text(
                        "INSERT INTO plans (at, session_id, seq, record) VALUES (:s, :o, :s, '{}')"
                    ),
                    {"s": seq, "o": owner},
                )
    seqs = [each["seq"] for each in history.course("s1", limit)]
    assert len(seqs) <= limit
    assert seqs[0] == 0
    steps = set(np.diff(seqs).tolist())
    assert len(steps) <= 1
    assert count - 1 - seqs[-1] < max(steps, default=1)


def test_an_order_is_obeyed_once_and_stands_later(history: History) -> None:
    with history._engine.begin() as connection:
        connection.execute(
            insert(events).values(
                at=1.0, session_id="s1", kind="order_paused", actor="me", detail="", order_number=3
            )
        )
    given = GivenOrder("s1", 3, given_s=0.0, given_at=100.0)
    for arm, after_ms in (("stopping", 50.0), ("standing", 200.0)):
        given.note(arm, after_ms)
        history.save_obedience(Ack("s1", 3, arm), given)
    history.save_obedience(Ack("s1", 3, "standing"), None)  # told again after a restart
    history.save_obedience(Ack("s2", 3, "standing"), None)
    (order,) = history.audit(None, 10)
    assert (order["acknowledged_at"], order["standing_at"]) == (100.05, 100.2)


def test_sessions_are_told_of_by_their_first_and_last_plans(history: History) -> None:
    with history._engine.begin() as connection:
        for name, created_at in (("s1", 1.0), ("s2", 2.0)):
            connection.execute(
                insert(sessions).values(
                    id=name, created_at=created_at, used_at=5.0, options={"task": name},
                    state="running", order_number=0, goal_index=0, goal_steps=0, revision=0,
                )
            )  # fmt: skip
        for energy in (0.9, 0.5, 0.2):
            record = {"energy_now": energy}
            connection.execute(insert(plans).values(at=1.0, session_id="s1", seq=0, record=record))
    newest, oldest = history.sessions(None, 10)
    assert (newest.id, newest.plans, newest.energy_first) == ("s2", 0, None)
    assert (oldest.plans, oldest.energy_first, oldest.energy_last) == (3, 0.9, 0.2)
    assert history.sessions(2.0, 10) == [oldest]


def test_the_oldest_pictures_go_first(history: History) -> None:
    for name in "abcde":
        history.save_frame(name, b"jpeg")
        time.sleep(0.002)
    assert history.frame("a") == b"jpeg"
    with history._engine.begin() as connection:
        delete_old(connection, Retention(30, 1000, max_frames=2))
    kept = [name for name in "abcde" if history.frame(name) is not None]
    assert kept == ["d", "e"]


def test_a_database_from_before_the_history_keeps_its_events(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "planner.db")
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(database._MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text("INSERT INTO events (at, kind, actor, detail) VALUES (1, 'hello', 'robot', '')")
        )
    engine.dispose()
    engine = open_database(url)
    writer = Writer(engine)
    (event,) = History(engine, writer).audit(None, 10)
    assert (event["kind"], event["order_number"], event["acknowledged_at"]) == ("hello", None, None)
    writer.close()
    engine.dispose()
