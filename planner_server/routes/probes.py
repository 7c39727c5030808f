"""Whether the service lives, can plan, and what it has counted."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from planner_server import __version__
from planner_server.routes.access import Configured, Observer, Service, get_parts
from planner_server.schemas import ErrorAnswer, Geometry, Health, Limits, ModelCard, Readiness
from planner_server.terms import limits_of

probes = APIRouter(tags=["health"])
model = APIRouter(prefix="/v1", tags=["model"])


@probes.get("/healthz", responses={503: {"model": ErrorAnswer, "description": "Restart it"}})
async def healthz(service: Service) -> Health:
    """Say that the process lives, also while it plans: 503 where only a restart would help."""
    service.worker.check_alive()
    return Health(status="ok")


@probes.get("/readyz", responses={503: {"model": ErrorAnswer, "description": "Not ready yet"}})
async def readyz(service: Service) -> Readiness:
    """Say whether the first plan can be made at once: 503 until the model is warmed up, and after its device failed."""
    service.worker.check_ready()
    problem = service.archive.writer.problem
    return Readiness(
        status="ready", problem=f"records are not saved: {problem}" if problem else None
    )


@probes.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"example": "planner_sessions 3.0\n"}}},
        "default": {"model": ErrorAnswer, "description": "Any error"},
    },
)
async def metrics(service: Service, _: Observer) -> Response:
    """Return counters and histograms in Prometheus' text format."""
    service.sample()
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


@model.get("/model")
async def get_model(
    request: Request, service: Service, settings: Configured, _: Observer
) -> ModelCard:
    """Describe the model served, its limits, and where robots connect."""
    served = service.model
    rows, columns = served.grid
    return ModelCard(
        name=served.name,
        frame_size=served.frame_size,
        frame_geometry=served.world_model.config.frame_geometry,
        geometry=Geometry(
            rows=rows,
            columns=columns,
            max_frames=served.engine.max_frames,
        ),
        control_period_s=served.control_period_s,
        action_limits=limits_in_json(served.max_step),
        planners=list(served.planners),
        default_planner=service.defaults.planner,
        horizon=settings.horizon,
        deadline_ms=settings.deadline_ms,
        zmq_endpoint=get_parts(request).zmq_endpoint,
        sha256=served.sha256,
        parameters=served.parameters,
        device=str(served.device),
        precision=served.precision,
        server=f"vjepa-planner {__version__}",
    )


def limits_in_json(max_step: tuple[float, ...]) -> Limits:
    """Return a box `[7]` as the API describes it."""
    limits = limits_of(max_step)
    return Limits(
        max_step_m=limits.max_step_m,
        max_rotation_rad=limits.max_rotation_rad,
        max_gripper=limits.max_gripper,
    )
