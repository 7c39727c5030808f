"""Joint limits and singularities: an action is cut short before the arm runs into either."""

from dataclasses import dataclass

import numpy as np

from robot_client.arms import fr3_kinematics
from robot_client.safety.finding import Finding
from robot_client.safety.geometry import Vector
from robot_client.safety.limits import SafetyLimits
from trajectories import poses

_FRACTIONS = (0.25, 0.5, 0.75, 1.0)
_MISSING = 0.02  # m + rad; an arm that cannot follow this closely is at the edge of its reach
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class _Margins:
    joint_rad: float
    singular_value: float


def clamp_joints(
    state: Vector, action: Vector, joints_rad: Vector, limits: SafetyLimits
) -> tuple[Vector, list[Finding]]:
    """Cut an action [7] short where it would come too near a joint limit or a singularity.

    An arm that is too near already may move, as long as it does not get nearer.

    Args:
        state: Flange pose [7] the action starts from.
        action: Finite action [7].
        joints_rad: Measured joint angles [7].
        limits: `joint_margin_rad` and `min_singular_value`, either of which may be None.
    """
    if limits.joint_margin_rad is None and limits.min_singular_value is None:
        return action, []
    now, joints, share = _margins(joints_rad, limits), joints_rad, 0.0
    for fraction in _FRACTIONS:
        pose = poses.compose(state, fraction * action).astype(np.float64)
        joints, missing = fr3_kinematics.follow(joints, pose)
        reason = "the edge of its reach" if missing > _MISSING else None
        reason = reason or _worse(_margins(joints, limits), now, limits)
        if reason is not None:
            text = f"the step leads to {reason}; cut to {100 * share:.0f} %"
            finding = Finding("joints", "clamped", text, 1.0, share)
            return np.concatenate([share * action[:6], action[6:]]), [finding]
        share = fraction
    return action, []


def _margins(joints_rad: Vector, limits: SafetyLimits) -> _Margins:
    return _Margins(
        fr3_kinematics.joint_margin_rad(joints_rad, limits.joint_limits),
        fr3_kinematics.smallest_singular_value(joints_rad),
    )


def _worse(then: _Margins, now: _Margins, limits: SafetyLimits) -> str | None:
    margin_rad = limits.joint_margin_rad
    if margin_rad is not None and then.joint_rad < min(margin_rad, now.joint_rad - _TOLERANCE):
        return f"{then.joint_rad:.3f} rad from a joint limit (allowed: {margin_rad:.3f} rad)"
    smallest = limits.min_singular_value
    if smallest is not None and then.singular_value < min(
        smallest, now.singular_value - _TOLERANCE
    ):
        return f"a singular value of {then.singular_value:.3f} (allowed: {smallest:.3f})"
    return None
