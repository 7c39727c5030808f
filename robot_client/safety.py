"""What a plan must pass before the arm moves: pure functions of action, state and limits.

The filter refuses what cannot be trusted (not finite, not for this observation, too old) and clamps
what is only too much (step, workspace, height of the fingertips). Whatever it changes it says, and
the recorder keeps both versions. Poses are flange in base frame.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from robot_client.protocol import Act
from trajectories import poses

#: From the flange to the tips of the Franka Hand's fingers, along the flange's z axis [m].
FINGERTIP_DEPTH_M = 0.1124

Vector = npt.NDArray[np.float64]
Corner = tuple[float, float, float]


class SafetyLimits(BaseModel):
    """Limits of one task or robot cell; every field has a default that fits the demo's table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    workspace_low_m: Corner = (0.25, -0.45, 0.10)
    """Lowest x, y, z of the flange in the base frame [m]."""
    workspace_high_m: Corner = (0.75, 0.45, 0.75)
    """Highest x, y, z of the flange in the base frame [m]."""
    max_step_m: Annotated[float, Field(gt=0, le=0.5)] = 0.15
    """Largest displacement per axis and control period [m]."""
    max_rotation_rad: Annotated[float, Field(ge=0, le=1.0)] = 0.2
    """Largest rotation about any axis per control period [rad]."""
    min_fingertip_z_m: float = 0.005
    """Lowest height of the fingertips over the base plane [m]; the table's top belongs here."""
    max_observation_age_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    """Oldest observation a plan may rest on [s]; the arm stands still while it waits."""
    max_drift_m: Annotated[float, Field(gt=0, le=0.1)] = 0.02
    """How far the flange may have moved since the observation [m]: pushed by hand, or not at rest."""
    max_deviation_m: Annotated[float, Field(gt=0, le=0.5)] = 0.08
    """Farthest a moving flange may be from the straight line to its target [m]; then the run ends."""

    @model_validator(mode="after")
    def _is_box(self) -> Self:
        numbers = np.array([*self.workspace_low_m, *self.workspace_high_m, self.min_fingertip_z_m])
        if not np.isfinite(numbers).all():
            raise ValueError("the workspace must be finite")
        if not np.all(numbers[:3] < numbers[3:6]):
            raise ValueError(
                f"workspace_low_m {self.workspace_low_m} must lie below {self.workspace_high_m}"
            )
        return self


@dataclass(frozen=True)
class Asked:
    """What the robot asked and when, to hold a reply against.

    Attributes:
        session: This robot's session.
        seq: Sequence number of its newest observation.
        goal_index: Goal it asked for.
        age_s: Time since that observation's capture [s].
        drift_m: How far the flange has moved since then [m].
    """

    session: str
    seq: int
    goal_index: int
    age_s: float
    drift_m: float


@dataclass(frozen=True, eq=False)
class FilteredAction:
    """What may be executed.

    Attributes:
        action: The first planned action [7], clamped; zeros where refused.
        target: State [7] plus `action`; where the arm is to go.
        warnings: What was clamped, for people.
        refusal: Why nothing may be executed; None where it may.
    """

    action: Vector
    target: Vector
    warnings: tuple[str, ...]
    refusal: str | None = None


def filter_plan(act: Act, state: Vector, asked: Asked, limits: SafetyLimits) -> FilteredAction:
    """Check a plan against what was asked, then clamp its first action.

    Args:
        act: The server's reply; nothing in it is trusted.
        state: Measured pose [7] that the plan starts from.
        asked: What this robot asked.
        limits: The cell's limits.
    """
    refusal = _mismatch(act, asked, limits)
    return (
        filter_action(act.actions[0], state, limits) if refusal is None else _refuse(state, refusal)
    )


def filter_action(action: Vector, state: Vector, limits: SafetyLimits) -> FilteredAction:
    """Clamp one action [7] from `state` [7] into the limits, or refuse it."""
    if action.shape != (poses.POSE_DIM,) or not np.isfinite(action).all():
        return _refuse(state, f"the action is not 7 finite numbers: {action!r}")
    if state.shape != (poses.POSE_DIM,) or not np.isfinite(state).all():
        return _refuse(np.zeros(poses.POSE_DIM), f"the state is not 7 finite numbers: {state!r}")
    warnings: list[str] = []
    clamped = _clamp_step(action, limits, warnings)
    target = poses.compose(state, clamped).astype(np.float64)
    _clamp_workspace(target, state, limits, warnings)
    clamped[poses.POSITION] = target[poses.POSITION] - state[poses.POSITION]
    clamped[poses.GRIPPER] = target[poses.GRIPPER] - state[poses.GRIPPER]
    return FilteredAction(clamped, target, tuple(warnings))


def deviation_m(position: Vector, start: Vector, target: Vector) -> float:
    """Distance of a flange position [3] from the straight line between two others [3], in [m]."""
    way = target - start
    length_m2 = float(way @ way)
    share = float(np.clip((position - start) @ way / length_m2, 0.0, 1.0)) if length_m2 else 0.0
    return float(np.linalg.norm(position - start - share * way))


def fingertip_z_m(pose: Vector) -> float:
    """Height of the fingertips over the base plane [m] for a flange pose [7]."""
    rotation = poses.euler_to_matrix(pose[poses.ROTATION])
    return float(pose[2] + FINGERTIP_DEPTH_M * rotation[2, 2])


def _refuse(state: Vector, reason: str) -> FilteredAction:
    return FilteredAction(np.zeros(poses.POSE_DIM), state.copy(), (), reason)


def _mismatch(act: Act, asked: Asked, limits: SafetyLimits) -> str | None:
    if act.session != asked.session:
        return f"the plan is for session {act.session!r}, this robot is {asked.session!r}"
    if act.seq != asked.seq:
        return f"the plan answers observation {act.seq}, the newest is {asked.seq}"
    if act.goal_index != asked.goal_index:
        return f"the plan is for goal {act.goal_index}, goal {asked.goal_index} was asked for"
    if not asked.age_s <= limits.max_observation_age_s:
        oldest = limits.max_observation_age_s
        return f"the observation is {asked.age_s:.2f} s old; at most {oldest:.2f} s"
    if not asked.drift_m <= limits.max_drift_m:
        most = f"at most {100 * limits.max_drift_m:.1f} cm"
        return f"the arm has moved {100 * asked.drift_m:.1f} cm since the observation; {most}"
    return None


def _clamp_step(action: Vector, limits: SafetyLimits, warnings: list[str]) -> Vector:
    """Shrink translation and rotation each as a whole, so that the direction stays."""
    clamped = action.copy()
    for part, limit, name in (
        (poses.POSITION, limits.max_step_m, "step"),
        (poses.ROTATION, limits.max_rotation_rad, "rotation"),
    ):
        largest = float(np.abs(action[part]).max())
        # A hair of slack: the planner's box is often this very limit, in another float type.
        if largest > limit + 1e-6:
            clamped[part] *= limit / largest
            warnings.append(f"{name} of {largest:.3f} clamped to {limit:.3f}")
    return clamped


def _clamp_workspace(
    target: Vector, state: Vector, limits: SafetyLimits, warnings: list[str]
) -> None:
    """Move `target` [7] into the box and above the table, in place.

    An arm that already stands outside may come in by its own steps or stay, but not go further out.
    """
    position, now = target[poses.POSITION], state[poses.POSITION]
    low = np.minimum(np.array(limits.workspace_low_m), now)
    high = np.maximum(np.array(limits.workspace_high_m), now)
    inside = np.clip(position, low, high)
    if not np.array_equal(inside, position):
        warnings.append(f"target {np.round(position, 3).tolist()} clamped into the workspace")
        target[poses.POSITION] = inside
    lowest_m = min(limits.min_fingertip_z_m, fingertip_z_m(state))
    missing_m = lowest_m - fingertip_z_m(target)
    if missing_m > 1e-9:
        target[2] += missing_m
        warnings.append(f"raised by {missing_m:.3f} m to keep the fingertips off the table")
