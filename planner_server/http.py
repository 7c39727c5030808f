"""The HTTP door: what is served, sessions and their goals, single plans, and whether the service lives.

Robots plan over ZMQ (`zmq_door`); HTTP is for people, scripts and set-up. Handlers check, ask the service, and
describe its answer. They never compute.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from planner_server.schemas import (
    EXAMPLE_STATE,
    ErrorAnswer,
    Goals,
    Health,
    Limits,
    ModelCard,
    PlanAnswer,
    PlanJson,
    SessionInfo,
    SessionList,
)
from planner_server.service import PlannerService, limits_of
from planner_server.sessions import PlanOptions, Session
from planner_server.settings import Settings
from planner_server.uploads import read_goals, read_plan

_bearer = HTTPBearer(auto_error=False, description="Only where the server has a PLANNER_TOKEN.")


def get_service(request: Request) -> PlannerService:
    """Return the service that the application's start-up built."""
    service: PlannerService = request.app.state.service
    return service


Service = Annotated[PlannerService, Depends(get_service)]


async def authorise(
    service: Service,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Refuse callers that do not know the server's token."""
    service.authorise(credentials.credentials if credentials else None)


probes = APIRouter(tags=["health"])
api = APIRouter(
    prefix="/v1",
    dependencies=[Depends(authorise)],
    responses={"default": {"model": ErrorAnswer, "description": "Any error"}},
)


@probes.get("/healthz")
async def healthz() -> Health:
    """Say that the process lives; true while it plans, too."""
    return Health(status="ok")


@probes.get("/readyz", responses={503: {"model": ErrorAnswer, "description": "Not ready yet"}})
async def readyz(service: Service) -> Health:
    """Say whether the first plan can be made at once: 503 until the model is warmed up."""
    service.worker.check_ready()
    return Health(status="ready")


@api.get("/model", tags=["model"])
async def get_model(request: Request, service: Service) -> ModelCard:
    """Describe the model served, its limits, and where robots connect."""
    model, settings = service.model, _settings(request)
    return ModelCard(
        name=model.name,
        frame_size=model.frame_size,
        control_period_s=model.control_period_s,
        action_limits=_limits(model.max_step),
        planners=list(service.planners),
        default_planner=service.default_planner,
        horizon=settings.horizon,
        zmq_endpoint=request.app.state.zmq_endpoint,
        parameters=model.parameters,
        device=str(model.device),
        precision=model.precision,
    )


@api.post("/sessions", status_code=201, tags=["sessions"])
async def create_session(service: Service, options: PlanOptions | None = None) -> SessionInfo:
    """Begin a session; give its id to the robot's `hello`, and upload goals to it."""
    return _describe(service, service.create_session(options or PlanOptions()))


@api.get("/sessions", tags=["sessions"])
async def list_sessions(service: Service) -> SessionList:
    """List the open sessions."""
    return SessionList(sessions=[_describe(service, session) for session in service.sessions.all()])


@api.get("/sessions/{session_id}", tags=["sessions"])
async def get_session(service: Service, session_id: str) -> SessionInfo:
    """Describe one session."""
    return _describe(service, service.sessions.get(session_id))


@api.delete("/sessions/{session_id}", status_code=204, tags=["sessions"])
async def delete_session(service: Service, session_id: str) -> None:
    """End a session and forget its goals."""
    service.sessions.delete(session_id)


_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"type": "string", "format": "binary"}
_GOALS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One image as the body, or 1 to 16 form fields `images` in the order of the task.",
        "content": {
            "image/png": _IMAGE,
            "image/jpeg": _IMAGE,
            "image/webp": _IMAGE,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {"type": "array", "items": _FILE, "minItems": 1, "maxItems": 16}
                    },
                }
            },
        },
    }
}
_PLAN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Images as files of a form, or in base64 inside JSON.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["frame", "goal", "state"],
                    "properties": {
                        "frame": _FILE,
                        "goal": _FILE,
                        "state": {"type": "string", "example": str(EXAMPLE_STATE)},
                        **PlanOptions.model_json_schema()["properties"],
                    },
                }
            },
            "application/json": {"schema": PlanJson.model_json_schema()},
        },
    }
}


@api.put("/sessions/{session_id}/goals", tags=["sessions"], openapi_extra=_GOALS_BODY)
async def put_goals(request: Request, service: Service, session_id: str) -> Goals:
    """Replace the session's goals: one image, or up to 16 sub-goals in order. They are encoded once, now."""
    session = service.sessions.get(session_id)  # before the upload is read
    await service.set_goals(session, await read_goals(request))
    return Goals.of(session)


@api.post("/plan", tags=["plan"], openapi_extra=_PLAN_BODY)
async def plan(request: Request, service: Service) -> PlanAnswer:
    """Plan once, without a session: a frame, a goal and a pose in, the next actions out."""
    request_id: str = request.state.request_id
    planned = await service.plan_once(await read_plan(request), request_id)
    return PlanAnswer.of(planned, request_id)


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _limits(max_step: tuple[float, ...]) -> Limits:
    limits = limits_of(max_step)
    return Limits(
        max_step_m=limits.max_step_m,
        max_rotation_rad=limits.max_rotation_rad,
        max_gripper=limits.max_gripper,
    )


def _describe(service: PlannerService, session: Session) -> SessionInfo:
    counters = session.counters
    return SessionInfo(
        id=session.id,
        planner=session.planner_name,
        options=session.options,
        action_limits=_limits(session.max_step),
        idle_s=service.sessions.idle_s(session),
        observations=counters.observations,
        plans=counters.plans,
        dropped=counters.dropped,
        errors=counters.errors,
        goals=Goals.of(session).goals,
    )
