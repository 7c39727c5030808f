import itertools

import numpy as np
import pytest

from simulation.errors import UnreachablePoseError
from simulation.kinematics import (
    DOWN_EULER_RAD,
    DOWN_ROTATION,
    FlangeKinematics,
    flange_pose_at,
    tcp_position,
)
from simulation.stepper import WORKSPACE
from trajectories.poses import euler_to_matrix


@pytest.fixture
def kinematics(workcell):
    return FlangeKinematics(workcell.model)


def test_every_corner_of_the_workspace_is_reached_within_half_a_millimetre(kinematics):
    for corner in itertools.product(*zip(WORKSPACE.low, WORKSPACE.high, strict=True)):
        pose = np.array([*corner, *DOWN_EULER_RAD, 0.0])
        position, rotation = kinematics.forward(kinematics.solve(pose))
        assert np.linalg.norm(position - corner) < 5e-4
        np.testing.assert_allclose(rotation, DOWN_ROTATION, atol=3e-3)


def test_the_arm_looks_the_same_wherever_it_came_from(kinematics):
    pose = flange_pose_at(np.array([0.5, -0.1, 0.15]), 0.0)
    first = kinematics.solve(pose)
    elsewhere = kinematics.solve(flange_pose_at(np.array([0.35, 0.25, 0.35]), 0.0))
    np.testing.assert_allclose(kinematics.solve(pose, elsewhere), first, atol=0.02)


def test_a_pose_out_of_reach_is_refused_with_its_distance(kinematics):
    with pytest.raises(UnreachablePoseError, match=r"mm out of reach"):
        kinematics.solve(flange_pose_at(np.array([1.4, 0.0, 0.3]), 0.0))


def test_tcp_and_flange_are_inverse_to_each_other():
    point = np.array([0.42, -0.13, 0.2])
    np.testing.assert_allclose(tcp_position(flange_pose_at(point, 0.5)), point, atol=1e-12)


def test_the_rest_orientation_points_down_and_keeps_clear_of_the_jump_of_roll():
    down = euler_to_matrix(DOWN_EULER_RAD)[:, 2]
    assert down @ [0, 0, -1] > 0.99
    assert np.pi - abs(DOWN_EULER_RAD[0]) > 0.05


def test_the_fingers_close_horizontally():
    hand_turn = euler_to_matrix(np.array([0.0, 0.0, -np.pi / 4]))  # the hand sits at Rz(-45 deg)
    finger_axis = (DOWN_ROTATION @ hand_turn)[:, 1]
    assert abs(finger_axis[2]) < 1e-9
