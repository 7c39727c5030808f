"""What is done again and again goes on after a failure; what others did to a session undoes no order given here."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from planner_server import housekeeping, zmq_door
from planner_server.options import PlanOptions
from planner_server.security.tokens import EVERYBODY, TokenRing
from planner_server.session import RUNNING, STOPPED
from planner_server.settings import Settings
from planner_server.start import Parts, serving
from planner_server.store.rows import StoredSession

MakeSettings = Callable[..., Settings]


def run(settings: Settings, work: Callable[[Parts], Any]) -> None:
    async def serve() -> None:
        async with serving(settings, TokenRing([])) as parts:
            await work(parts)

    asyncio.run(serve())


async def until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_a_failure_ends_neither_the_houses_upkeep_nor_the_repetition_of_orders(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "_TICK_S", 0.02)
    monkeypatch.setattr(zmq_door, "_REPEAT_ORDERS_S", 0.02)
    calls = {"sample": 0, "keep_house": 0}

    def failing(name: str) -> Callable[[Any], None]:
        def fail(_: Any) -> None:
            calls[name] += 1
            raise ZeroDivisionError("a bug")

        return fail

    monkeypatch.setattr("planner_server.service.PlannerService.sample", failing("sample"))
    monkeypatch.setattr("planner_server.dialogue.Dialogue.keep_house", failing("keep_house"))

    async def work(_: Parts) -> None:
        await until(lambda: min(calls.values()) >= 3)

    run(make_settings(), work)


def test_a_database_that_goes_away_and_comes_back_is_written_down_once_each(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "_TICK_S", 0.02)

    async def work(parts: Parts) -> None:
        archive = parts.service.archive

        def told() -> list[str]:
            events = archive.events(None, None, 100)
            return [each["detail"] for each in events if each["kind"] == "database"]

        assert archive.writer.flush(20.0)
        archive.writer.problem = (
            "disk full"  # until the next record is taken, which is the note of it
        )
        await until(lambda: "takes records again" in told())
        assert told() == ["takes records again", "disk full"]

    run(make_settings(), work)


def stored(session: Any, **changes: Any) -> StoredSession:
    fields: dict[str, Any] = {
        "id": session.id,
        "options": session.options,
        "created_at": session.created_at,
        "used_at": time.time(),
        "owner": session.owner,
        "state": RUNNING,
        "order_number": session.order_number,
        "goal_index": 0,
        "goal_steps": 0,
        "revision": session.revision + 1,
        "goals": (),
    }
    return StoredSession(**(fields | changes))


def test_an_order_given_while_another_replicas_change_is_read_is_not_undone(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(parts: Parts) -> None:
        service = parts.service
        session, _ = service.create_session(PlanOptions(), EVERYBODY)
        seen = stored(session)
        loop, is_given = asyncio.get_running_loop(), threading.Event()

        def give() -> None:
            if not is_given.is_set():  # the house is kept meanwhile, and reads as well
                service.orders.give(session, STOPPED, "a person in the cell", "test")
                is_given.set()

        def read(session_id: str, idle_s: float) -> StoredSession:
            loop.call_soon_threadsafe(give)
            assert is_given.wait(20)
            return seen

        monkeypatch.setattr(service.archive, "is_shared", True)
        monkeypatch.setattr(
            service.archive, "revisions", lambda _: {session.id: (seen.revision, False)}
        )
        monkeypatch.setattr(service.archive, "find_session", read)
        await service.adoption.refresh()
        assert session.state == STOPPED
        assert session.order_number == 1

    run(make_settings(), work)


def test_a_session_that_this_model_cannot_serve_is_left_to_others(
    make_settings: MakeSettings, tmp_path: Any, run_server: Any
) -> None:
    place = {"data_dir": tmp_path}
    with run_server(make_settings(**place)) as address, address.http() as http:
        served = [
            http.post("/v1/sessions", json={"planner": name}).raise_for_status().json()["id"]
            for name in ("icem", "cem", "icem")
        ]
        narrow = http.post("/v1/sessions", json={"max_step_m": 0.1}).raise_for_status().json()["id"]
    with run_server(make_settings(max_step_m=0.05, **place)) as address, address.http() as http:
        found = {each["id"] for each in http.get("/v1/sessions").json()["sessions"]}
        assert found == set(served)
        assert http.get(f"/v1/sessions/{narrow}").status_code == 404
    with run_server(make_settings(**place)) as address, address.http() as http:
        found = {each["id"] for each in http.get("/v1/sessions").json()["sessions"]}
        assert found == {*served, narrow}
