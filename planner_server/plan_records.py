"""What is written down of a plan, and what those who watch are shown of it."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner_server.plan_request import Cloud, Planned, PlanRequest

_ELITES = 8  # of what is shown, marked as the best


@dataclass(frozen=True, eq=False)
class Outcome:
    """A plan, the goal it is for, and whether that goal, or the whole task, is done."""

    planned: Planned
    goal_index: int
    is_goal_done: bool
    is_task_done: bool


def record_of(request: PlanRequest, outcome: Outcome) -> dict[str, Any]:
    """Return what a lab must be able to look up about an action: what was seen, asked, answered, and by what."""
    planned, plan = outcome.planned, outcome.planned.plan
    return {
        "goal_index": outcome.goal_index,
        "goal_sha256": request.goal.sha256,
        "goal_name": request.goal.rules.name,
        "frame_sha256": planned.frame_sha256,
        "state": request.state.tolist(),
        "committed": None if request.committed is None else request.committed.tolist(),
        "planner": request.planner_name,
        "seed": request.seed,
        "actions": plan.actions.tolist(),
        "predicted_states": plan.predicted_states.tolist(),
        "energy": plan.energy,
        "energy_now": plan.energy_now,
        "energy_do_nothing": plan.energy_do_nothing,
        "energy_per_iteration": _finite(plan.energy_per_iteration),
        "surprise": planned.surprise,
        "evaluations": plan.evaluations,
        "stop_reason": plan.stop_reason.value,
        "encode_ms": planned.encode_ms,
        "plan_ms": planned.plan_ms,
        "queue_ms": planned.queue_ms,
        "batch_size": planned.batch_size,
        "is_goal_done": outcome.is_goal_done,
        "is_task_done": outcome.is_task_done,
        "warnings": list(planned.warnings),
    }


def event_of(seq: int, record: dict[str, Any], planned: Planned) -> dict[str, Any]:
    """Return the stream's event about a plan: its record, and what a page needs to draw it."""
    event = {"seq": seq, "at": time.time(), **record}
    shown = planned.display
    if shown is not None:
        event["frame_jpeg"] = base64.b64encode(shown.thumbnail).decode()
        event["heat"] = [[round(value, 4) for value in row] for row in shown.heat]
        event["candidates"] = _candidates(shown.iterations)
    return event


def _candidates(iterations: Sequence[Cloud]) -> dict[str, Any]:
    """Return what was tried in every iteration, and the last one at the top."""
    rounded = [
        {
            "actions": [[round(value, 5) for value in action] for action in cloud.actions],
            "energies": [round(value, 6) for value in cloud.energies],
        }
        for cloud in iterations
    ]
    last = rounded[-1] if rounded else {"actions": [], "energies": []}
    elites = min(_ELITES, len(iterations[-1].energies)) if iterations else 0
    return {**last, "elites": elites, "iterations": rounded}


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values]
