import dataclasses

import numpy as np
import pytest

from simulation.errors import InvalidTaskError
from simulation.evaluation.baselines import oracle, still
from simulation.evaluation.episode import run_episode
from simulation.evaluation.failures import FAILURE_MEANINGS
from simulation.evaluation.schedules import SCHEDULES, Schedule, Watch
from simulation.stepper import OfflineWorkcell
from simulation.tasks import make_task


@pytest.mark.parametrize("name", ["reach", "grasp", "pick_and_place"])
def test_an_oracle_succeeds_and_standing_still_does_not(name):
    task = make_task(name, 0, object_kind="cube")
    workcell = OfflineWorkcell(task.variation)
    moved = run_episode(task, oracle(task, workcell), workcell=workcell)
    assert moved.verdict.is_success, moved.verdict.reason
    assert moved.failure is None
    assert moved.final_distance_m < 0.005
    assert len(moved.steps) == sum(goal.step_budget for goal in task.sub_goals)
    stayed = run_episode(task, still(task, workcell))
    assert not stayed.verdict.is_success
    assert stayed.failure in FAILURE_MEANINGS
    assert stayed.distances_m[0] == pytest.approx(stayed.start_distance_m, abs=2e-3)


class Errant:
    """An oracle that misses sub-goals by offsets [m]."""

    def __init__(self, task, offsets_m):
        self.inner = oracle(task, None)
        self.offsets_m = offsets_m

    def begin(self, goals):
        self.inner.begin(goals)

    def act(self, frame, state, goal_index):
        action = self.inner.act(frame, state, goal_index)
        action[:3] += self.offsets_m[goal_index]
        return action


@pytest.mark.parametrize(
    ("name", "offsets_m", "failure"),
    [
        ("reach", [(0.1, 0, 0)], "far from the goal"),
        ("grasp", [(0, 0, 0.1), (0, 0, 0)], "closed beside it"),
        ("grasp", [(0, 0, 0), (0, 0, -0.1)], "not lifted"),
        ("pick_and_place", [(0, 0, 0), (0, 0.09, 0.0), (0, 0, 0)], "put down beside its place"),
    ],
)
def test_failures_are_named_for_what_went_wrong(name, offsets_m, failure):
    task = make_task(name, 3, object_kind="cube")
    result = run_episode(task, Errant(task, np.array(offsets_m)))
    assert result.failure == failure, result.verdict.reason


def test_without_the_gripper_rule_nothing_is_grasped_by_a_policy_that_never_closes():
    task = make_task("grasp", 0, object_kind="cube")
    result = run_episode(task, oracle(task, None), SCHEDULES["planned_gripper"])
    assert not any(end.held_after for end in result.ends)


def test_the_published_schedule_gives_each_sub_goal_its_steps():
    task = make_task("grasp", 0, object_kind="cube")
    result = run_episode(task, oracle(task, None), SCHEDULES["paper"])
    assert [end.steps for end in result.ends] == [4, 10]


def test_a_schedule_that_knows_the_truth_goes_on_as_soon_as_the_hand_is_there():
    task = make_task("grasp", 0, object_kind="cube")
    result = run_episode(task, oracle(task, None), SCHEDULES["truth"])
    assert result.verdict.is_success
    assert len(result.steps) < sum(goal.step_budget for goal in task.sub_goals)
    assert max(end.distance_m for end in result.ends) < 0.01


def test_small_plans_end_a_sub_goal_only_when_there_are_two_in_a_row():
    watch = Watch("settled")
    small, large = np.full(7, 0.001), np.full(7, 0.05)
    wants = [watch.is_over(action, {}, 0.1) for action in (small, large, small, small)]
    assert wants == [False, False, False, True]


def test_an_energy_that_stalls_ends_a_sub_goal_and_one_that_falls_does_not():
    falling, stalling = Watch("energy"), Watch("energy")
    action = np.zeros(7)
    assert not any(
        falling.is_over(action, {"energy_now": energy}, 0.1) for energy in (1.0, 0.9, 0.8, 0.7, 0.6)
    )
    energies = (1.0, 0.5, 0.5, 0.49)
    wants = [stalling.is_over(action, {"energy_now": energy}, 0.1) for energy in energies]
    assert wants == [False, False, False, True]


def test_switching_by_energy_needs_a_policy_that_reports_one():
    task = make_task("reach", 0)
    with pytest.raises(InvalidTaskError, match="energy_now"):
        run_episode(task, still(task, None), Schedule(trigger="energy"))


def test_budgets_end_a_sub_goal_whatever_the_trigger_waits_for():
    task = make_task("reach", 0)
    goal = dataclasses.replace(task.sub_goals[0], step_budget=2)
    task = dataclasses.replace(task, sub_goals=(goal,))
    result = run_episode(task, still(task, None), SCHEDULES["truth"])
    assert len(result.steps) == 2 * SCHEDULES["truth"].stretch
