"""Past sessions, to be looked at again: what each was, how it went, and what its robot saw."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field

from planner_server.episode_folder import list_episodes
from planner_server.errors import PlannerError
from planner_server.routes.access import Configured, Observer, Service
from planner_server.routes.operation import dated
from planner_server.routes.sessions import SessionId
from planner_server.schemas import ErrorAnswer
from planner_server.store.history import PastSession

router = APIRouter(prefix="/v1/history", tags=["history"])

_FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}
Digest = Annotated[str, PathParameter(pattern="^[0-9a-f]{64}$")]


class PastSessionInfo(BaseModel):
    """A session, over or not."""

    id: str
    task: str
    planner: str | None = Field(description="As it was asked for; null: the server's choice.")
    created_at: datetime
    used_at: datetime
    ended_at: datetime | None
    is_open: bool
    state: str
    plans: int
    energy_first: float | None = Field(description="Distance to the goal at the first plan.")
    energy_last: float | None = Field(description="Distance to the goal at the last plan.")
    episode: str | None = Field(description="Name of the recorded episode, where there is one.")


class PastSessions(BaseModel):
    """Sessions, newest first; ask for those `before` what `next` says to read on."""

    sessions: list[PastSessionInfo]
    next: float | None


class Moment(BaseModel):
    """One plan of a session, in few words; `GET /v1/sessions/{id}/plans` has all of it."""

    id: int
    at: datetime
    seq: int | None
    goal_index: int | None
    goal_name: str | None
    frame_sha256: str | None = Field(description="Name of the frame, and of its picture.")
    has_frame: bool = Field(description="Whether its picture was kept.")
    state: list[float] | None
    energy: float | None
    energy_now: float | None
    energy_do_nothing: float | None
    surprise: float | None
    encode_ms: float | None
    plan_ms: float | None
    queue_ms: float | None
    warnings: list[str] | None


class Course(BaseModel):
    """How a session went: its plans in order of time, evenly thinned out where there are many."""

    plans: list[Moment]


@router.get("/sessions")
async def list_past_sessions(
    service: Service,
    settings: Configured,
    _: Observer,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[
        float | None, Query(ge=0, le=1e11, description="Only those made before [s since 1970].")
    ] = None,
) -> PastSessions:
    """List sessions, those that are over included, newest first."""
    found = await asyncio.to_thread(service.history.sessions, before, limit)
    episodes = await asyncio.to_thread(_episodes_of_sessions, settings.episodes)
    known = {session.id for session in service.sessions.all()}
    infos = [_describe(each, each.id in known, episodes.get(each.id)) for each in found]
    return PastSessions(sessions=infos, next=found[-1].created_at if len(found) == limit else None)


@router.get("/sessions/{session_id}")
async def get_course(
    service: Service,
    _: Observer,
    session_id: SessionId,
    limit: Annotated[int, Query(ge=2, le=5000, description="Plans at most.")] = 1000,
) -> Course:
    """Tell how a session went, from its first plan to its last; it may be over."""
    rows = await asyncio.to_thread(service.history.course, session_id, limit)
    return Course(plans=[Moment(**dated(row)) for row in rows])


@router.get(
    "/frames/{sha256}",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {}}, "description": "Longer side 160 px"},
        "default": {"model": ErrorAnswer, "description": "Any error"},
    },
)
async def get_observed_frame(service: Service, _: Observer, sha256: Digest) -> Response:
    """Return the small picture of an observed frame, which a plan names by its digest."""
    jpeg = await asyncio.to_thread(service.history.frame, sha256)
    if jpeg is None:
        raise PlannerError(
            "not_found", "no picture of this frame is kept; PLANNER_RETAIN_FRAMES says how many are"
        )
    return Response(jpeg, media_type="image/jpeg", headers=_FOR_EVER)


def _episodes_of_sessions(root: Path | None) -> dict[str, str]:
    if root is None:
        return {}
    episodes, _ = list_episodes(root)
    return {each.session_id: each.name for each in episodes if each.session_id is not None}


def _describe(past: PastSession, is_open: bool, episode: str | None) -> PastSessionInfo:  # noqa: FBT001
    options: dict[str, Any] = past.options
    return PastSessionInfo(
        id=past.id,
        task=options.get("task") or "",
        planner=options.get("planner"),
        created_at=_date(past.created_at),
        used_at=_date(past.used_at),
        ended_at=None if past.ended_at is None else _date(past.ended_at),
        is_open=is_open,
        state=past.state,
        plans=past.plans,
        energy_first=past.energy_first,
        energy_last=past.energy_last,
        episode=episode,
    )


def _date(time_s: float) -> datetime:
    return datetime.fromtimestamp(time_s, timezone.utc)
