"""What a session's options come to with the model that is served: planner, box, deadline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner_server.errors import PlannerError
from planner_server.goals import SubGoal
from planner_server.options import PlanOptions
from planner_server.planning import PlanningError
from planner_server.served_model import ServedModel
from robot_client.protocol import ActionLimits

_TRANSLATION = slice(0, 3)
_ROTATION = slice(3, 6)
_ROLL_PITCH = slice(3, 5)
_GRIPPER = 6


@dataclass(frozen=True)
class Defaults:
    """What a session gets that asks for nothing; described in `settings.Settings`."""

    planner: str
    horizon: int
    deadline_ms: float | None


@dataclass(frozen=True)
class Terms:
    """How a session, or a single plan, is planned.

    Attributes:
        planner_name: Who searches.
        max_step: Box of every action `[7]` [m, rad, closedness].
        horizon: Actions to plan.
        patience_ms: Time after which an answer is late [ms].
        is_limited: Whether the search must end by then.
    """

    planner_name: str
    max_step: tuple[float, ...]
    horizon: int
    patience_ms: float
    is_limited: bool


def terms_of(options: PlanOptions, model: ServedModel, defaults: Defaults) -> Terms:
    """Return what options come to.

    Raises:
        PlannerError: `unknown_planner` or `invalid_request`.
    """
    name = options.planner or defaults.planner
    if name not in model.planners:
        known = ", ".join(model.planners)
        raise PlannerError(
            "unknown_planner", f"planner {name[:64]!r} does not exist; one of {known}"
        )
    horizon = options.horizon or defaults.horizon
    frames = options.context + horizon - 1
    if frames > model.engine.max_frames:
        raise PlannerError(
            "invalid_request",
            f"context {options.context} and horizon {horizon} make {frames} frames; "
            f"this model sees at most {model.engine.max_frames}",
        )
    max_step = _max_step(options, model)
    try:
        options.bounds(max_step)
    except PlanningError as error:
        raise PlannerError("invalid_request", str(error)) from error
    deadline_ms = options.deadline_ms or defaults.deadline_ms
    period_s = options.control_period_s or model.control_period_s
    return Terms(name, max_step, horizon, deadline_ms or 1e3 * period_s, deadline_ms is not None)


def check_goals(options: PlanOptions, goals: Sequence[SubGoal]) -> None:
    """Refuse goals that lack what the options need of them.

    Raises:
        PlannerError: `invalid_request`.
    """
    if options.energy.proprio_weight and not all(goal.rules.state for goal in goals):
        raise PlannerError(
            "invalid_request",
            f"energy.proprio_weight is {options.energy.proprio_weight} but a goal has no `state`; "
            "send the pose [7] in the goal image with every goal",
        )


def limits_of(max_step: tuple[float, ...]) -> ActionLimits:
    """Return a box `[7]` in the form of the wire: one limit each for translation, rotation and gripper."""
    return ActionLimits(
        max_step_m=max(max_step[_TRANSLATION]),
        max_rotation_rad=max(max_step[_ROTATION]),
        max_gripper=max_step[_GRIPPER],
    )


def _max_step(options: PlanOptions, model: ServedModel) -> tuple[float, ...]:
    max_step = np.array(model.max_step)
    if options.max_step_m is not None:
        largest_m = max_step[_TRANSLATION].max()
        if options.max_step_m > largest_m:
            raise PlannerError(
                "invalid_request",
                f"max_step_m is {options.max_step_m}; the model allows at most {largest_m} m per action",
            )
        max_step[_TRANSLATION] = np.minimum(max_step[_TRANSLATION], options.max_step_m)
    if options.search_rotation != "all":
        max_step[_ROTATION if options.search_rotation == "none" else _ROLL_PITCH] = 0.0
    if not options.search_gripper:
        max_step[_GRIPPER] = 0.0
    return tuple(float(limit) for limit in max_step)
