"""What the database tells of the past: sessions, the course of one, pictures, and who ordered what.

Saving returns at once; finding waits, so never on the event loop.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, func, select, update

from planner_server.orders import GivenOrder
from planner_server.store.rows import upsert
from planner_server.store.tables import events, frames, plans, sessions
from planner_server.store.writer import Writer
from robot_client.protocol import Ack

_READ_WAIT_S = 0.5
_IN_COURSE = (
    "goal_index", "goal_name", "frame_sha256", "state", "energy", "energy_now",
    "energy_do_nothing", "surprise", "encode_ms", "plan_ms", "queue_ms", "warnings",
)  # fmt: skip


@dataclass(frozen=True)
class PastSession:
    """A session as the list of the past shows it; energies are those of the first and the last frame."""

    id: str
    created_at: float
    used_at: float
    ended_at: float | None
    state: str
    options: dict[str, Any]
    plans: int
    energy_first: float | None
    energy_last: float | None


class History:
    """The past as people look at it.

    Args:
        engine: An open database.
        writer: Who writes.
    """

    def __init__(self, engine: Engine, writer: Writer) -> None:
        self._engine = engine
        self._writer = writer

    # Saving: never waits -----------------------------------------------------------------------

    def save_obedience(self, ack: Ack, given: GivenOrder | None) -> None:
        """Add to the event of an order when its robot answered, and when its arm was at rest."""
        now = time.time()
        obeyed_at = given.obeyed_at if given else now
        standing_at = given.standing_at if given else (now if ack.arm == "standing" else None)
        values = {"acknowledged_at": func.coalesce(events.c.acknowledged_at, obeyed_at)}
        if standing_at is not None:
            values["standing_at"] = func.coalesce(events.c.standing_at, standing_at)
        is_order = (events.c.session_id == ack.session) & (events.c.order_number == ack.order)
        changed = update(events).where(is_order).values(values)
        self._writer.put(lambda connection: connection.execute(changed).close())

    def save_frame(self, sha256: str, jpeg: bytes) -> None:
        """Keep a picture of an observed frame."""
        values = {"sha256": sha256, "stored_at": time.time(), "jpeg": jpeg}
        self._writer.put(lambda connection: upsert(connection, frames, values, "sha256"))

    # Finding: waits for the database -----------------------------------------------------------

    def sessions(self, before: float | None, limit: int) -> list[PastSession]:
        """Return sessions, open ones included, newest first, made before a time [s since 1970]."""
        self._writer.flush(_READ_WAIT_S)
        query = select(sessions).order_by(sessions.c.created_at.desc()).limit(limit)
        if before is not None:
            query = query.where(sessions.c.created_at < before)
        ends = (
            select(
                plans.c.session_id,
                func.count().label("plans"),
                func.min(plans.c.id).label("first"),
                func.max(plans.c.id).label("last"),
            )
            .group_by(plans.c.session_id)
        )  # fmt: skip
        with self._engine.connect() as connection:
            rows = list(connection.execute(query))
            named = plans.c.session_id.in_([row.id for row in rows])
            ends_of = {row.session_id: row for row in connection.execute(ends.where(named))}
            ids = [each for row in ends_of.values() for each in (row.first, row.last)]
            records = connection.execute(
                select(plans.c.id, plans.c.record).where(plans.c.id.in_(ids))
            )
            energies = {row.id: row.record.get("energy_now") for row in records}
        return [_past(row, ends_of.get(row.id), energies) for row in rows]

    def course(self, session_id: str, limit: int) -> list[dict[str, Any]]:
        """Return a session's plans in order of time, evenly thinned out to `limit`, the first one included."""
        self._writer.flush(_READ_WAIT_S)
        mine = plans.c.session_id == session_id
        with self._engine.connect() as connection:
            count = connection.execute(select(func.count()).where(mine)).scalar_one()
            step = max(1, -(-count // limit))
            place = func.row_number().over(order_by=plans.c.id).label("place")
            numbered = select(plans.c.id, place).where(mine).subquery()
            chosen = select(numbered.c.id).where((numbered.c.place - 1) % step == 0)
            rows = connection.execute(
                select(plans).where(plans.c.id.in_(chosen)).order_by(plans.c.id)
            )
            moments = [_moment(row) for row in rows]
            digests = {moment["frame_sha256"] for moment in moments}
            kept = select(frames.c.sha256).where(frames.c.sha256.in_(digests))
            pictured = set(connection.execute(kept).scalars())
        return [{**each, "has_frame": each["frame_sha256"] in pictured} for each in moments]

    def frame(self, sha256: str) -> bytes | None:
        """Return the picture of an observed frame, a JPEG file, where one was kept."""
        self._writer.flush(_READ_WAIT_S)
        with self._engine.connect() as connection:
            query = select(frames.c.jpeg).where(frames.c.sha256 == sha256)
            return connection.execute(query).scalar_one_or_none()

    def audit(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return the events of all sessions and of the server, newest first, older than id `before`."""
        self._writer.flush(_READ_WAIT_S)
        query = select(events).order_by(events.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(events.c.id < before)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _past(row: Row[Any], ends: Row[Any] | None, energies: dict[int, float]) -> PastSession:
    return PastSession(
        id=row.id,
        created_at=row.created_at,
        used_at=row.used_at,
        ended_at=row.ended_at,
        state=row.state,
        options=row.options,
        plans=ends.plans if ends else 0,
        energy_first=energies.get(ends.first) if ends else None,
        energy_last=energies.get(ends.last) if ends else None,
    )


def _moment(row: Row[Any]) -> dict[str, Any]:
    known = {name: row.record.get(name) for name in _IN_COURSE}
    return {"id": row.id, "at": row.at, "seq": row.seq, **known}
