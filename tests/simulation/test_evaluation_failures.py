"""Every failure by its name, from what is true at the end."""

import dataclasses

import numpy as np
import pytest

from simulation.evaluation.failures import FAILURE_MEANINGS, SubGoalEnd, name_failure
from simulation.tasks import make_task
from simulation.truth import Truth

MISSED = SubGoalEnd(4, 0.03, (0.03, 0.0, 0.0), held_before=False, held_after=False)
THERE = dataclasses.replace(MISSED, distance_m=0.01)
HELD = dataclasses.replace(THERE, held_before=True, held_after=True)
RELEASED = dataclasses.replace(HELD, held_after=False)


@pytest.fixture(scope="module")
def tasks():
    return {name: make_task(name, 0) for name in ("reach", "grasp", "pick_and_place")}


@pytest.mark.parametrize(
    ("task", "ends", "found", "expected"),
    [
        ("reach", [THERE], {}, "far from the goal"),
        ("grasp", [MISSED, MISSED], {}, "closed beside it"),
        ("grasp", [THERE, THERE], {}, "slipped from the fingers"),
        ("grasp", [THERE, THERE], {"tilt": 0.5}, "knocked over"),
        ("grasp", [HELD, HELD], {"is_held": True}, "not lifted"),
        ("grasp", [HELD, RELEASED], {}, "lost on the way"),
        ("grasp", [MISSED, HELD], {"is_held": True}, "not lifted"),
        ("pick_and_place", [MISSED, MISSED, MISSED], {}, "closed beside it"),
        ("pick_and_place", [HELD, HELD, HELD], {"is_held": True}, "not let go"),
        ("pick_and_place", [HELD, THERE, THERE], {}, "lost on the way"),
        ("pick_and_place", [HELD, RELEASED, THERE], {"off_m": 0.049}, "fell when let go"),
        ("pick_and_place", [HELD, RELEASED, THERE], {"off_m": 0.051}, "put down beside its place"),
    ],
)
def test_a_failure_is_named_after_the_first_thing_that_went_wrong(
    tasks, task, ends, found, expected
):
    place = tasks["pick_and_place"].place_m
    truth = Truth(
        state=np.zeros(7),
        object_position_m=np.array([place[0], place[1] + found.get("off_m", 0.0), 0.03]),
        object_tilt_rad=found.get("tilt", 0.0),
        is_held=found.get("is_held", False),
    )
    assert name_failure(tasks[task], ends, truth) == expected
    assert expected in FAILURE_MEANINGS
