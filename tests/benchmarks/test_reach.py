"""The closed-loop benchmark: its baselines do what their names say."""

import numpy as np
import pytest

from benchmarks.policies import PixelPolicy, RandomPolicy, StillPolicy
from benchmarks.reach import Job, Outcome, row
from simulation.evaluation import run_episode
from simulation.stepper import WORKSPACE
from simulation.tasks import make_task


def test_doing_nothing_ends_where_it_began():
    result = run_episode(make_task("reach", 1), StillPolicy())
    assert result.final_distance_m == pytest.approx(result.start_distance_m, abs=2e-3)


def test_random_actions_stay_in_the_box_and_depend_on_the_seed():
    state, frame = np.zeros(7), np.zeros((256, 256, 3), np.uint8)
    actions = [RandomPolicy(0.15, seed).act(frame, state, 0) for seed in (1, 1, 2)]
    assert np.array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])
    assert max(np.abs(action).max() for action in actions) <= 0.15


def test_the_pixel_baseline_moves_towards_the_goal_with_true_dynamics():
    task = make_task("reach", 1, start_distance_m=(0.04, 0.06))
    policy = PixelPolicy(task, 0.15, seed=0)
    policy.begin([task.sub_goals[0].image])
    action = policy.act(np.zeros((256, 256, 3), np.uint8), task.start, 0)
    goal_m, start_m = task.sub_goals[0].pose[:3], task.start[:3]
    reached_m = WORKSPACE.clip(start_m + action[:3])
    assert np.linalg.norm(goal_m - reached_m) < 0.8 * np.linalg.norm(goal_m - start_m)


def test_a_row_counts_episodes_under_a_distance():
    jobs = [Job("still", "near", seed) for seed in range(4)]
    finals = (0.01, 0.03, 0.05, 0.2)
    outcomes = [
        Outcome(job, 0.1, (0.1, final), ()) for job, final in zip(jobs, finals, strict=True)
    ]
    values = row(outcomes)
    assert values["median_m"] == pytest.approx(0.04)
    assert str(values["under_2_cm"]).startswith("25 %")
    assert str(values["under_4_cm"]).startswith("50 %")
