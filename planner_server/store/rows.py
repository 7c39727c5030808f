"""Rows of the database and what they stand for: to and from sessions, goals and images."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Column, ColumnElement, Connection, Table, case, delete, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from planner_server.goals import GoalImage, GoalRules, SubGoal
from planner_server.options import PlanOptions
from planner_server.session import PAUSED, RUNNING, STOPPED, Session
from planner_server.store.tables import events, frames, goals, images, plans, sessions

logger = logging.getLogger(__name__)

_DAY_S = 86_400.0
_STRICTNESS = (RUNNING, PAUSED, STOPPED)


@dataclass(frozen=True)
class Retention:
    """What is kept, and for how long.

    Attributes:
        days: Plans, events and ended sessions older than this are deleted [days].
        max_plans: Plans kept at most; the oldest go first.
        max_frames: Pictures of observed frames kept at most; the oldest go first.
    """

    days: float
    max_plans: int
    max_frames: int = 0


@dataclass(frozen=True)
class StoredSession:
    """A session as the database has it; the service makes a `Session` of it."""

    id: str
    options: PlanOptions
    created_at: float
    used_at: float
    owner: str
    state: str
    order_number: int
    goal_index: int
    goal_steps: int
    revision: int
    goals: tuple[SubGoal, ...]


def progress_of(session: Session) -> dict[str, Any]:
    """Return the columns that a plan changes."""
    return {
        "used_at": time.time(),
        "goal_index": session.goal_index,
        "goal_steps": session.goal_steps,
    }


def order_of(session: Session) -> dict[str, Any]:
    """Return the columns that an operator's order changes."""
    return {
        "used_at": time.time(),
        "state": session.state,
        "order_number": session.order_number,
    }


def order_changes(session: Session) -> dict[str, Any]:
    """Return what an operator's order makes of the columns of a row.

    Where another replica's order has come first, unheard of here, the stricter of the two lasts, under a number that
    the robot has not obeyed yet.
    """
    number, state = sessions.c.order_number, sessions.c.state
    stricter = _STRICTNESS[_STRICTNESS.index(session.state) + 1 :]
    is_overruled = (number >= session.order_number) & state.in_(stricter)
    return {
        **order_of(session),
        "state": case((is_overruled, state), else_=session.state),
        "order_number": beyond(number, session.order_number),
        "revision": beyond(sessions.c.revision, session.revision),
    }


def beyond(known: Column[int], count: int) -> ColumnElement[int]:
    """Return what a change that was counted as `count` leaves in the column `known` of its row.

    Where another replica's change has come first, it grows beyond both, so that both replicas read the row again.
    """
    return case((known >= count, known + 1), else_=count)


def goal_rows(session: Session) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of `goals` and of `images` that a session's goals are."""
    rows = [
        {
            "session_id": session.id,
            "position": position,
            "images": [image.sha256 for image in goal.images],
            "rules": {
                **goal.rules.model_dump(mode="json"),
                "mask": goal.mask.sha256 if goal.mask else None,
            },
        }
        for position, goal in enumerate(session.goals)
    ]
    pictures = {image.sha256: image for goal in session.goals for image in _pictures(goal)}
    now = time.time()
    return rows, [{**asdict(image), "stored_at": now} for image in pictures.values()]


def _pictures(goal: SubGoal) -> Iterable[GoalImage]:
    yield from goal.images
    if goal.mask is not None:
        yield goal.mask


def session_of(connection: Connection, row: Any) -> StoredSession | None:
    """Return the session, goals included, that a row of `sessions` begins; None where another version saved it."""
    rows = connection.execute(
        select(goals).where(goals.c.session_id == row["id"]).order_by(goals.c.position)
    ).mappings()
    try:
        options = PlanOptions.model_validate(row["options"])
        known_goals = tuple(_goal(connection, goal) for goal in list(rows))
    except ValidationError as error:
        logger.error("session %s was saved by another version: %s", row["id"], error)
        return None
    return StoredSession(
        id=row["id"],
        options=options,
        created_at=row["created_at"],
        used_at=row["used_at"],
        owner=row["owner"],
        state=row["state"],
        order_number=row["order_number"],
        goal_index=row["goal_index"],
        goal_steps=row["goal_steps"],
        revision=row["revision"],
        goals=known_goals,
    )


def _goal(connection: Connection, row: Any) -> SubGoal:
    rules = dict(row["rules"])
    mask = rules.pop("mask")
    pictures = [image_of(connection, sha256) for sha256 in row["images"]]
    return SubGoal(
        images=tuple(picture for picture in pictures if picture is not None),
        rules=GoalRules.model_validate(rules),
        mask=image_of(connection, mask) if mask else None,
    )


def image_of(connection: Connection, sha256: str) -> GoalImage | None:
    """Return a stored image."""
    row = (
        connection.execute(select(images).where(images.c.sha256 == sha256)).mappings().one_or_none()
    )
    if row is None:
        return None
    return GoalImage(
        sha256=row["sha256"],
        width=row["width"],
        height=row["height"],
        media_type=row["media_type"],
        data=row["data"],
    )


def upsert(
    connection: Connection,
    table: Table,
    values: dict[str, Any],
    key: str,
    changes: dict[str, Any] | None = None,
) -> None:
    """Insert a row, or bring the one with the same key up to date.

    Args:
        connection: In a transaction.
        table: Where to.
        values: Of all columns.
        key: The column that names a row.
        changes: What becomes of a row that is there; None: all values but the key.
    """
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(values)
    if changes is None:
        changes = {name: value for name, value in values.items() if name != key}
    connection.execute(statement.on_conflict_do_update(index_elements=[key], set_=changes))


def delete_old(connection: Connection, retention: Retention) -> None:
    """Delete old plans and events, sessions that ended long ago, and images that nothing refers to."""
    oldest = time.time() - _DAY_S * retention.days
    newest_id = connection.execute(select(func.max(plans.c.id))).scalar_one() or 0
    connection.execute(
        delete(plans).where((plans.c.at < oldest) | (plans.c.id <= newest_id - retention.max_plans))
    )
    connection.execute(delete(events).where(events.c.at < oldest))
    newest_too_many = (
        select(frames.c.stored_at)
        .order_by(frames.c.stored_at.desc())
        .offset(retention.max_frames)
        .limit(1)
    )
    last = connection.execute(newest_too_many).scalar_one_or_none()
    connection.execute(delete(frames).where(frames.c.stored_at <= max(oldest, last or oldest)))
    is_over = (sessions.c.ended_at < oldest) | (sessions.c.used_at < oldest)
    gone = select(sessions.c.id).where(is_over)
    connection.execute(delete(goals).where(goals.c.session_id.in_(gone)))
    connection.execute(delete(sessions).where(is_over))
    used: set[str] = set()
    for row in connection.execute(select(goals.c.images, goals.c.rules)):
        used.update(row.images)
        if row.rules.get("mask"):
            used.add(row.rules["mask"])
    for sha256 in (
        connection.execute(select(images.c.sha256).where(images.c.stored_at < oldest))
        .scalars()
        .all()
    ):
        if sha256 not in used:
            connection.execute(delete(images).where(images.c.sha256 == sha256))
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA incremental_vacuum"))
