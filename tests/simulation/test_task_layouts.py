from dataclasses import replace

import numpy as np
import pytest

from simulation.errors import InvalidTaskError
from simulation.stepper import WORKSPACE, OfflineWorkcell
from simulation.tasks import FAR_M, NEAR_M, TASK_NAMES, make_task
from simulation.verdicts import judge


def _start(task):
    workcell = OfflineWorkcell(task.variation)
    workcell.reset(task.start)
    return workcell


@pytest.mark.parametrize("name", TASK_NAMES)
@pytest.mark.parametrize("distance_m", [NEAR_M, FAR_M])
def test_starts_are_at_the_requested_distance_inside_the_workspace(name, distance_m):
    for seed in range(4):
        task = make_task(name, seed, distance_m)
        distance = np.linalg.norm(task.start[:3] - task.sub_goals[0].pose[:3])
        assert distance_m[0] <= distance <= distance_m[1]
        np.testing.assert_array_less(np.array(WORKSPACE.low) - 1e-9, task.start[:3])
        np.testing.assert_array_less(task.start[:3], np.array(WORKSPACE.high) + 1e-9)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_the_same_seed_lays_out_the_same_task(name):
    first, second = make_task(name, 11), make_task(name, 11)
    np.testing.assert_array_equal(first.start, second.start)
    for one, other in zip(first.sub_goals, second.sub_goals, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.pose, other.pose)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_no_task_is_done_at_its_start(name):
    for seed in range(4):
        task = make_task(name, seed)
        assert not judge(task, _start(task).truth()).is_success


def test_budgets_and_gripper_rules_are_those_of_the_paper():
    goals = make_task("pick_and_place", 0).sub_goals
    assert [goal.step_budget for goal in goals] == [4, 10, 4]
    assert [goal.gripper_rule for goal in goals] == ["close", "open", None]
    assert [goal.gripper_rule for goal in make_task("grasp", 0).sub_goals] == ["close", None]
    assert len(make_task("reach", 0).sub_goals) == 1


def test_goal_images_differ_from_the_start_and_from_each_other():
    for name in TASK_NAMES:
        task = make_task(name, 2)
        frames = [_start(task).render(), *(goal.image for goal in task.sub_goals)]
        for one in range(len(frames)):
            for other in range(one):
                assert (frames[one] != frames[other]).any(axis=-1).sum() > 200


def test_reach_is_judged_by_the_flange():
    task = make_task("reach", 0)
    workcell = _start(task)
    workcell.set_flange(task.sub_goals[0].pose)
    truth = workcell.truth()
    assert judge(task, truth).is_success
    off = replace(truth, state=np.add(truth.state, [0.05, 0, 0, 0, 0, 0, 0]))
    assert not judge(task, off).is_success


def test_an_object_high_up_is_no_grasp_unless_it_is_held():
    task = make_task("grasp", 0)
    truth = _start(task).truth()
    lifted = replace(truth, object_position_m=np.add(truth.object_position_m, [0, 0, 0.1]))
    assert judge(task, replace(lifted, is_held=True)).is_success
    assert not judge(task, replace(lifted, is_held=False)).is_success
    assert not judge(task, replace(truth, is_held=True)).is_success


def test_placing_needs_the_place_the_table_the_upright_and_the_release():
    task = make_task("pick_and_place", 0)
    at_place = np.array([*task.place_m, task.object_start_m[2]])
    truth = replace(_start(task).truth(), object_position_m=at_place)
    assert judge(task, truth).is_success
    for fault in (
        {"object_position_m": np.add(at_place, [0.06, 0, 0])},
        {"object_position_m": np.add(at_place, [0, 0, 0.05])},
        {"object_tilt_rad": 1.0},
        {"is_held": True},
    ):
        assert not judge(task, replace(truth, **fault)).is_success


def test_a_task_that_does_not_exist_or_does_not_fit_is_refused():
    with pytest.raises(InvalidTaskError, match="reach, grasp, pick_and_place"):
        make_task("juggle", 0)
    for name in TASK_NAMES:
        with pytest.raises(InvalidTaskError, match=r"2\.00 to 3\.00 m.*workspace"):
            make_task(name, 0, (2.0, 3.0))
    task = make_task("pick_and_place", 0)
    truth = _start(task).truth()
    with pytest.raises(InvalidTaskError, match="place"):
        judge(replace(task, place_m=None), truth)
