"""What went wrong in an episode, named from the truth, so that failures can be counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulation.tasks import Task
from simulation.truth import Truth
from simulation.verdicts import PLACED_M

_BESIDE_M = 0.02
_TIPPED_RAD = 0.25

FAILURE_MEANINGS: dict[str, str] = {
    "far from the goal": "the hand came to rest more than 4 cm from where the goal image shows it",
    "knocked over": "the object was tipped over before or while it was grasped",
    "closed beside it": "the hand was more than 2 cm from the grasp when it closed",
    "slipped from the fingers": "the hand was at the grasp when it closed, and the object not held",
    "lost on the way": "the object was held and then fell",
    "not lifted": "the object was held but not lifted by 5 cm",
    "put down beside its place": "the object was let go more than 5 cm from its place",
    "not let go": "the object was still held at the end",
    "fell when let go": "the object was at its place but did not stay upright on the table",
}


@dataclass(frozen=True)
class SubGoalEnd:
    """How a sub-goal ended.

    Attributes:
        steps: Actions that it took.
        distance_m: Flange to the goal's flange position, before the gripper moved.
        offset_m: The same as a vector: the flange's position less the goal's.
        held_before: Whether the object is held then.
        held_after: Whether it is held after the gripper moved.
    """

    steps: int
    distance_m: float
    offset_m: tuple[float, ...]
    held_before: bool
    held_after: bool


def name_failure(task: Task, ends: Sequence[SubGoalEnd], truth: Truth) -> str:
    """Name the first thing that went wrong; one of `FAILURE_MEANINGS`."""
    if task.name == "reach":
        return "far from the goal"
    if not ends[0].held_after and not truth.is_held:
        return _missed(ends[0], truth)
    if task.name == "grasp":
        return "not lifted" if truth.is_held else "lost on the way"
    return _misplaced(task, ends, truth)


def _missed(grasp: SubGoalEnd, truth: Truth) -> str:
    if truth.object_tilt_rad > _TIPPED_RAD:
        return "knocked over"
    return "closed beside it" if grasp.distance_m > _BESIDE_M else "slipped from the fingers"


def _misplaced(task: Task, ends: Sequence[SubGoalEnd], truth: Truth) -> str:
    if truth.is_held:
        return "not let go"
    if not ends[1].held_before:
        return "lost on the way"
    # The judge has refused a pick_and_place task without a place by now.
    offset_m = truth.object_position_m[:2] - np.asarray(task.place_m)
    if float(np.hypot(*offset_m)) < PLACED_M:
        return "fell when let go"
    return "put down beside its place"
