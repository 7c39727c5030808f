import numpy as np
import pytest

from simulation.demonstrations import grasp, pick
from simulation.errors import InvalidTargetError
from simulation.kinematics import DOWN_EULER_RAD, flange_pose_at
from simulation.stepper import WORKSPACE, OfflineWorkcell
from simulation.truth import MAX_WIDTH_M
from simulation.variation import sample_variation
from trajectories.poses import difference

START = flange_pose_at(np.array([0.45, 0.1, 0.25]), 0.0)


def test_a_move_arrives_within_two_millimetres(workcell):
    rng = np.random.default_rng(1)
    workcell.reset(START)
    for _ in range(30):
        step = rng.uniform(-0.15, 0.15, 3)
        target = WORKSPACE.clip(workcell.state()[:3] + step)
        target[2] = max(target[2], 0.25)  # clear of the object
        state = workcell.move(np.array([*target, *DOWN_EULER_RAD, 0.0]))
        assert np.linalg.norm(state[:3] - target) < 2e-3
        np.testing.assert_allclose(state[3:6], DOWN_EULER_RAD, atol=5e-3)


def test_an_action_is_the_difference_of_the_states_before_and_after(workcell):
    workcell.reset(START)
    before = workcell.state()
    action = np.array([0.05, -0.1, 0.03, 0.0, 0.0, 0.0, 0.6])
    after = workcell.act(action)
    np.testing.assert_allclose(difference(before, after)[:3], action[:3], atol=1e-3)
    assert difference(before, after)[6] == pytest.approx(0.6, abs=0.03)


def test_rotations_are_followed(workcell):
    workcell.reset(START)
    before = workcell.state()
    after = workcell.act(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.0]))
    np.testing.assert_allclose(difference(before, after)[3:6], [0, 0, 0.3], atol=5e-3)


def test_the_same_calls_give_the_same_states_and_frames():
    def run():
        workcell = OfflineWorkcell(sample_variation(7))
        workcell.reset(START)
        states = [workcell.move(target) for target in grasp(workcell)]
        return np.stack(states), workcell.render()

    (states, frame), (states_again, frame_again) = run(), run()
    np.testing.assert_array_equal(states, states_again)
    np.testing.assert_array_equal(frame, frame_again)


def test_a_restored_snapshot_repeats_the_future_exactly(workcell):
    workcell.reset(START)
    for target in pick(workcell):
        workcell.move(target)
    kept = workcell.snapshot()
    lift = np.array([0.02, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0])
    state, position = workcell.act(lift), workcell.object_position()
    workcell.act(-lift)
    workcell.restore(kept)
    np.testing.assert_array_equal(workcell.act(lift), state)
    np.testing.assert_array_equal(workcell.object_position(), position)


def test_a_closed_gripper_stays_at_the_width_of_what_it_holds(workcell):
    workcell.reset(START)
    for target in grasp(workcell):
        workcell.move(target)
    width = MAX_WIDTH_M * (1.0 - workcell.state()[6])
    assert width == pytest.approx(workcell.object_height_m, abs=3e-3)
    assert workcell.gripper_command == 1.0
    assert workcell.truth().is_held


def test_small_changes_of_closedness_do_not_drop_what_is_held(workcell):
    workcell.reset(START)
    for target in grasp(workcell):
        workcell.move(target)
    for change in (0.0, 0.05, -0.09):
        workcell.act(np.array([0.0, 0.03, 0.02, 0.0, 0.0, 0.0, change]))
        assert workcell.truth().is_held
    workcell.act(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.4]))
    assert not workcell.truth().is_held


def test_targets_are_kept_inside_the_workspace(workcell):
    workcell.reset(START)
    for _ in range(5):
        state = workcell.act(np.array([0.0, 0.0, -0.15, 0.0, 0.0, 0.0, 0.0]))
    assert state[2] == pytest.approx(WORKSPACE.low[2], abs=2e-3)


@pytest.mark.parametrize("target", [np.full(7, np.nan), np.zeros(6), np.full(7, np.inf)])
def test_a_target_that_is_not_seven_finite_numbers_is_refused(workcell, target):
    workcell.reset(START)
    with pytest.raises(InvalidTargetError, match="seven finite"):
        workcell.move(target)
    with pytest.raises(InvalidTargetError, match="seven finite"):
        workcell.act(target)


def test_the_camera_sees_arm_gripper_and_object_move(workcell):
    workcell.reset(START)
    still = workcell.render()
    assert still.shape == (256, 256, 3)
    assert still.dtype == np.uint8
    workcell.move(np.add(START, [0, 0, 0.03, 0, 0, 0, 0]))
    assert (workcell.render() != still).any(axis=-1).sum() > 300
    workcell.reset(START)
    np.testing.assert_array_equal(workcell.render(), still)
    workcell.set_flange(np.add(START, [0, 0, 0, 0, 0, 0, 1.0]))
    assert (workcell.render() != still).any(axis=-1).sum() > 30
    workcell.reset(START)
    workcell.place_object(np.add(workcell.object_position(), [0.04, 0.0, 0.0]))
    assert (workcell.render() != still).any(axis=-1).sum() > 100


def test_one_renderer_serves_workcells_in_any_order():
    first, second = (OfflineWorkcell(sample_variation(seed)) for seed in (1, 2))
    for cell in (first, second):
        cell.reset(START)
    frames = [first.render(), second.render(), first.render()]
    np.testing.assert_array_equal(frames[0], frames[2])
    assert (frames[0] != frames[1]).mean() > 0.5
