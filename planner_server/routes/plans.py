"""Plans and energies: of a robot in its session, and single ones for scripts and curiosity."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from planner_server.errors import PlannerError
from planner_server.goal_images import frame_of
from planner_server.landscape import EnergyQuestion, grid_of, picture_of
from planner_server.options import PlanOptions
from planner_server.plan_request import Observation, SinglePlan
from planner_server.questions import AXES, EnergyJson, LandscapeJson, ObservationJson, PlanJson
from planner_server.routes.access import GoalUploads, Planner, Service
from planner_server.routes.bodies import question_body
from planner_server.routes.sessions import SessionId
from planner_server.schemas import (
    EnergyAnswer,
    ErrorAnswer,
    LandscapeAnswer,
    PlanAnswer,
    SessionPlanAnswer,
)
from planner_server.uploads import parse_actions, parse_state, read_body

router = APIRouter(prefix="/v1", tags=["plan"])

_OPTIONS = tuple(PlanOptions.model_fields)
_BOTH = ("frame", "goal")


@router.post("/plan", openapi_extra=question_body(PlanJson, _BOTH))
async def plan(request: Request, service: Service, maker: GoalUploads, _: Planner) -> PlanAnswer:
    """Plan once, without a session: a frame, a goal and a pose in, the next actions out."""
    request_id: str = request.state.request_id
    body, files = await read_body(request, PlanJson, _BOTH)
    options = PlanOptions(**{name: getattr(body, name) for name in _OPTIONS})
    goal = await maker.goal(files["goal"])
    question = SinglePlan(frame_of(files["frame"]), goal, parse_state(body.state), options)
    planned = await service.plan_once(question, request_id)
    return PlanAnswer.of(planned, request_id)


@router.post(
    "/sessions/{session_id}/plan", openapi_extra=question_body(ObservationJson, ("frame",))
)
async def plan_in_session(
    request: Request, service: Service, caller: Planner, session_id: SessionId
) -> SessionPlanAnswer:
    """Plan for one observation of a session, as a robot does over ZMQ; the newest observation wins."""
    received_s = time.monotonic()
    session = await service.find_session(session_id)
    session.check_belongs_to(caller)
    body, files = await read_body(request, ObservationJson, ("frame",))
    seq = session.counters.observations if body.seq is None else body.seq
    state = parse_state(body.state)
    committed = None if body.committed is None else parse_actions([body.committed])[0]
    read_frame = frame_of(files["frame"])
    seen = Observation(seq, read_frame, state, body.goal_index, committed, received_s)
    outcome = await service.observe(session, seen)
    answer = PlanAnswer.of(outcome.planned, request.state.request_id)
    return SessionPlanAnswer(
        **dict(answer),
        seq=seq,
        goal_index=outcome.goal_index,
        is_goal_done=outcome.is_goal_done,
        is_task_done=outcome.is_task_done,
        surprise=outcome.planned.surprise,
    )


@router.post("/energy", openapi_extra=question_body(EnergyJson, _BOTH))
async def energy(
    request: Request, service: Service, maker: GoalUploads, _: Planner
) -> EnergyAnswer:
    """Say how near the goal given actions lead, as far as the model can tell."""
    body, files = await read_body(request, EnergyJson, _BOTH)
    actions, state = parse_actions(body.actions), parse_state(body.state)
    goal = await maker.goal(files["goal"])
    question = EnergyQuestion(frame_of(files["frame"]), state, goal, actions, body.energy)
    found = await service.energies(question)
    return EnergyAnswer(**vars(found), request_id=request.state.request_id)


@router.post(
    "/energy-landscape",
    openapi_extra=question_body(LandscapeJson, _BOTH),
    response_model=LandscapeAnswer,
    responses={
        200: {"content": {"image/png": {}}, "description": "Numbers, or a picture of two axes"},
        "default": {"model": ErrorAnswer, "description": "Any error"},
    },
)
async def energy_landscape(
    request: Request,
    service: Service,
    maker: GoalUploads,
    _: Planner,
    output: Annotated[Literal["json", "png"], Query(alias="format")] = "json",
) -> Response | LandscapeAnswer:
    """Measure the energy over a grid of single actions, along one to three axes."""
    body, files = await read_body(request, LandscapeJson, _BOTH)
    axes = {AXES.index(each.axis): (each.low, each.high, each.points) for each in body.axes}
    if len(axes) != len(body.axes) or (output == "png" and len(axes) > 2):
        raise PlannerError(
            "invalid_request", "every axis once, please, and at most two of them for a picture"
        )
    values, actions = grid_of(axes)
    goal = await maker.goal(files["goal"])
    state = parse_state(body.state)
    question = EnergyQuestion(frame_of(files["frame"]), state, goal, actions, body.energy)
    found = await service.energies(question)
    if output == "png":
        shape = (len(values[0]), len(values[1])) if len(values) == 2 else (1, len(values[0]))
        return Response(picture_of(np.array(found.energies).reshape(shape)), media_type="image/png")
    best = int(np.argmin(found.energies))
    return LandscapeAnswer(
        axes=[each.axis for each in body.axes],
        values=values,
        energies=found.energies,
        best_action=actions[best, 0].tolist(),
        best_energy=found.energies[best],
        energy_now=found.energy_now,
        energy_do_nothing=found.energy_do_nothing,
        encode_ms=found.encode_ms,
        model_ms=found.model_ms,
        request_id=request.state.request_id,
    )
