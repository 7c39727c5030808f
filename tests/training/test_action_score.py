"""Judging by planning: a perfect model scores, a blind one does not, and a decline is noticed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.ac_losses import follow
from training.action_score import PlanningJudge, PlanningScore, PlanningWatch, SearchSettings
from training.windows import WindowSampler, WindowSettings

BOX = (0.15, 0.15, 0.15, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def world(linear_episodes):
    return linear_episodes()


def segments(world, count=8, horizon=1):
    sampler = WindowSampler(world, world.episodes, WindowSettings(frames=horizon + 1))
    return [sampler.sample(1, torch.Generator().manual_seed(n)) for n in range(count)]


def true_world(world):
    def imagine(first, state, actions):
        return world.look(follow(state, actions)[:, 1:])

    return imagine


def blind(first, state, actions):
    return first[:, None].expand(-1, actions.shape[1], -1, -1)


@pytest.mark.parametrize("horizon", [1, 2])
def test_the_true_world_is_planned_well_in(world, horizon):
    judge = PlanningJudge(segments(world, horizon=horizon), SearchSettings(128, 4, BOX))
    score = judge.judge(true_world(world))
    assert score.distance_m < 0.25 * score.distance_do_nothing_m
    assert score.score > score.score_do_nothing
    assert score.score > score.score_random
    assert score.direction_cosine > 0.9
    assert score.rank_of_truth < 0.1
    assert score.distance_low_m <= score.distance_m <= score.distance_high_m


def test_a_blind_model_is_no_better_than_chance(world):
    score = PlanningJudge(segments(world), SearchSettings(32, 2, BOX)).judge(blind)
    assert score.rank_of_truth == 0.5
    assert score.energy_ratio == pytest.approx(1.0)
    assert score.distance_m > 0.5 * score.distance_do_nothing_m


def test_doing_nothing_is_scored_by_what_the_robot_did(world):
    found = segments(world)
    score = PlanningJudge(found, SearchSettings(4, 1, BOX)).judge(blind)
    moved = torch.cat([s.actions[:, 0, :3] for s in found]).abs().sum(dim=1).mean()
    assert score.distance_do_nothing_m == pytest.approx(float(moved), rel=1e-5)
    assert score.score_do_nothing == pytest.approx(max(0.0, 800 * (0.1 - float(moved))), rel=1e-4)


def test_the_same_judge_gives_the_same_score(world):
    judge = PlanningJudge(segments(world), SearchSettings(16, 2, BOX))
    assert judge.judge(true_world(world)) == judge.judge(true_world(world))


def test_axes_that_are_not_searched_stay_still(world):
    seen = []

    def imagine(first, state, actions):
        seen.append(actions)
        return true_world(world)(first, state, actions)

    PlanningJudge(segments(world, 1), SearchSettings(16, 3, BOX)).judge(imagine)
    searched = torch.cat([a for a in seen if len(a) == 16])  # the others are what was recorded
    assert searched[..., 3:].abs().max() == 0.0
    assert searched[..., :3].abs().max() <= 0.15


def test_numbers_for_a_log_are_finite(world):
    still = [replace(s, actions=torch.zeros_like(s.actions)) for s in segments(world, 2)]
    numbers = PlanningJudge(still, SearchSettings(4, 1, BOX)).judge(blind).numbers()
    assert "direction_cosine" not in numbers  # nothing moved, so nothing points anywhere
    assert all(np.isfinite(value) for value in numbers.values())


def score(distance_m, low_m=None):
    values = dict.fromkeys(PlanningScore.__dataclass_fields__, 0.0)
    return PlanningScore(**{**values, "distance_m": distance_m, "distance_low_m": low_m})


def test_planning_that_gets_worse_while_the_loss_improves_is_noticed():
    watch = PlanningWatch(patience=2)
    course = [(0.5, 0.05), (0.4, 0.03), (0.35, 0.06), (0.3, 0.07)]
    warnings = [watch.update(loss, score(d, d - 0.01)) for loss, d in course]
    assert warnings[:3] == [None] * 3
    assert "plans miss by 0.070 m after 0.030 m" in warnings[3]


@pytest.mark.parametrize(
    "course",
    [
        [(0.5, 0.05), (0.4, 0.04), (0.3, 0.03), (0.2, 0.02)],  # all is well
        [(0.5, 0.03), (0.6, 0.06), (0.7, 0.07), (0.8, 0.08)],  # the loss tells it already
        [(0.5, 0.03), (0.4, 0.035), (0.3, 0.033), (0.2, 0.036)],  # within the interval
    ],
)
def test_no_warning_without_reason(course):
    watch = PlanningWatch(patience=2)
    assert [watch.update(loss, score(d, d - 0.01)) for loss, d in course] == [None] * 4
