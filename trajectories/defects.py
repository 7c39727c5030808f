"""What can be wrong with an episode's numbers, and what is only odd about them.

Units are metres, radians (extrinsic xyz Euler angles) and closedness in [0, 1]; a table in
millimetres, degrees or gripper widths is refused rather than learned from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajectories.errors import BadEpisodeError, Defect
from trajectories.poses import GRIPPER, POSITION, ROTATION, difference

_REACH_M = 2.0  # no flange of a Franka is further from its base; 1.19 m is what it can reach
_ANGLE_RAD = 2 * np.pi + 1e-3
_CLOSEDNESS_SLACK = 0.05  # measured widths pass the calibrated ends a little

_GIMBAL_RAD = np.deg2rad(85.0)
_JUMP_M = 0.3
_JUMP_RAD = 1.0
_GRIPPER_NOISE = 0.02
_GAP_PERIODS = 2.5


def refuse_unusable(
    name: str, states: NDArray[np.float64], times_s: NDArray[np.float64], *more: Defect
) -> None:
    """Raise when the numbers of an episode cannot be used.

    Args:
        name: Of the episode.
        states: `[T, 7]`.
        times_s: `[T]`.
        more: Defects that the reader itself found.

    Raises:
        BadEpisodeError: With every fatal defect.
    """
    found = [*more, *fatal_defects(states, times_s)]
    if found:
        raise BadEpisodeError(name, found)


def fatal_defects(states: NDArray[np.float64], times_s: NDArray[np.float64]) -> list[Defect]:
    """List what makes the numbers of an episode useless."""
    if not len(states):
        return [Defect("zero length", "the episode has no rows")]
    bad_rows = np.flatnonzero(~np.isfinite(states).all(axis=1))
    if bad_rows.size:
        detail = f"{bad_rows.size} of {len(states)} states are not finite, first row {bad_rows[0]}"
        return [Defect("NaN rows", detail)]
    found = [*_unit_defects(states)]
    if not np.isfinite(times_s).all():
        found.append(Defect("clock", "timestamps are not finite"))
    elif (np.diff(times_s) <= 0).any():
        row = int(np.argmax(np.diff(times_s) <= 0))
        detail = f"time stands or runs backwards after row {row} ({np.diff(times_s)[row]:+.3f} s)"
        found.append(Defect("clock", detail))
    return found


def _unit_defects(states: NDArray[np.float64]) -> list[Defect]:
    found = []
    reach_m = float(np.abs(states[:, POSITION]).max())
    if reach_m > _REACH_M:
        found.append(Defect("units", f"a position of {reach_m:.4g} is no metres within reach"))
    angle_rad = float(np.abs(states[:, ROTATION]).max())
    if angle_rad > _ANGLE_RAD:
        found.append(Defect("units", f"an angle of {angle_rad:.4g} is no Euler angle in radians"))
    low, high = float(states[:, GRIPPER].min()), float(states[:, GRIPPER].max())
    if low < -_CLOSEDNESS_SLACK or high > 1 + _CLOSEDNESS_SLACK:
        detail = f"gripper {low:.4g}..{high:.4g} is no closedness from 0 (open) to 1 (closed)"
        found.append(Defect("units", detail))
    return found


def anomalies(
    states: NDArray[np.float64], times_s: NDArray[np.float64], clock: str
) -> tuple[Defect, ...]:
    """List what is odd: gimbal lock, jumps, a dead gripper, an arm that stands still, clock gaps."""
    found = [*_motion_anomalies(states), *_gripper_anomalies(states)]
    if clock == "measured" and len(times_s) > 2:
        steps_s = np.diff(times_s)
        period_s = float(np.median(steps_s))
        gaps = np.flatnonzero(steps_s > _GAP_PERIODS * period_s)
        if gaps.size:
            detail = (
                f"{gaps.size} gaps, the longest {steps_s.max():.2f} s at {period_s:.3f} s a row"
            )
            found.append(Defect("clock gap", detail, is_fatal=False))
    return tuple(found)


def _motion_anomalies(states: NDArray[np.float64]) -> list[Defect]:
    found = []
    pitch_rad = np.abs(np.remainder(states[:, 4] + np.pi, 2 * np.pi) - np.pi)
    near = np.flatnonzero(np.abs(pitch_rad - np.pi / 2) < np.pi / 2 - _GIMBAL_RAD)
    if near.size:
        detail = f"pitch within 5 degrees of gimbal lock in {near.size} rows, first {near[0]}"
        found.append(Defect("gimbal", detail, is_fatal=False))
    if len(states) < 2:
        return [*found, Defect("short", "a single row has no motion", is_fatal=False)]
    steps = difference(states[:-1], states[1:])
    step_m = np.linalg.norm(steps[:, POSITION], axis=1)
    step_rad = np.linalg.norm(steps[:, ROTATION], axis=1)
    jumps = np.flatnonzero((step_m > _JUMP_M) | (step_rad > _JUMP_RAD))
    if jumps.size:
        row = int(jumps[0])
        detail = f"{step_m[row]:.2f} m and {step_rad[row]:.2f} rad from row {row} to the next"
        found.append(Defect("jump", detail, is_fatal=False))
    if float(np.ptp(states[:, POSITION], axis=0).max()) < 1e-3:
        found.append(Defect("no motion", "the flange moves less than 1 mm", is_fatal=False))
    return found


def _gripper_anomalies(states: NDArray[np.float64]) -> list[Defect]:
    gripper = states[:, 6]
    found = []
    if len(gripper) > 1 and float(np.ptp(gripper)) < _GRIPPER_NOISE:
        detail = f"the gripper stays at {gripper.mean():.2f}"
        found.append(Defect("gripper idle", detail, is_fatal=False))
    if gripper.min() < 0 or gripper.max() > 1:
        detail = f"closedness {gripper.min():.3f}..{gripper.max():.3f} leaves [0, 1]"
        found.append(Defect("gripper range", detail, is_fatal=False))
    swings = np.abs(np.diff(gripper))
    turns = int(((swings[1:] > 0.3) & (swings[:-1] > 0.3)).sum()) if len(swings) > 1 else 0
    if turns:
        detail = f"closedness swings by more than 0.3 twice in a row, {turns} times"
        found.append(Defect("gripper chatter", detail, is_fatal=False))
    return found
