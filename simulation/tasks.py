"""The three tasks: where they start and what their goal images show.

A task is laid out from a seed. Its goals are images of states the workcell is put into, as in the
V-JEPA 2 evaluation: reach has one, grasp two, pick-and-place three, each with a step budget of
its own (arXiv 2506.09985, section 4.2: 4, 10 and 4 steps).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulation.demonstrations import HOVER_M, above, grasp_point
from simulation.errors import InvalidTaskError
from simulation.exploration import clear_pose, is_clear
from simulation.kinematics import DOWN_EULER_RAD, flange_pose_at
from simulation.movables import measures
from simulation.stepper import WORKSPACE, OfflineWorkcell
from simulation.truth import MAX_WIDTH_M
from simulation.variation import (
    OBJECT_X_M,
    OBJECT_Y_M,
    ObjectKind,
    WorkcellVariation,
    sample_variation,
)

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]
TaskName = Literal["reach", "grasp", "pick_and_place"]
GripperRule = Literal["close", "open"]

TASK_NAMES: tuple[TaskName, ...] = ("reach", "grasp", "pick_and_place")
NEAR_M = (0.08, 0.18)
FAR_M = (0.18, 0.35)
_GOAL_LIFT_M = 0.12
_CARRY_M = 0.02  # above the table at the end of carrying: low enough to let go
_MIN_CARRY_M = 0.12
_APPROACH_SLOPE = (0.35, 0.15)  # x and y over z; the fingers close along y
_ATTEMPTS = 2000


@dataclass(frozen=True)
class SubGoal:
    """A goal image with the steps it may take and what the gripper does at its end.

    Attributes:
        image: Camera frame of the goal state, uint8 RGB `[256, 256, 3]`.
        pose: The flange pose `[7]` shown; for verdicts and oracles, not for planners.
        step_budget: Control periods.
        gripper_rule: "close" with force, "open", or None for no change.
    """

    image: Frame
    pose: Array
    step_budget: int
    gripper_rule: GripperRule | None = None


@dataclass(frozen=True)
class Task:
    """One laid-out task.

    Attributes:
        start: Flange pose `[7]` of the arm at the start.
        object_start_m: Centre of the object at the start, `[3]`.
        place_m: Where the object is to be put, x and y; None unless pick-and-place.
    """

    name: TaskName
    seed: int
    variation: WorkcellVariation
    start: Array
    sub_goals: tuple[SubGoal, ...]
    object_start_m: Array
    place_m: tuple[float, float] | None = None


def make_task(
    name: TaskName,
    seed: int,
    start_distance_m: tuple[float, float] = NEAR_M,
    object_kind: ObjectKind | None = None,
    *,
    camera_yaw_rad: float = 0.0,
    variation: WorkcellVariation | None = None,
) -> Task:
    """Lay out a task in the workcell of `seed`.

    Args:
        name: "reach", "grasp" or "pick_and_place".
        seed: Determines workcell, start and goals.
        start_distance_m: Range of the distance from the start to the first goal's flange position.
        object_kind: Fixes the object; None lets the seed decide.
        camera_yaw_rad: Turns the camera about the table; nothing else changes.
        variation: The workcell; None is the one that `sample_variation` draws from `seed`.

    Raises:
        InvalidTaskError: Unknown name, or no start at such a distance inside the workspace.
    """
    if name not in _LAYOUTS:
        raise InvalidTaskError(f"no task {name!r}; there are {', '.join(TASK_NAMES)}")
    rng = np.random.default_rng([seed, 0x7A5C])
    variation = variation or sample_variation(seed, object_kind)
    workcell = OfflineWorkcell(dataclasses.replace(variation, camera_yaw_rad=camera_yaw_rad))
    return _LAYOUTS[name](workcell, seed, rng, start_distance_m)


def _layout_reach(
    workcell: OfflineWorkcell, seed: int, rng: np.random.Generator, distance: tuple[float, float]
) -> Task:
    for _ in range(_ATTEMPTS):
        goal = _open(clear_pose(workcell.variation.object_position_m, rng))
        start = _find_start(workcell, rng, goal, distance, attempts=20)
        if start is not None:
            sub_goal = SubGoal(_show(workcell, goal), goal, step_budget=10)
            return _task("reach", seed, workcell, start, (sub_goal,))
    raise _no_start(distance)


def _layout_grasp(
    workcell: OfflineWorkcell, seed: int, rng: np.random.Generator, distance: tuple[float, float]
) -> Task:
    at_object = flange_pose_at(grasp_point(workcell), 0.0)
    start = _find_start(workcell, rng, at_object, distance, above=True)
    if start is None:
        raise _no_start(distance)
    sub_goals = (
        SubGoal(_show(workcell, at_object), at_object, 8, "close"),
        _holding(workcell, workcell.variation.object_position_m, _GOAL_LIFT_M, 4, None),
    )
    return _task("grasp", seed, workcell, start, sub_goals)


def _layout_pick_and_place(
    workcell: OfflineWorkcell, seed: int, rng: np.random.Generator, distance: tuple[float, float]
) -> Task:
    at_object = flange_pose_at(grasp_point(workcell), 0.0)
    start = _find_start(workcell, rng, at_object, distance, above=True)
    if start is None:
        raise _no_start(distance)
    place = _sample_place(workcell.variation, rng)
    sub_goals = (
        SubGoal(_show(workcell, at_object), at_object, 4, "close"),
        _holding(workcell, place, _CARRY_M, 10, "open"),
        _released(workcell, place, 4),
    )
    return _task("pick_and_place", seed, workcell, start, sub_goals, place)


_Layout = Callable[[OfflineWorkcell, int, np.random.Generator, tuple[float, float]], Task]
_LAYOUTS: dict[str, _Layout] = {
    "reach": _layout_reach,
    "grasp": _layout_grasp,
    "pick_and_place": _layout_pick_and_place,
}


def _task(
    name: TaskName,
    seed: int,
    workcell: OfflineWorkcell,
    start: Array,
    sub_goals: tuple[SubGoal, ...],
    place: tuple[float, float] | None = None,
) -> Task:
    variation = workcell.variation
    object_start = np.array([*variation.object_position_m, workcell.object_height_m / 2])
    return Task(name, seed, variation, start, sub_goals, object_start, place)


def _open(pose: Array) -> Array:
    return np.concatenate([pose[:6], [0.0]])


def _find_start(
    workcell: OfflineWorkcell,
    rng: np.random.Generator,
    goal: Array,
    distance: tuple[float, float],
    attempts: int = _ATTEMPTS,
    *,
    above: bool = False,
) -> Array | None:
    """Draw an open-handed start at a distance from `goal`, inside the workspace, object clear.

    A start `above` lies in a narrow cone over the goal: from there a straight line brings the open
    fingers around the object without knocking it over.
    """
    for _ in range(attempts):
        direction = rng.normal(size=3)
        if above:
            direction = np.array([*rng.uniform(-1, 1, 2) * _APPROACH_SLOPE, 1.0])
        offset = direction / np.linalg.norm(direction) * rng.uniform(*distance)
        position = goal[:3] + offset
        if np.any(position < WORKSPACE.low) or np.any(position > WORKSPACE.high):
            continue
        pose = np.concatenate([position, DOWN_EULER_RAD, [0.0]])
        if is_clear(pose, workcell.variation.object_position_m):
            return pose
    return None


def _no_start(distance: tuple[float, float]) -> InvalidTaskError:
    return InvalidTaskError(
        f"no start {distance[0]:.2f} to {distance[1]:.2f} m from the goal inside the workspace; "
        f"distances up to {FAR_M[1]:.2f} m are sure to fit"
    )


def _sample_place(variation: WorkcellVariation, rng: np.random.Generator) -> tuple[float, float]:
    while True:
        place = (float(rng.uniform(*OBJECT_X_M)), float(rng.uniform(*OBJECT_Y_M)))
        if np.hypot(*np.subtract(place, variation.object_position_m)) >= _MIN_CARRY_M:
            return place


def _show(workcell: OfflineWorkcell, pose: Array) -> Frame:
    """Render the arm at `pose` with the object where it stands at the start."""
    workcell.reset(pose)
    return workcell.render()


def _holding(
    workcell: OfflineWorkcell,
    place: tuple[float, float],
    lift_m: float,
    budget: int,
    rule: GripperRule | None,
) -> SubGoal:
    """Render the object in the gripper, `lift_m` above the table at `place`."""
    workcell.reset(flange_pose_at(np.array([*place, 0.3]), 0.0))
    workcell.place_object(np.array([*place, workcell.object_height_m / 2 + lift_m]))
    pose = flange_pose_at(grasp_point(workcell), _closedness_on_object(workcell))
    workcell.set_flange(pose)
    return SubGoal(workcell.render(), pose, budget, rule)


def _released(workcell: OfflineWorkcell, place: tuple[float, float], budget: int) -> SubGoal:
    """Render the object standing at `place` and the open hand above it."""
    workcell.reset(flange_pose_at(np.array([*place, 0.3]), 0.0))
    workcell.place_object(np.array([*place, workcell.object_height_m / 2]))
    pose = flange_pose_at(above(grasp_point(workcell), HOVER_M), 0.0)
    workcell.set_flange(pose)
    return SubGoal(workcell.render(), pose, budget)


def _closedness_on_object(workcell: OfflineWorkcell) -> float:
    return float(1.0 - measures(workcell.variation).size_m[1] / MAX_WIDTH_M)
