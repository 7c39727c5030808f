"""Stop every robot at once, and look up who ordered what and when it was obeyed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from concurrent.futures import Future

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from planner_server.errors import PlannerError
from planner_server.orders import GivenOrder, StopAll, wait_until_settled
from planner_server.questions import OrderJson
from planner_server.routes.access import Observer, Operator, Service
from planner_server.routes.operation import Before, Limit, dated
from planner_server.schemas import EventHistory, EventRecord
from planner_server.service import PlannerService
from planner_server.session import STOPPED, Session

router = APIRouter(prefix="/v1", tags=["operation"])

_WAIT_S = 1.0
_MOST_ELSEWHERE = 10_000

logger = logging.getLogger(__name__)


class StoppedSession(BaseModel):
    """What came of the order to one robot; times count from the order."""

    id: str
    order: int = Field(description="Number of the order.")
    is_connected: bool | None = Field(
        description="Whether a robot was there to be told; null where only another replica can know, and tells it."
    )
    is_obeyed: bool = Field(description="Whether it has answered.")
    arm: str | None = Field(description="standing, stopping or unknown, as the robot says.")
    obeyed_ms: float | None = Field(description="Time to its first answer [ms].")
    standing_ms: float | None = Field(description="Time until its arm was measured at rest [ms].")


class StopAnswer(BaseModel):
    """What came of stopping everything."""

    sessions: list[StoppedSession]
    obeyed_ms: float | None = Field(description="The longest time to an answer [ms].")
    standing_ms: float | None = Field(description="The longest time until an arm stood [ms].")
    saved: bool = Field(description="Whether the orders are on disk already.")
    problem: str | None = Field(
        default=None, description="Why robots of other replicas may go on; null where none may."
    )


@router.post("/stop-all")
async def stop_all(
    service: Service, caller: Operator, order: OrderJson | None = None
) -> StopAnswer:
    """Stop every robot, and wait up to a second for their answers. This is no emergency stop: that one is a button."""
    reason = order.reason if order else ""
    service.orders.book.stop_all = StopAll(reason, caller.name)

    def stop(sessions: Iterable[Session]) -> list[tuple[GivenOrder, Future[None]]]:
        return [service.orders.give(each, STOPPED, reason, caller.name) for each in sessions]

    mine = service.sessions.all()
    given = stop(mine)
    elsewhere, problem = await _elsewhere(service, {session.id for session in mine})
    given += stop(elsewhere)
    orders = [each for each, _ in given]
    await wait_until_settled(orders, _WAIT_S)
    saved = await asyncio.gather(*(service.until_saved(future) for _, future in given))
    return StopAnswer(
        sessions=[_describe(each, is_alone=not service.archive.is_shared) for each in orders],
        obeyed_ms=_longest(each.obeyed_ms for each in orders),
        standing_ms=_longest(each.standing_ms for each in orders),
        saved=all(saved),
        problem=problem,
    )


@router.get("/audit")
async def audit(
    service: Service,
    _: Observer,
    limit: Limit = 100,
    before: Before = None,
) -> EventHistory:
    """Return what happened, to all sessions and to the server, newest first: who did what, obeyed when."""
    rows = await asyncio.to_thread(service.history.audit, before, limit)
    return EventHistory(events=[EventRecord(**dated(row)) for row in rows])


async def _elsewhere(service: PlannerService, known: set[str]) -> tuple[list[Session], str | None]:
    """Find the sessions whose robots other replicas talk to; these learn of an order from the database.

    Returns:
        The sessions, and why there may be others that are not among them.
    """
    if not service.archive.is_shared:
        return [], None
    reading = asyncio.to_thread(service.archive.open_ids, service.idle_s, _MOST_ELSEWHERE)
    try:
        open_ids = await asyncio.wait_for(reading, _WAIT_S)
    except (SQLAlchemyError, asyncio.TimeoutError):
        logger.exception("the robots of other replicas are not known, and not stopped")
        return [], "the database does not answer, so the robots of other replicas are not stopped"
    found, missing = [], []
    for session_id in open_ids:
        if session_id in known:
            continue
        try:
            found.append(await service.find_session(session_id))
        except (PlannerError, SQLAlchemyError) as error:
            # One that cannot be had must not keep the others going.
            logger.error("session %s is not stopped: %s", session_id, error)
            missing.append(session_id)
    if not missing:
        return found, None
    names = ", ".join(missing[:3])
    return found, f"{len(missing)} session(s) of other replicas are not stopped: {names}"


def _describe(order: GivenOrder, *, is_alone: bool) -> StoppedSession:
    return StoppedSession(
        id=order.session_id,
        order=order.number,
        is_connected=order.is_connected or (False if is_alone else None),
        is_obeyed=order.obeyed_ms is not None,
        arm=order.arm,
        obeyed_ms=order.obeyed_ms,
        standing_ms=order.standing_ms,
    )


def _longest(times_ms: Iterable[float | None]) -> float | None:
    return max((each for each in times_ms if each is not None), default=None)
