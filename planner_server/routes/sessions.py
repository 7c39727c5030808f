"""Sessions and their goals."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Path, Query, Request, Response

from planner_server.errors import PlannerError
from planner_server.options import PlanOptions
from planner_server.routes.access import GoalUploads, Observer, Planner, Running, Service
from planner_server.routes.bodies import goals_body
from planner_server.routes.probes import limits_in_json
from planner_server.schemas import ErrorAnswer, Goals, SessionInfo, SessionList
from planner_server.session import Session
from planner_server.start import Parts
from planner_server.uploads import read_goals
from robot_client.protocol import MAX_GOALS

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])
SessionId = Annotated[str, Path(max_length=64)]


@router.post("", status_code=201)
async def create_session(
    parts: Running,
    caller: Planner,
    options: PlanOptions | None = None,
    owner: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=64,
            description="Name of the token that it shall belong to; another's than the caller's needs operate.",
        ),
    ] = None,
    replaces: Annotated[
        str | None,
        Query(
            max_length=64,
            description="The session that it replaces, which a server has lost in the middle of a run; where this "
            "server was told to stop everything since it began, the new one is stopped.",
        ),
    ] = None,
) -> SessionInfo:
    """Begin a session; give its id to the robot's `hello`, and upload goals to it."""
    service = parts.service
    session, saved = service.create_session(options or PlanOptions(), caller, owner)
    if replaces is not None:
        saved = service.orders.stop_replacement(session) or saved
    is_saved = await service.until_saved(saved)
    return describe(parts, session, saved=is_saved)


@router.get("")
async def list_sessions(parts: Running, _: Observer) -> SessionList:
    """List the open sessions of this server."""
    return SessionList(sessions=[describe(parts, each) for each in parts.service.sessions.all()])


@router.get("/{session_id}")
async def get_session(parts: Running, _: Observer, session_id: SessionId) -> SessionInfo:
    """Describe one session."""
    return describe(parts, await parts.service.find_session(session_id))


@router.delete("/{session_id}", status_code=204, response_model=None)
async def delete_session(service: Service, caller: Planner, session_id: SessionId) -> None:
    """End a session; its plans and events can still be looked up."""
    session = await service.find_session(session_id)
    session.check_belongs_to(caller)
    await service.until_saved(service.end_session(session_id, caller.name))


@router.put("/{session_id}/goals", openapi_extra=goals_body())
async def put_goals(
    request: Request, service: Service, maker: GoalUploads, caller: Planner, session_id: SessionId
) -> Goals:
    """Replace the session's goals: one image, or up to 16 sub-goals in order. They are encoded once, now."""
    session = await service.find_session(session_id)  # before the upload is read
    session.check_belongs_to(caller)
    goals = await maker.goals(await read_goals(request))
    is_saved = await service.set_goals(session, goals, caller.name)
    return Goals(goals=Goals.of(session).goals, saved=is_saved)


@router.get(
    "/{session_id}/goals/{index}/image",
    response_class=Response,
    responses={
        200: {"content": {"image/*": {}}, "description": "The file as it was sent"},
        "default": {"model": ErrorAnswer, "description": "Any error"},
    },
)
async def get_goal_image(
    service: Service,
    _: Observer,
    session_id: SessionId,
    index: Annotated[int, Path(ge=0, lt=MAX_GOALS)],
) -> Response:
    """Return the first image of a goal as it was sent."""
    session = await service.find_session(session_id)
    if index >= len(session.goals):
        raise PlannerError(
            "not_found", f"goal {index} does not exist; the session has {len(session.goals)}"
        )
    image = session.goals[index].images[0]
    return Response(image.data, media_type=image.media_type)


def describe(parts: Parts, session: Session, *, saved: bool | None = None) -> SessionInfo:
    """Return a session as the API shows it."""
    service = parts.service
    counters = session.counters
    return SessionInfo(
        id=session.id,
        owner=session.owner,
        planner=session.terms.planner_name,
        options=session.options,
        action_limits=limits_in_json(session.terms.max_step),
        control_period_s=session.options.control_period_s or service.model.control_period_s,
        zmq_endpoint=parts.zmq_endpoint,
        state=cast(Literal["running", "paused", "stopped"], session.state),
        order=session.order_number,
        is_order_obeyed=session.is_order_obeyed,
        arm=session.arm if session.order() is None else None,
        goal_index=session.goal_index,
        goal_steps=session.goal_steps,
        created_at=datetime.fromtimestamp(session.created_at, timezone.utc),
        idle_s=service.sessions.idle_s(session),
        observations=counters.observations,
        plans=counters.plans,
        dropped=counters.dropped,
        errors=counters.errors,
        late=counters.late,
        goals=Goals.of(session).goals,
        saved=saved,
    )
