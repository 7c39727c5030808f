"""What is saved is found again: on SQLite, and on a real PostgreSQL where Debian's is installed."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, inspect, text

from planner_server.errors import StartupError
from planner_server.goals import GoalImage, GoalRules, SubGoal
from planner_server.options import PlanOptions
from planner_server.session import PAUSED, RUNNING, STOPPED, Session
from planner_server.settings import Settings
from planner_server.store.archive import Archive
from planner_server.store.database import open_database, sqlite_url
from planner_server.store.location import Location
from planner_server.store.rows import Retention
from planner_server.store.tables import metadata
from planner_server.store.writer import Writer
from planner_server.terms import Terms

DAY_S = 86_400.0
IDLE_S = 3600.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "planner.db")
    found: str = request.getfixturevalue("postgres_url")
    engine = create_engine(found)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return found


@pytest.fixture
def make_archive() -> Iterator[Callable[..., Archive]]:
    made: list[Archive] = []

    def make(url: str, days: float = 30.0, max_plans: int = 1000) -> Archive:
        engine = open_database(url)
        made.append(Archive(engine, Retention(days, max_plans), Writer(engine, retry_s=0.05)))
        return made[-1]

    yield make
    for archive in made:
        archive.close()


@pytest.fixture
def archive(url: str, make_archive: Callable[..., Archive]) -> Archive:
    return make_archive(url)


def image(digest: str, data: bytes = b"png") -> GoalImage:
    return GoalImage(digest, 48, 32, "image/png", data)


def session(name: str = "s1") -> Session:
    options = PlanOptions(task="tidy up", seed=3, l1_radius_m=0.1)
    terms = Terms("icem", (0.1,) * 7, 1, 1000.0, is_limited=False)
    return Session(name, options, terms, last_used_s=0.0, created_at=time.time())


def written(archive: Archive) -> None:
    assert archive.writer.flush(20.0), archive.writer.problem


def test_a_session_with_its_goals_comes_back_as_it_was(archive: Archive) -> None:
    before = session()
    archive.save_session(before)
    rules = GoalRules(name="above", max_steps=3, region=(0, 0, 0.5, 1), weights=[1, 2])
    before.set_goals((SubGoal((image("a"), image("b")), rules, image("m")), SubGoal((image("a"),))))
    archive.save_goals(before)
    before.give_order(PAUSED, "lunch")
    archive.save_session(before)
    before.goal_index, before.goal_steps = 1, 7
    archive.save_plan(before, 1, {})
    written(archive)
    (after,) = archive.open_sessions(IDLE_S, limit=10)
    assert (after.id, after.options, after.state) == ("s1", before.options, PAUSED)
    assert (after.order_number, after.goal_index, after.goal_steps) == (1, 1, 7)
    assert after.revision == before.revision
    first, second = after.goals
    assert [each.sha256 for each in first.images] == ["a", "b"]
    assert first.rules == rules
    assert first.mask is not None
    assert (first.mask.sha256, second.images[0].data) == ("m", b"png")


def test_a_session_of_another_version_stays_where_it_is_and_disturbs_no_other(
    archive: Archive,
) -> None:
    for name in ("newer", "newer goals", "known"):
        archive.save_session(session(name))
    with_goals = session("newer goals")
    with_goals.set_goals((SubGoal((image("a"),), GoalRules()),))
    archive.save_goals(with_goals)
    rules = text("""UPDATE goals SET rules = '{"invented_later": 1, "mask": null}'""")
    archive.writer.put(lambda connection: connection.execute(rules).close())
    options = text("""UPDATE sessions SET options = '{"invented_later": 1}' WHERE id = 'newer'""")
    archive.writer.put(lambda connection: connection.execute(options).close())
    written(archive)
    assert [each.id for each in archive.open_sessions(IDLE_S, limit=10)] == ["known"]
    assert archive.find_session("newer", IDLE_S) is None
    assert set(archive.open_ids(IDLE_S, limit=10)) == {
        "newer",
        "newer goals",
        "known",
    }  # for a stop of all


def test_ended_and_idle_sessions_do_not_come_back(archive: Archive) -> None:
    for name in ("ended", "idle", "alive"):
        archive.save_session(session(name))
    archive.end_session("ended")
    archive.writer.put(
        lambda connection: connection.execute(
            text("UPDATE sessions SET used_at = used_at - 7200 WHERE id = 'idle'")
        ).close()
    )
    written(archive)
    assert [each.id for each in archive.open_sessions(IDLE_S, limit=10)] == ["alive"]
    assert archive.find_session("idle", IDLE_S) is None
    assert archive.find_session("alive", IDLE_S) is not None


def test_a_plan_of_one_replica_does_not_undo_the_order_of_another(archive: Archive) -> None:
    here, there = session(), session()
    archive.save_session(here)
    there.give_order(PAUSED, "somebody is in the cell")
    archive.save_session(there)
    here.goal_steps = 5
    archive.save_plan(here, 1, {})
    written(archive)
    stored = archive.find_session("s1", IDLE_S)
    assert stored is not None
    assert (stored.state, stored.order_number, stored.revision) == (PAUSED, 1, there.revision)


def test_goals_and_an_order_given_at_once_at_two_replicas_both_last_and_both_are_noticed(
    archive: Archive,
) -> None:
    here, there = session(), session()
    archive.save_session(here)
    here.give_order(PAUSED, "somebody is in the cell")
    archive.save_session(here)
    there.set_goals((SubGoal((image("a"),)),))  # has not heard of it yet
    archive.save_goals(there)
    written(archive)
    stored = archive.find_session("s1", IDLE_S)
    assert stored is not None
    assert (stored.state, stored.order_number, len(stored.goals)) == (PAUSED, 1, 1)
    assert stored.revision > max(here.revision, there.revision)


@pytest.mark.parametrize(
    ("first", "second"), [(PAUSED, STOPPED), (STOPPED, PAUSED), (STOPPED, RUNNING)]
)
def test_of_orders_given_at_once_at_two_replicas_the_stop_lasts_and_every_robot_is_told(
    archive: Archive, first: str, second: str
) -> None:
    here, there = session(), session()
    archive.save_session(here)
    here.give_order(first, "")
    archive.save_session(here)
    there.give_order(second, "")  # has not heard of it yet
    archive.save_session(there)
    written(archive)
    stored = archive.find_session("s1", IDLE_S)
    assert stored is not None
    assert stored.state == STOPPED
    assert stored.order_number > max(here.order_number, there.order_number)  # else taken for obeyed
    assert stored.revision > max(here.revision, there.revision)


def test_an_order_that_follows_another_replaces_it(archive: Archive) -> None:
    one = session()
    archive.save_session(one)
    for state in (STOPPED, PAUSED, RUNNING):
        one.give_order(state, "")
        archive.save_session(one)
    written(archive)
    stored = archive.find_session("s1", IDLE_S)
    assert stored is not None
    assert (stored.state, stored.order_number, stored.revision) == (RUNNING, 3, one.revision)


def test_an_order_given_at_one_replica_leaves_the_progress_of_the_robot_at_another(
    archive: Archive,
) -> None:
    here, there = session(), session()
    archive.save_session(here)
    here.goal_index, here.goal_steps = 2, 5
    archive.save_plan(here, 1, {})
    there.give_order(PAUSED, "")  # knows the session from its beginning
    archive.save_session(there)
    written(archive)
    stored = archive.find_session("s1", IDLE_S)
    assert stored is not None
    assert (stored.state, stored.goal_index, stored.goal_steps) == (PAUSED, 2, 5)


def test_the_last_use_is_saved_and_never_goes_back(archive: Archive) -> None:
    archive.save_session(session())
    created = time.time()
    archive.save_use({"s1": created + 100.0, "unknown": created})
    archive.save_use({"s1": created + 50.0})
    written(archive)
    stored = archive.find_session("s1", IDLE_S)
    assert stored is not None
    assert stored.used_at == pytest.approx(created + 100.0)


def test_a_session_that_another_replica_uses_is_not_ended_as_idle(archive: Archive) -> None:
    archive.save_session(session())
    archive.end_session("s1", unused_s=IDLE_S)
    written(archive)
    assert archive.find_session("s1", IDLE_S) is not None
    archive.writer.put(
        lambda connection: connection.execute(
            text("UPDATE sessions SET used_at = used_at - 7200")
        ).close()
    )
    archive.end_session("s1", unused_s=IDLE_S)
    written(archive)
    assert archive.revisions(["s1"])["s1"][1]


def test_a_record_that_cannot_be_written_is_lost_alone(archive: Archive) -> None:
    def broken(_: Any) -> None:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    lost = archive.writer.put(broken)
    archive.save_plan(session(), 1, {})
    written(archive)
    assert isinstance(lost.exception(), UnicodeEncodeError)
    assert len(archive.plans("s1", None, 10)) == 1


def test_plans_and_events_are_read_page_by_page_newest_first(archive: Archive) -> None:
    one = session()
    archive.save_session(one)
    for seq in range(5):
        archive.save_plan(one, seq, {"energy": seq / 10})
    archive.save_plan(None, None, {"energy": 9.0})
    archive.note("hello", "s1", "robot", "here")
    written(archive)
    newest = archive.plans("s1", before=None, limit=2)
    assert [plan["seq"] for plan in newest] == [4, 3]
    assert [p["seq"] for p in archive.plans("s1", newest[-1]["id"], 10)] == [2, 1, 0]
    assert archive.plans(None, None, 10)[0]["record"] == {"energy": 9.0}
    assert archive.events("s1", None, 10)[0]["actor"] == "robot"


def test_seq_may_be_as_large_as_the_protocol_allows(archive: Archive) -> None:
    archive.save_plan(session(), 2**63 - 1, {})
    written(archive)
    assert archive.plans("s1", None, 1)[0]["seq"] == 2**63 - 1


def test_retention_deletes_the_old_and_the_many_and_nothing_else(
    url: str, make_archive: Callable[..., Archive]
) -> None:
    archive = make_archive(url, days=10.0, max_plans=3)
    old, new = session("old"), session("new")
    for each, digest in ((old, "x"), (new, "y")):
        each.set_goals((SubGoal((image(digest),)),))
        archive.save_session(each)
        archive.save_goals(each)
    for seq in range(6):
        archive.save_plan(new, seq, {})
    archive.note("kept", "new", "test")

    def age(connection: Any) -> None:
        for statement in (
            "UPDATE sessions SET used_at = used_at - :s WHERE id = 'old'",
            "UPDATE images SET stored_at = stored_at - :s",
            "UPDATE plans SET at = at - :s WHERE seq = 5",
        ):
            connection.execute(text(statement), {"s": 20 * DAY_S})

    archive.writer.put(age)
    archive.purge()
    written(archive)
    assert [plan["seq"] for plan in archive.plans("new", None, 10)] == [4, 3]
    assert archive.image("x") is None
    assert archive.image("y") is not None  # old, but a goal of a session that lives
    assert [each.id for each in archive.open_sessions(100 * DAY_S, 10)] == ["new"]
    assert len(archive.events("new", None, 10)) == 1


def test_migrations_make_exactly_what_the_tables_say(url: str) -> None:
    engine = open_database(url)
    open_database(url).dispose()  # a second start changes nothing
    found = inspect(engine)
    for name, table in metadata.tables.items():
        columns = {column["name"]: column["nullable"] for column in found.get_columns(name)}
        assert columns == {column.name: column.nullable for column in table.columns}
        indexes = {index["name"] for index in found.get_indexes(name)}
        assert {index.name for index in table.indexes} <= indexes
    engine.dispose()


def test_replicas_that_start_together_migrate_once(url: str) -> None:
    if url.startswith("sqlite"):
        pytest.skip("a SQLite file belongs to one server")
    engines: list[Engine] = []
    threads = [
        threading.Thread(target=lambda: engines.append(open_database(url))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(engines) == 4
    for engine in engines:
        engine.dispose()


def test_another_replica_learns_of_a_change_by_its_revision(
    url: str, make_archive: Callable[..., Archive]
) -> None:
    if url.startswith("sqlite"):
        pytest.skip("a SQLite file belongs to one server")
    here, there = make_archive(url), make_archive(url)
    assert here.is_shared
    one = session()
    here.save_session(one)
    written(here)
    assert there.revisions(["s1", "s2"]) == {"s1": (0, False)}
    one.give_order(PAUSED, "")
    here.save_session(one)
    written(here)
    assert there.revisions(["s1"]) == {"s1": (1, False)}
    found = there.find_session("s1", IDLE_S)
    assert found is not None
    assert found.state == PAUSED


class Faults:
    """Makes every statement of an engine fail while `reason` is set."""

    def __init__(self, engine: Engine) -> None:
        self.reason: str | None = None
        event.listen(engine, "before_cursor_execute", self._raise)

    def _raise(self, *_: Any) -> None:
        import sqlite3

        from sqlalchemy.exc import OperationalError

        if self.reason:
            raise OperationalError("statement", {}, sqlite3.OperationalError(self.reason))


def test_a_disk_that_is_full_for_a_while_costs_nothing_but_time(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "planner.db"))
    faults = Faults(engine)
    writer = Writer(engine, max_waiting=50, retry_s=0.02)
    archive = Archive(engine, Retention(30, 1000), writer)
    faults.reason = "database or disk is full"
    started = time.monotonic()
    for seq in range(40):
        archive.save_plan(session(), seq, {})
    assert time.monotonic() - started < 10.0  # nobody waits for the disk
    assert not writer.flush(0.3)
    assert str(writer.problem) == "database or disk is full"
    faults.reason = None
    written(archive)
    assert (writer.problem, writer.lost) == (None, 0)
    assert [plan["seq"] for plan in archive.plans("s1", None, 100)] == list(range(39, -1, -1))
    archive.close()


def test_records_keep_their_order_when_the_database_goes_away_beside_a_bad_one(
    tmp_path: Path,
) -> None:
    engine = open_database(sqlite_url(tmp_path / "planner.db"))
    writer = Writer(engine, retry_s=0.02)
    begun, taken, refusals = threading.Event(), list[str](), [OSError("no space left on device")]

    def hold_the_thread(_: Any) -> None:
        assert begun.wait(20)

    def broken(_: Any) -> None:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    def first(_: Any) -> None:
        if refusals:
            raise refusals.pop()
        taken.append("first")

    def taking(name: str) -> Callable[[Any], None]:
        return lambda _: taken.append(name)

    writer.put(hold_the_thread)
    lost = writer.put(broken)  # in one transaction with those after it
    writer.put(first)
    for name in ("second", "third"):
        writer.put(taking(name))
    begun.set()
    assert writer.flush(20.0)
    assert isinstance(lost.exception(), UnicodeEncodeError)
    assert taken == ["first", "second", "third"]
    writer.close()
    engine.dispose()


def test_beyond_the_limit_the_oldest_records_are_lost_and_counted(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "planner.db"))
    faults = Faults(engine)
    faults.reason = "disk I/O error"
    writer = Writer(engine, max_waiting=10, retry_s=0.02)
    archive = Archive(engine, Retention(30, 1000), writer)
    for seq in range(30):
        archive.save_plan(session(), seq, {})
    faults.reason = None
    written(archive)
    kept = [plan["seq"] for plan in archive.plans("s1", None, 100)]
    assert kept[0] == 29
    assert len(kept) + writer.lost == 30
    assert len(writer) == 0
    archive.close()


def test_a_record_that_the_database_refuses_does_not_hold_up_the_others(archive: Archive) -> None:
    bad = archive.writer.put(
        lambda connection: connection.execute(
            text(
                "INSERT INTO goals (session_id, position, images, rules) VALUES ('nobody', 0, '[]', '{}')"
            )
        ).close()
    )
    archive.note("after", "s1", "test")
    written(archive)
    assert bad.exception(5) is not None
    assert archive.events("s1", None, 1)[0]["kind"] == "after"


def test_a_folder_belongs_to_one_server(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    first = Location(settings)
    with pytest.raises(StartupError, match="another server uses"):
        Location(settings)
    first.release()
    second = Location(settings)
    assert second.url == sqlite_url(tmp_path / "data" / "planner.db")
    second.release()


def test_a_random_port_keeps_its_state_in_memory_and_a_fixed_one_beside_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Location(Settings(zmq_endpoint="tcp://127.0.0.1:*")).url == "sqlite://"
    fixed = Location(Settings(zmq_endpoint="tcp://127.0.0.1:5999"))
    assert fixed.url == sqlite_url(tmp_path / "vjepa-planner" / "tcp-127.0.0.1-5999" / "planner.db")
    fixed.release()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert Location(Settings(zmq_endpoint="tcp://127.0.0.1:5999")).url == "sqlite://"
