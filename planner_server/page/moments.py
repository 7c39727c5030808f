"""Questions about the moment a session is in: from its newest frame to a goal of its own."""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

from planner_server.errors import PlannerError
from planner_server.goal_tokens import GoalTokens
from planner_server.landscape import grid_of, in_portions
from planner_server.page.imagination import Imagined, Scene, Stage
from planner_server.page.questions import ImagineJson, MomentJson, SliceAnswer, SliceJson
from planner_server.questions import AXES
from planner_server.served_model import ServedModel
from planner_server.service import PlannerService
from planner_server.session import Look, Session


def look_of(session: Session, seq: int | None) -> Look:
    """Return what a session was planned for last, or what was asked about last.

    Args:
        session: Whose.
        seq: Which observation; None: the newest.

    Raises:
        PlannerError: `not_found`.
    """
    if session.newest is None:
        raise PlannerError(
            "not_found",
            f"session {session.id} has not been planned for since the server started; start its robot",
        )
    if seq is None:
        return session.newest
    for look in (session.newest, session.asked_about):
        if look is not None and look.seq == seq:
            return look
    raise PlannerError(
        "not_found",
        f"observation {seq} is not kept any more, the robot has moved on; ask about the newest, {session.newest.seq}",
    )


async def imagine(
    service: PlannerService,
    session: Session,
    question: ImagineJson,
) -> tuple[Look, int, NDArray[np.float64], Imagined]:
    """Imagine actions, or what was planned, from a session's newest frame or the one asked about last.

    Returns:
        The look it begins with, the goal's index, the actions `[H, 7]`, and what would come of them.

    Raises:
        PlannerError: `not_found`, `no_goal`, `invalid_request`, `busy` or `planner_failed`.
    """
    look, index, scene = _scene(session, question)
    asked = question.actions
    rows = look.actions if asked is None else np.array(asked, dtype=np.float64)
    if len(rows) > service.model.engine.max_frames:
        raise PlannerError(
            "invalid_request",
            f"{len(rows)} actions are more than the {service.model.engine.max_frames} this model can look ahead",
        )

    def work(model: ServedModel, goals: GoalTokens) -> Imagined:
        return Stage(model, goals, scene).imagine(rows)

    found = await asyncio.wrap_future(service.worker.ask(work, "imagine"))
    return look, index, rows, found


async def measure_slice(
    service: PlannerService, session: Session, question: SliceJson
) -> SliceAnswer:
    """Measure energies over a grid of single actions, in portions between which robots have their turn.

    Raises:
        PlannerError: `not_found`, `no_goal`, `invalid_request`, `busy` or `planner_failed`.
    """
    axes = {AXES.index(each.axis): (each.low, each.high, each.points) for each in question.axes}
    if len(axes) != len(question.axes):
        raise PlannerError("invalid_request", "every axis once, please")
    values, actions = grid_of(axes)
    others = [axis for axis in range(len(AXES)) if axis not in axes]
    actions[:, 0, others] = np.array(question.around)[others]
    look, index, scene = _scene(session, question)

    def begin(model: ServedModel, goals: GoalTokens) -> tuple[Stage, float, float]:
        stage = Stage(model, goals, scene)
        return stage, stage.energy_now(), stage.energies(np.zeros((1, 1, len(AXES))))[0]

    stage, now, still = await asyncio.wrap_future(service.worker.ask(begin, "landscape"))
    energies = await in_portions(service.worker, actions, stage.energies)
    best = int(np.argmin(energies))
    return SliceAnswer(
        seq=look.seq,
        goal_index=index,
        axes=[each.axis for each in question.axes],
        values=values,
        energies=energies,
        best_action=actions[best, 0].tolist(),
        best_energy=energies[best],
        planned_action=look.actions[0].tolist(),
        energy_now=now,
        energy_do_nothing=still,
    )


def _scene(session: Session, question: MomentJson) -> tuple[Look, int, Scene]:
    """Return what is asked about, and keep it with the session for the next question."""
    look = look_of(session, question.seq)
    asked = question.goal_index
    index, goal = session.goal(look.goal_index if asked is None else asked)
    session.asked_about = look
    return look, index, Scene(look.read_frame, look.state, goal, session.options.energy)
