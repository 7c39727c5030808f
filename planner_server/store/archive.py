"""What the service saves and finds again. Saving returns at once; finding waits, so never on the event loop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, delete, insert, select, update

from planner_server.goals import GoalImage
from planner_server.session import Session
from planner_server.store.database import is_shared
from planner_server.store.rows import (
    Retention,
    StoredSession,
    beyond,
    delete_old,
    goal_rows,
    image_of,
    order_changes,
    order_of,
    progress_of,
    session_of,
    upsert,
)
from planner_server.store.tables import events, goals, images, plans, sessions
from planner_server.store.writer import Writer

_READ_WAIT_S = 0.5


class Archive:
    """The database as the service sees it.

    Args:
        engine: An open database.
        retention: What `purge` deletes.
        writer: Who writes.
    """

    def __init__(self, engine: Engine, retention: Retention, writer: Writer) -> None:
        self._engine = engine
        self._retention = retention
        self.writer = writer
        self.is_shared = is_shared(engine)

    def close(self) -> None:
        """Write what waits and let go of the database."""
        self.writer.close()
        self._engine.dispose()

    # Saving: never waits -----------------------------------------------------------------------

    # Every write says what has changed and no more: the rest may have been changed by another replica.

    def save_session(self, session: Session) -> Future[None]:
        """Save a new session, without its goals, or the order that was given to a known one."""
        values = {
            "id": session.id,
            "created_at": session.created_at,
            "owner": session.owner,
            "options": session.options.model_dump(mode="json"),
            "revision": session.revision,
            **progress_of(session),
            **order_of(session),
        }
        changes = order_changes(session)
        return self.writer.put(
            lambda connection: upsert(connection, sessions, values, "id", changes)
        )

    def save_goals(self, session: Session) -> Future[None]:
        """Replace the goals of a session, and save its progress in them."""
        rows, pictures = goal_rows(session)
        changes = {
            **progress_of(session),
            "revision": beyond(sessions.c.revision, session.revision),
        }

        def write(connection: Connection) -> None:
            for picture in pictures:
                upsert(connection, images, picture, "sha256")
            connection.execute(delete(goals).where(goals.c.session_id == session.id))
            if rows:
                connection.execute(insert(goals), rows)
            connection.execute(update(sessions).where(sessions.c.id == session.id).values(changes))

        return self.writer.put(write)

    def end_session(self, session_id: str, unused_s: float = 0.0) -> Future[None]:
        """Note that a session is over; its plans and events stay until retention takes them.

        Args:
            session_id: Which one.
            unused_s: Leave it alone where it was used within this time [s], by another replica for example.
        """
        now = time.time()
        ended = update(sessions).where(sessions.c.id == session_id).values(ended_at=now)
        if unused_s > 0:
            ended = ended.where(sessions.c.used_at <= now - unused_s)
        return self.writer.put(lambda connection: connection.execute(ended).close())

    def save_plan(self, session: Session | None, seq: int | None, record: dict[str, Any]) -> None:
        """Save a plan and, where it belongs to one, the session's progress."""
        row = {
            "at": time.time(),
            "session_id": session.id if session else None,
            "seq": seq,
            "record": record,
        }
        changed = None
        if session is not None:
            # Not where another replica has changed the session meanwhile: its goals may be others.
            is_known = sessions.c.revision <= session.revision
            mine = update(sessions).where(sessions.c.id == session.id, is_known)
            changed = mine.values(progress_of(session))

        def write(connection: Connection) -> None:
            connection.execute(insert(plans), [row])
            if changed is not None:
                connection.execute(changed)

        self.writer.put(write)

    def save_use(self, used_at: Mapping[str, float]) -> Future[None]:
        """Save when sessions were used last [s since 1970]; later times that are saved already stay."""
        changes = [
            update(sessions)
            .where(sessions.c.id == session_id, sessions.c.used_at < at)
            .values(used_at=at)
            for session_id, at in used_at.items()
        ]

        def write(connection: Connection) -> None:
            for change in changes:
                connection.execute(change)

        return self.writer.put(write)

    def note(
        self,
        kind: str,
        session_id: str | None,
        actor: str,
        detail: str = "",
        *,
        order: int | None = None,
    ) -> None:
        """Save an event: what happened, to which session, by whom; `order` is the number of an order given."""
        row = {
            "at": time.time(),
            "session_id": session_id,
            "kind": kind,
            "actor": actor[:128],
            "detail": detail[:4000],
            "order_number": order,
        }
        self.writer.put(lambda connection: connection.execute(insert(events), [row]).close())

    def purge(self) -> Future[None]:
        """Delete what retention does not keep."""
        return self.writer.put(lambda connection: delete_old(connection, self._retention))

    # Finding: waits for the database -----------------------------------------------------------

    def open_sessions(self, idle_s: float, limit: int) -> list[StoredSession]:
        """Return the sessions that have not ended and were used within `idle_s`, oldest first.

        One that another version has saved, and this one cannot read, is left out.
        """
        with self._engine.connect() as connection:
            rows = connection.execute(_open(select(sessions), idle_s).limit(limit)).mappings()
            found = [session_of(connection, row) for row in reversed(list(rows))]
            return [session for session in found if session is not None]

    def open_ids(self, idle_s: float, limit: int) -> list[str]:
        """Return the names of these sessions, of those that cannot be read as well, the newest first."""
        with self._engine.connect() as connection:
            return list(connection.scalars(_open(select(sessions.c.id), idle_s).limit(limit)))

    def find_session(self, session_id: str, idle_s: float) -> StoredSession | None:
        """Return one session that has not ended and was used within `idle_s`."""
        with self._engine.connect() as connection:
            row = (
                connection.execute(
                    select(sessions).where(
                        sessions.c.id == session_id,
                        sessions.c.ended_at.is_(None),
                        sessions.c.used_at >= time.time() - idle_s,
                    )
                )
                .mappings()
                .one_or_none()
            )
            return None if row is None else session_of(connection, row)

    def revisions(self, session_ids: Sequence[str]) -> dict[str, tuple[int, bool]]:
        """Return revision and whether it has ended, for the sessions asked for."""
        columns = (sessions.c.id, sessions.c.revision, sessions.c.ended_at)
        with self._engine.connect() as connection:
            rows = connection.execute(select(*columns).where(sessions.c.id.in_(session_ids)))
            return {row.id: (row.revision, row.ended_at is not None) for row in rows}

    def plans(self, session_id: str | None, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return plans of a session (None: those without one), newest first, older than id `before`."""
        return self._page(plans, session_id, before, limit)

    def events(
        self, session_id: str | None, before: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return events of a session (None: those of the server), newest first."""
        return self._page(events, session_id, before, limit)

    def image(self, sha256: str) -> GoalImage | None:
        """Return a stored image."""
        with self._engine.connect() as connection:
            return image_of(connection, sha256)

    def _page(
        self, table: Table, session_id: str | None, before: int | None, limit: int
    ) -> list[dict[str, Any]]:
        self.writer.flush(_READ_WAIT_S)  # so that whoever has just been answered finds it here
        query = select(table).where(table.c.session_id == session_id)
        if before is not None:
            query = query.where(table.c.id < before)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(table.c.id.desc()).limit(limit)).mappings()
            return [dict(row) for row in rows]


def _open(query: Select[Any], idle_s: float) -> Select[Any]:
    """Choose the sessions that have not ended and were used within `idle_s`, the newest first."""
    is_open = sessions.c.ended_at.is_(None) & (sessions.c.used_at >= time.time() - idle_s)
    return query.where(is_open).order_by(sessions.c.used_at.desc())
