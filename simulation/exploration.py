"""Random motion for training data: broad displacements, random gripper events, holds.

The displacement per control period decides what a world model can be asked about: a planner that
chooses 10 cm steps needs a model that saw 10 cm steps, so every size from a hold to the full box
is drawn often.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulation.demonstrations import MAX_STEP_M, Script, grasp_point
from simulation.kinematics import DOWN_EULER_RAD, flange_pose_at, tcp_position
from simulation.stepper import WORKSPACE, OfflineWorkcell

Array = NDArray[np.float64]

_CLEAR_HEIGHT_M = 0.13  # the pads' height above which the hand passes over any object
_CLEAR_RADIUS_M = 0.13
_GRIPPER_EVENT = 0.18  # probability per control period
_KINDS = ("hold", "small", "towards", "anywhere")
_KIND_SHARES = (0.08, 0.22, 0.40, 0.30)


def explore(
    workcell: OfflineWorkcell, rng: np.random.Generator, max_step_m: float = MAX_STEP_M
) -> Script:
    """Yield target states for ever: way-points at random speed, mixed with random steps."""
    closedness = workcell.gripper_command  # not the measured one, which would drop what is held
    way_point, speed_m = _way_point(workcell, rng), max_step_m
    while True:
        here = workcell.state()[:3]
        if np.linalg.norm(way_point - here) < 0.02 or rng.random() < 0.1:
            way_point = _way_point(workcell, rng)
            speed_m = float(rng.uniform(0.13, 1.0)) * max_step_m
        step = _step(rng, way_point - here, speed_m, max_step_m)
        if rng.random() < _GRIPPER_EVENT:
            closedness = _gripper_event(rng)
        position = WORKSPACE.clip(here + step)
        yield np.concatenate([position, DOWN_EULER_RAD, [closedness]])


def random_pose(rng: np.random.Generator) -> Array:
    """Draw a flange pose `[7]` in the workspace, low ones as often as high ones."""
    position = rng.uniform(WORKSPACE.low, WORKSPACE.high)
    if rng.random() < 0.5:
        position[2] = rng.uniform(WORKSPACE.low[2], 0.28)
    return np.concatenate([position, DOWN_EULER_RAD, [_gripper_event(rng)]])


def clear_pose(object_position_m: tuple[float, float], rng: np.random.Generator) -> Array:
    """Draw a flange pose `[7]` whose gripper does not overlap an object standing on the table."""
    while True:
        pose = random_pose(rng)
        if is_clear(pose, object_position_m):
            return pose


def is_clear(pose: Array, object_position_m: tuple[float, float]) -> bool:
    """Tell whether the gripper at flange pose `[7]` clears an object standing on the table."""
    tcp = tcp_position(pose)
    beside = np.hypot(*(tcp[:2] - object_position_m)) > _CLEAR_RADIUS_M
    return bool(tcp[2] > _CLEAR_HEIGHT_M or beside)


def _step(rng: np.random.Generator, offset_m: Array, speed_m: float, max_step_m: float) -> Array:
    kind = rng.choice(_KINDS, p=_KIND_SHARES)
    if kind == "hold":
        return np.zeros(3)
    if kind == "small":
        return rng.normal(0.0, 0.01, 3)
    if kind == "anywhere":
        return rng.uniform(-max_step_m, max_step_m, 3)
    return np.clip(offset_m, -speed_m, speed_m) + rng.normal(0.0, 0.15 * speed_m, 3)


def _way_point(workcell: OfflineWorkcell, rng: np.random.Generator) -> Array:
    if rng.random() < 0.35:  # around the object, where fine motion matters
        near = grasp_point(workcell) + rng.normal(0.0, 0.04, 3) + [0, 0, rng.uniform(0, 0.15)]
        return WORKSPACE.clip(flange_pose_at(near, 0.0)[:3])
    return random_pose(rng)[:3]


def _gripper_event(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.0, 1.0, rng.random()]))
