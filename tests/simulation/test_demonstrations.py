import numpy as np
import pytest

from simulation.demonstrations import (
    MAX_STEP_M,
    chatter,
    drop,
    fumble,
    grasp,
    noisy,
    place,
    push,
)
from simulation.exploration import clear_pose, explore
from simulation.stepper import WORKSPACE, OfflineWorkcell
from simulation.variation import (
    OBJECT_KINDS,
    OBJECT_X_M,
    OBJECT_Y_M,
    WorkcellVariation,
    sample_variation,
)

EPISODES = 10


def _oracle_outcome(seed, kind):
    rng = np.random.default_rng(seed)
    workcell = OfflineWorkcell(sample_variation(seed, kind))
    workcell.reset(clear_pose(workcell.variation.object_position_m, rng))
    resting_height = workcell.object_position()[2]
    for target in grasp(workcell):
        workcell.move(target)
    is_lifted = workcell.object_position()[2] - resting_height > 0.05
    goal = (rng.uniform(*OBJECT_X_M), rng.uniform(*OBJECT_Y_M))
    for target in place(workcell, goal):
        workcell.move(target)
    distance = np.hypot(*(workcell.object_position()[:2] - goal))
    truth = workcell.truth()
    return is_lifted, distance < 0.05 and truth.object_tilt_rad < 0.25 and not truth.is_held


@pytest.mark.parametrize("kind", OBJECT_KINDS)
def test_the_oracle_grasps_and_places_nine_times_out_of_ten(kind):
    outcomes = np.array([_oracle_outcome(seed, kind) for seed in range(EPISODES)])
    assert (outcomes.mean(axis=0) >= 0.9).all()


@pytest.mark.parametrize("heading_rad", [0.0, 1.6, 3.1])
def test_a_push_moves_the_object_along_its_heading(heading_rad):
    workcell = OfflineWorkcell(WorkcellVariation(object_kind="cube"))
    workcell.reset(clear_pose(workcell.variation.object_position_m, np.random.default_rng(0)))
    before = workcell.object_position()
    for target in push(workcell, heading_rad, 0.1):
        workcell.move(target)
    moved = workcell.object_position() - before
    assert moved @ [np.cos(heading_rad), np.sin(heading_rad), 0.0] > 0.05


def test_after_a_miss_a_drop_or_chatter_the_object_is_held_in_most_cases():
    scripts = (
        lambda workcell: fumble(workcell, (0.0, 0.05)),
        lambda workcell: drop(workcell, 0.05),
        lambda workcell: chatter(workcell, [0.0, 1.0, 0.0, 1.0]),
    )
    held = []
    for seed, script in enumerate(scripts * 2):
        workcell = OfflineWorkcell(sample_variation(seed, "cube"))
        workcell.reset(
            clear_pose(workcell.variation.object_position_m, np.random.default_rng(seed))
        )
        for target in script(workcell):
            workcell.move(target)
        held.append(workcell.truth().is_held)
    assert sum(held) >= 4


def test_noise_disturbs_positions_and_leaves_the_rest():
    script = [np.arange(7.0) for _ in range(200)]
    disturbed = np.stack(list(noisy(iter(script), np.random.default_rng(0), 0.01)))
    np.testing.assert_array_equal(disturbed[:, 3:], np.stack(script)[:, 3:])
    errors = disturbed[:, :3] - np.stack(script)[:, :3]
    assert 0.3 < (errors != 0).mean() < 0.7
    assert errors.std() == pytest.approx(0.01 / np.sqrt(2), rel=0.3)


def test_exploration_covers_holds_small_and_large_steps_inside_the_workspace(workcell):
    rng = np.random.default_rng(4)
    workcell.reset(clear_pose(workcell.variation.object_position_m, rng))
    targets = explore(workcell, rng)
    before, steps = workcell.state(), []
    for _ in range(120):
        after = workcell.move(next(targets))
        steps.append(after[:3] - before[:3])
        before = after
        np.testing.assert_array_less(np.array(WORKSPACE.low) - 0.02, after[:3])
        np.testing.assert_array_less(after[:3], np.array(WORKSPACE.high) + 0.02)
    size = np.linalg.norm(steps, axis=1)
    assert (size < 0.002).sum() > 3
    assert ((size > 0.002) & (size < 0.03)).sum() > 8
    assert (np.abs(steps).max(axis=1) > 0.1).sum() > 10
    assert np.abs(steps).max() < MAX_STEP_M * 1.6
