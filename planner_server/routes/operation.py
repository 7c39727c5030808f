"""What people do with a running session: watch it, hold it, let it go on, and look up what it did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from planner_server.questions import OrderJson
from planner_server.routes.access import Observer, Operator, Running, Service
from planner_server.routes.sessions import SessionId, describe
from planner_server.schemas import (
    ErrorAnswer,
    EventHistory,
    EventRecord,
    PlanHistory,
    PlanRecord,
    SessionInfo,
)
from planner_server.security.tokens import Caller
from planner_server.session import PAUSED, RUNNING, STOPPED
from planner_server.start import Parts
from planner_server.streams import format_event

router = APIRouter(prefix="/v1", tags=["operation"])

Limit = Annotated[int, Query(ge=1, le=1000, description="Entries at most.")]
Before = Annotated[int | None, Query(ge=1, lt=2**53, description="Only entries with a lower id.")]
_STREAM_EXAMPLE = 'event: plan\ndata: {"seq": 7, "energy": 0.31, "actions": [[0.02, 0, ...]]}\n\n'


@router.post("/sessions/{session_id}/pause")
async def pause(
    parts: Running, caller: Operator, session_id: SessionId, order: OrderJson | None = None
) -> SessionInfo:
    """Hold the robot where it is; it keeps its session and waits for `resume`."""
    return await _order(parts, caller, session_id, PAUSED, order)


@router.post("/sessions/{session_id}/resume")
async def resume(
    parts: Running, caller: Operator, session_id: SessionId, order: OrderJson | None = None
) -> SessionInfo:
    """Let a paused or stopped session plan again."""
    return await _order(parts, caller, session_id, RUNNING, order)


@router.post("/sessions/{session_id}/stop")
async def stop(
    parts: Running, caller: Operator, session_id: SessionId, order: OrderJson | None = None
) -> SessionInfo:
    """Stop the robot and end its run. This is no emergency stop: that one is a button beside the arm."""
    return await _order(parts, caller, session_id, STOPPED, order)


@router.get("/sessions/{session_id}/plans")
async def list_plans(
    service: Service,
    _: Observer,
    session_id: SessionId,
    limit: Limit = 100,
    before: Before = None,
) -> PlanHistory:
    """Return recorded plans, newest first; also of sessions that have ended. `-` stands for single plans."""
    owner = None if session_id == "-" else session_id
    rows = await asyncio.to_thread(service.archive.plans, owner, before, limit)
    return PlanHistory(plans=[PlanRecord(**dated(row)) for row in rows])


@router.get("/sessions/{session_id}/events")
async def list_events(
    service: Service,
    _: Observer,
    session_id: SessionId,
    limit: Limit = 100,
    before: Before = None,
) -> EventHistory:
    """Return recorded events, newest first: who did what to this session. `-` stands for the server."""
    owner = None if session_id == "-" else session_id
    rows = await asyncio.to_thread(service.archive.events, owner, before, limit)
    return EventHistory(events=[EventRecord(**dated(row)) for row in rows])


@router.get(
    "/sessions/{session_id}/stream",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events until the session ends",
            "content": {"text/event-stream": {"example": _STREAM_EXAMPLE}},
        },
        "default": {"model": ErrorAnswer, "description": "Any error"},
    },
)
async def stream(parts: Running, _: Observer, session_id: SessionId) -> StreamingResponse:
    """Follow a session: `session` first, then `plan`, `error`, `goals`, `state`, `acknowledged`, `missed`, `end`."""
    service = parts.service
    session = await service.find_session(session_id)
    service.streams.check_room()
    return StreamingResponse(
        _follow(parts, session.id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _follow(parts: Parts, session_id: str) -> AsyncIterator[bytes]:
    streams = parts.service.streams
    listener = streams.listen(session_id)
    try:
        # Looked at after the listening has begun: no change, and no end, falls into a gap.
        session = parts.service.sessions.peek(session_id)
        if session is None:
            yield format_event("end", json.dumps({"actor": ""}))
            return
        yield format_event("session", describe(parts, session).model_dump_json())
        async for event in listener.read():
            yield event
    finally:
        streams.leave(session_id, listener)


async def _order(
    parts: Parts, caller: Caller, session_id: str, state: str, order: OrderJson | None
) -> SessionInfo:
    service = parts.service
    session = await service.find_session(session_id)
    _, saved = service.orders.give(session, state, order.reason if order else "", caller.name)
    return describe(parts, session, saved=await service.until_saved(saved))


def dated(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the database, its times as dates."""
    times = {
        name: datetime.fromtimestamp(row[name], timezone.utc)
        for name in ("at", "acknowledged_at", "standing_at")
        if row.get(name) is not None
    }
    return {**row, **times}
