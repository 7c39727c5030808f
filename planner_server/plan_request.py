"""What the doors hand to the planning worker, and what they get back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_server.planning import Plan, Planner, StopReason
from planner_server.sessions import Goal

Frame = NDArray[np.uint8]

_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class PlanRequest:
    """Everything one plan needs, gathered before it waits, so that the worker knows no session.

    Attributes:
        read_frame: Returns the current frame, uint8 RGB `[H, W, 3]`; called by the worker, so that a compressed
            observation that is overtaken is never decoded.
        state: Pose `[7]` at the frame's capture.
        goal: Where to go.
        planner: How to search.
        max_step: Box of every action `[7]` [m, rad, closedness].
        seed: Seed of this search.
        name: What log lines call it.
    """

    read_frame: Callable[[], Frame]
    state: NDArray[np.float64]
    goal: Goal
    planner: Planner
    max_step: tuple[float, ...]
    seed: int
    name: str


@dataclass(frozen=True)
class Planned:
    """A plan and what it took [ms]."""

    plan: Plan
    encode_ms: float
    plan_ms: float
    queue_ms: float
    warnings: tuple[str, ...]


def warnings_about(plan: Plan, frame: Frame, goal: Goal) -> tuple[str, ...]:
    """What a person beside the robot should know about this plan."""
    warnings = []
    if plan.stop_reason is StopReason.DEADLINE:
        warnings.append(f"the deadline ended the search after {plan.evaluations} evaluations")
    if plan.energy >= plan.energy_do_nothing and np.any(plan.actions):
        warnings.append("the model predicts no gain over holding still")
    aspect, goal_aspect = frame.shape[1] / frame.shape[0], goal.width / goal.height
    if abs(aspect / goal_aspect - 1) > _ASPECT_TOLERANCE:
        warnings.append(
            f"frame ({frame.shape[1]} x {frame.shape[0]}) and goal ({goal.width} x {goal.height}) differ in shape; "
            "take the goal with the same camera"
        )
    return tuple(warnings)
