"""Gripper rules: what must be true before the fingers move."""

from robot_client.safety.finding import Finding
from robot_client.safety.geometry import Vector, fingertip_z_m
from robot_client.safety.limits import SafetyLimits


def check_opening(state: Vector, *, is_holding: bool, limits: SafetyLimits) -> Finding | None:
    """Why the hand must not open at flange pose `state` [7]: it would drop what it holds."""
    highest_m = limits.max_open_height_m
    if highest_m is None or not is_holding:
        return None
    height_m = fingertip_z_m(state, limits.fingertip_depth_m)
    if height_m <= highest_m:
        return None
    text = (
        f"the hand holds something {height_m:.3f} m above the base plane and may open only up to "
        f"{highest_m:.3f} m"
    )
    return Finding("open in the air", "refused", text, height_m, highest_m)
