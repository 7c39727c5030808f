"""The rules in their order, from a plan to what may be executed."""

from dataclasses import dataclass

import numpy as np

from robot_client.protocol import Act
from robot_client.safety.energy import check_surprise
from robot_client.safety.finding import Finding
from robot_client.safety.geometry import Vector
from robot_client.safety.joints import clamp_joints
from robot_client.safety.limits import SafetyLimits
from robot_client.safety.replies import Asked, check_reply
from robot_client.safety.steps import clamp_speed, clamp_step
from robot_client.safety.workspace import clamp_target, clamp_way
from trajectories import poses


@dataclass(frozen=True, eq=False)
class FilteredAction:
    """What may be executed.

    Attributes:
        raw: The action [7] as it was planned.
        action: The same, clamped; zeros where refused.
        target: State [7] plus `action`; where the arm is to go.
        findings: What was found, in the order of the rules.
    """

    raw: Vector
    action: Vector
    target: Vector
    findings: tuple[Finding, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was clamped, for people."""
        return tuple(found.text for found in self.findings if found.effect == "clamped")

    @property
    def refusal(self) -> str | None:
        """Why nothing may be executed; None where it may."""
        refused = (found.text for found in self.findings if found.effect == "refused")
        return next(refused, None)


def filter_plan(
    act: Act,
    state: Vector,
    asked: Asked,
    limits: SafetyLimits,
    *,
    period_s: float | None = None,
    joints_rad: Vector | None = None,
) -> FilteredAction:
    """Check a plan against what was asked, then clamp its first action.

    Args:
        act: The server's reply; nothing in it is trusted.
        state: Measured pose [7] that the plan starts from.
        asked: What this robot asked.
        limits: The cell's limits.
        period_s: Control period [s]; None skips the speed limits.
        joints_rad: Measured joint angles [7]; None skips joint limits and singularities.
    """
    found = check_reply(act, asked, limits) or check_surprise(act.surprise, limits)
    if found is not None:
        return _refuse(act.actions[0], state, found)
    return filter_action(act.actions[0], state, limits, period_s=period_s, joints_rad=joints_rad)


def filter_action(
    action: Vector,
    state: Vector,
    limits: SafetyLimits,
    *,
    period_s: float | None = None,
    joints_rad: Vector | None = None,
) -> FilteredAction:
    """Clamp one action [7] from `state` [7] into the limits, or refuse it.

    Args:
        action: In the base frame; anything at all.
        state: Measured flange pose.
        limits: The cell's limits.
        period_s: Control period [s]; None skips the speed limits.
        joints_rad: Measured joint angles [7]; None skips joint limits and singularities.
    """
    broken = _not_numbers("action", action) or _not_numbers("state", state)
    if broken is not None:
        is_state = _not_numbers("state", state) is None
        return _refuse(action, state if is_state else np.zeros(poses.POSE_DIM), broken)
    clamped, findings = _shrink(action, period_s, limits)
    target = poses.compose(state, clamped).astype(np.float64)
    target, more = clamp_target(state, target, limits)
    findings += more
    clamped[poses.POSITION] = target[poses.POSITION] - state[poses.POSITION]
    clamped[poses.GRIPPER] = target[poses.GRIPPER] - state[poses.GRIPPER]
    # To lift the fingertips off the table is a longer step, which has to keep the limits, too. What
    # comes after this only cuts the way short, and so breaks none of the rules before it.
    clamped, more = _shrink(clamped, period_s, limits)
    findings += more
    clamped, more = clamp_way(state, clamped, limits)
    findings += more
    if joints_rad is not None and np.isfinite(joints_rad).all():
        clamped, more = clamp_joints(state, clamped, joints_rad, limits)
        findings += more
    target = poses.compose(state, clamped).astype(np.float64)
    return FilteredAction(action.copy(), clamped, target, tuple(findings))


def _shrink(
    action: Vector, period_s: float | None, limits: SafetyLimits
) -> tuple[Vector, list[Finding]]:
    """Clamp step, rotation and speed; the action becomes shorter and keeps its direction."""
    clamped, findings = clamp_step(action, limits)
    if period_s is None:
        return clamped, findings
    clamped, more = clamp_speed(clamped, period_s, limits)
    return clamped, findings + more


def _not_numbers(name: str, values: Vector) -> Finding | None:
    if values.shape == (poses.POSE_DIM,) and np.isfinite(values).all():
        return None
    return Finding("not finite", "refused", f"the {name} is not 7 finite numbers: {values!r}")


def _refuse(raw: Vector, state: Vector, found: Finding) -> FilteredAction:
    return FilteredAction(raw.copy(), np.zeros(poses.POSE_DIM), state.copy(), (found,))
