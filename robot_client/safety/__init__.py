"""What a plan must pass before the arm moves: pure functions of action, state and limits.

The filter refuses what cannot be trusted (not finite, not for this observation, too old) and clamps
what is only too much (step, speed, workspace, table, keep-out boxes, joint margins). Whatever it
does it returns as a `Finding`, and the recorder keeps the raw action beside the filtered one. Poses
are flange in base frame. Nothing here knows an arm, a socket or a clock.
"""

from robot_client.safety.energy import EnergyWatch, check_surprise
from robot_client.safety.filter import FilteredAction, filter_action, filter_plan
from robot_client.safety.finding import Finding
from robot_client.safety.geometry import FINGERTIP_DEPTH_M, deviation_m, fingertip_z_m
from robot_client.safety.limits import Box, SafetyLimits
from robot_client.safety.replies import Asked, check_reply

__all__ = [
    "FINGERTIP_DEPTH_M",
    "Asked",
    "Box",
    "EnergyWatch",
    "FilteredAction",
    "Finding",
    "SafetyLimits",
    "check_reply",
    "check_surprise",
    "deviation_m",
    "filter_action",
    "filter_plan",
    "fingertip_z_m",
]
