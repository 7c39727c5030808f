"""How far one action may go: step, rotation, speed."""

import numpy as np

from robot_client.safety.finding import Finding
from robot_client.safety.geometry import Vector
from robot_client.safety.limits import SafetyLimits
from trajectories import poses

# A hair of slack: the planner's box is often this very limit, in another float type.
_SLACK = 1e-6


def clamp_step(action: Vector, limits: SafetyLimits) -> tuple[Vector, list[Finding]]:
    """Shrink translation and rotation each as a whole, so that the direction stays.

    Args:
        action: Finite action [7].
        limits: `max_step_m` and `max_rotation_rad` bound each axis.
    """
    clamped, findings = action.copy(), []
    for part, limit, rule, unit in (
        (poses.POSITION, limits.max_step_m, "step", "m"),
        (poses.ROTATION, limits.max_rotation_rad, "rotation", "rad"),
    ):
        largest = float(np.abs(action[part]).max())
        if largest > limit + _SLACK:
            clamped[part] *= limit / largest
            text = f"{rule} of {largest:.3f} {unit} clamped to {limit:.3f} {unit}"
            findings.append(Finding(rule, "clamped", text, largest, limit))
    return clamped, findings


def clamp_speed(
    action: Vector, period_s: float, limits: SafetyLimits
) -> tuple[Vector, list[Finding]]:
    """Shrink an action [7] so that its mean speed over `period_s` keeps the limits."""
    clamped, findings = action.copy(), []
    for part, limit, rule, unit in (
        (poses.POSITION, limits.max_speed_m_s, "speed", "m/s"),
        (poses.ROTATION, limits.max_rotation_speed_rad_s, "rotation speed", "rad/s"),
    ):
        speed = float(np.linalg.norm(action[part])) / period_s
        if speed > limit + _SLACK:
            clamped[part] *= limit / speed
            text = f"{rule} of {speed:.3f} {unit} clamped to {limit:.3f} {unit}"
            findings.append(Finding(rule, "clamped", text, speed, limit))
    return clamped, findings
