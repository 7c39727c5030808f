import numpy as np
import pytest

from simulation.evaluation import evaluate, run_episode, summarise, wilson
from simulation.tasks import make_task
from trajectories.poses import difference


class Oracle:
    """Knows the goal poses of one task and goes straight there."""

    def __init__(self, task):
        self.poses = [goal.pose for goal in task.sub_goals]

    def begin(self, goals):
        assert len(goals) == len(self.poses)

    def act(self, frame, state, goal_index):
        action = difference(state, self.poses[goal_index])
        action[:3] = np.clip(action[:3], -0.15, 0.15)
        action[6] = 0.0
        return action


class Still:
    """Does nothing and keeps what it was shown."""

    def begin(self, goals):
        self.seen = [goals]

    def act(self, frame, state, goal_index):
        self.seen.append((frame, state, goal_index))
        return np.zeros(7)


@pytest.mark.parametrize("name", ["reach", "grasp", "pick_and_place"])
def test_an_oracle_succeeds_and_standing_still_does_not(name):
    for seed in range(3):
        task = make_task(name, seed, object_kind="cube")
        result = run_episode(task, Oracle(task))
        assert result.verdict.is_success, result.verdict.reason
        assert result.final_distance_m < 0.005
        assert result.steps == sum(goal.step_budget for goal in task.sub_goals)
        assert not run_episode(task, Still()).verdict.is_success


def test_a_policy_is_shown_images_and_states_and_nothing_else():
    task, policy = make_task("grasp", 1), Still()
    run_episode(task, policy)
    goals, *steps = policy.seen
    assert all(isinstance(goal, np.ndarray) and goal.shape == (256, 256, 3) for goal in goals)
    for frame, state, goal_index in steps:
        assert frame.shape == (256, 256, 3)
        assert state.shape == (7,)
        assert goal_index in (0, 1)


def test_summaries_count_what_the_episodes_say():
    tasks = [make_task("reach", seed) for seed in range(3)]
    told = []
    moved = [run_episode(task, Oracle(task)) for task in tasks]
    stayed = evaluate(tasks, Still(), on_result=told.append)
    assert told == stayed
    summary = summarise(moved + stayed)
    assert summary.episodes == 6
    assert summary.under_2_cm.count == summary.under_4_cm.count == summary.success.count == 3
    assert 0.08 <= summary.median_start_distance_m <= 0.18


def test_wilson_intervals_agree_with_the_textbook():
    share = wilson(8, 10)
    assert (share.low, share.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20).low == 0.0
    assert wilson(20, 20).high == 1.0
    assert str(wilson(16, 20)) == "80 % [58-92]"


@pytest.mark.parametrize(("count", "total"), [(0, 0), (3, 2), (-1, 4)])
def test_impossible_shares_are_refused(count, total):
    with pytest.raises(ValueError, match="no share"):
        wilson(count, total)


def test_nothing_cannot_be_summarised():
    with pytest.raises(ValueError, match="at least one"):
        summarise([])
