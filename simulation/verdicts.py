"""When a task is done, read from the physics and never from an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.errors import InvalidTaskError
from simulation.tasks import Task
from simulation.truth import Truth

REACHED_M = 0.04
LIFTED_M = 0.05
PLACED_M = 0.05
_RESTING_M = 0.015  # a placed object's centre is within this of its height when it stands
_UPRIGHT_RAD = 0.25


@dataclass(frozen=True)
class Verdict:
    """Whether a task is done, how far it is from done, and why.

    Attributes:
        distance_m: Reach: flange to goal. Grasp: height still to lift. Pick-and-place: object to
            its place.
    """

    is_success: bool
    distance_m: float
    reason: str


def judge(task: Task, truth: Truth) -> Verdict:
    """Decide from the physics whether `task` is done.

    Reach: the flange is within 4 cm of the goal's. Grasp: the object is held 5 cm above where it
    stood. Pick-and-place: the object stands released within 5 cm of its place.
    """
    if task.name == "reach":
        return _judge_reach(task, truth)
    if task.name == "grasp":
        return _judge_grasp(task, truth)
    return _judge_place(task, truth)


def _judge_reach(task: Task, truth: Truth) -> Verdict:
    distance = float(np.linalg.norm(truth.state[:3] - task.sub_goals[-1].pose[:3]))
    return Verdict(distance < REACHED_M, distance, f"flange {100 * distance:.1f} cm from the goal")


def _judge_grasp(task: Task, truth: Truth) -> Verdict:
    lifted = float(truth.object_position_m[2] - task.object_start_m[2])
    reason = f"lifted {100 * lifted:.1f} cm, {'held' if truth.is_held else 'not held'}"
    is_done = lifted >= LIFTED_M and truth.is_held
    return Verdict(is_done, max(0.0, LIFTED_M - lifted), reason)


def _judge_place(task: Task, truth: Truth) -> Verdict:
    if task.place_m is None:
        raise InvalidTaskError("a pick_and_place task needs a place; lay it out with make_task")
    position = truth.object_position_m
    distance = float(np.hypot(*(position[:2] - task.place_m)))
    faults = {
        "away from its place": distance >= PLACED_M,
        "still held": truth.is_held,
        "tipped over": truth.object_tilt_rad > _UPRIGHT_RAD,
        "not on the table": abs(position[2] - task.object_start_m[2]) > _RESTING_M,
    }
    found = [fault for fault, is_true in faults.items() if is_true]
    return Verdict(not found, distance, ", ".join([f"object {100 * distance:.1f} cm off", *found]))
