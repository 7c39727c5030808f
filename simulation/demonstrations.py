"""Scripted demonstrations: an oracle that sees the physics and yields target states.

A script is a generator of target states `[7]`, one per control period; whoever consumes it moves
the workcell and asks for the next. Scripts look at the workcell each time, so they also work when
their targets are disturbed on the way (`noisy`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simulation.kinematics import flange_pose_at, tcp_position
from simulation.movables import measures
from simulation.stepper import WORKSPACE, OfflineWorkcell

Array = NDArray[np.float64]
Script = Iterator[Array]

MAX_STEP_M = 0.15  # per axis and control period
OPEN, CLOSED = 0.0, 1.0
HOVER_M = 0.12  # above the grasp
_LET_GO_M = 0.003  # a held object sags a little; lowering it further would press it down
_ARRIVAL_M = 0.008
_RUN_UP_M = 0.10  # from where a push begins to the object's centre
_PUSH_STEP_M = 0.05
_PATIENCE = 8  # control periods before a leg is given up


def grasp_point(workcell: OfflineWorkcell) -> Array:
    """Return where the finger pads should close on the object, `[3]` [m]."""
    point = workcell.object_position()
    measured = measures(workcell.variation)
    point[2] += (measured.grip_share - 0.5) * measured.size_m[2]
    return point


def above(point_m: Array, height_m: float) -> Array:
    """Return the point `height_m` above a point `[3]` [m]."""
    return np.asarray(point_m + np.array([0.0, 0.0, height_m]), np.float64)


def go_to(workcell: OfflineWorkcell, tcp_m: Array, closedness: float) -> Script:
    """Lead the finger pads to `tcp_m` `[3]` in steps of at most 15 cm per axis."""
    goal = flange_pose_at(np.asarray(tcp_m, dtype=np.float64), closedness)
    goal[:3] = WORKSPACE.clip(goal[:3])  # where the arm stops anyway; it would wait for the rest
    for _ in range(_PATIENCE):
        offset = goal[:3] - workcell.state()[:3]
        if np.linalg.norm(offset) < _ARRIVAL_M:
            return
        target = goal.copy()
        target[:3] = workcell.state()[:3] + np.clip(offset, -MAX_STEP_M, MAX_STEP_M)
        yield target


def grip(workcell: OfflineWorkcell, closedness: float) -> Script:
    """Hold the flange where it is and drive the gripper to `closedness`."""
    yield flange_pose_at(tcp_position(workcell.state()), closedness)


def pick(workcell: OfflineWorkcell) -> Script:
    """Go above the object, descend with open fingers and close them on it."""
    yield from go_to(workcell, above(grasp_point(workcell), HOVER_M), OPEN)
    yield from go_to(workcell, grasp_point(workcell), OPEN)
    yield from grip(workcell, CLOSED)


def grasp(workcell: OfflineWorkcell, lift_m: float = 0.12) -> Script:
    """Pick the object up and lift it."""
    yield from pick(workcell)
    yield from go_to(workcell, above(tcp_position(workcell.state()), lift_m), CLOSED)


def place(workcell: OfflineWorkcell, position_m: tuple[float, float]) -> Script:
    """Carry a held object to a place on the table, set it down, release it and move up."""
    grip_offset = tcp_position(workcell.state()) - workcell.object_position()
    resting = np.array([*position_m, workcell.object_height_m / 2]) + grip_offset
    yield from go_to(workcell, above(resting, HOVER_M), CLOSED)
    yield from go_to(workcell, above(resting, _LET_GO_M), CLOSED)
    yield from grip(workcell, OPEN)
    yield from go_to(workcell, above(resting, HOVER_M), OPEN)


def pick_and_place(workcell: OfflineWorkcell, position_m: tuple[float, float]) -> Script:
    """Grasp the object, carry it to a place on the table and release it there."""
    yield from grasp(workcell)
    yield from place(workcell, position_m)


def push(workcell: OfflineWorkcell, heading_rad: float, distance_m: float) -> Script:
    """Sweep the object over the table with closed fingers, from behind it along a heading."""
    along = np.array([np.cos(heading_rad), np.sin(heading_rad), 0.0])
    centre = grasp_point(workcell)
    behind = centre - _RUN_UP_M * along
    yield from go_to(workcell, above(behind, HOVER_M), CLOSED)
    yield from go_to(workcell, behind, CLOSED)
    for travelled in np.arange(_PUSH_STEP_M, _RUN_UP_M + distance_m, _PUSH_STEP_M):
        yield flange_pose_at(np.asarray(behind + travelled * along, np.float64), CLOSED)


def fumble(workcell: OfflineWorkcell, miss_m: tuple[float, float]) -> Script:
    """Close beside the object or knock it, draw back, open, and grasp it after all."""
    missed = grasp_point(workcell) + np.array([*miss_m, 0.0])
    yield from go_to(workcell, above(missed, HOVER_M), OPEN)
    yield from go_to(workcell, missed, OPEN)
    yield from grip(workcell, CLOSED)
    yield from go_to(workcell, above(missed, HOVER_M), CLOSED)
    yield from grip(workcell, OPEN)
    yield from grasp(workcell)


def drop(workcell: OfflineWorkcell, lift_m: float) -> Script:
    """Lose the object from the hand in the air, and pick it up again from where it fell."""
    yield from grasp(workcell, lift_m)
    yield from grip(workcell, OPEN)
    yield from grasp(workcell)


def chatter(workcell: OfflineWorkcell, closednesses: Sequence[float]) -> Script:
    """Pick the object up with a gripper that cannot decide, then lift it."""
    yield from pick(workcell)
    for closedness in closednesses:
        yield from grip(workcell, closedness)
    yield from grip(workcell, CLOSED)
    yield from go_to(workcell, above(tcp_position(workcell.state()), HOVER_M), CLOSED)


def limited(script: Script, workcell: OfflineWorkcell, max_step_m: float) -> Script:
    """Bring every target to within `max_step_m` per axis of where the flange is."""
    for target in script:
        here, reachable = workcell.state()[:3], target.copy()
        reachable[:3] = here + np.clip(target[:3] - here, -max_step_m, max_step_m)
        yield reachable


def noisy(script: Script, rng: np.random.Generator, spread_m: float) -> Script:
    """Disturb every other target, on average, by Gaussian noise of deviation `spread_m`."""
    for target in script:
        disturbed = target.copy()
        if rng.random() < 0.5:
            disturbed[:3] += rng.normal(0.0, spread_m, 3)
        yield disturbed
