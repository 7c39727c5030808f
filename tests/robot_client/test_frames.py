"""Flange and end effector: the pose on the wire is link8's, as forward kinematics says."""

from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_client.arms.frames import (
    F_T_EE_FRANKA_HAND,
    closedness_from_width,
    end_effector_matrix,
    flange_pose,
)
from trajectories import poses

ANGLES = st.floats(-3.1, 3.1)
PITCHES = st.floats(-1.5, 1.5)
METRES = st.floats(-1.0, 1.0)


@given(st.tuples(METRES, METRES, METRES, ANGLES, PITCHES, ANGLES, st.floats(0, 1)))
def test_a_pose_survives_the_way_to_the_end_effector_and_back(
    numbers: tuple[float, ...],
) -> None:
    pose = np.array(numbers)
    O_T_EE = end_effector_matrix(pose, F_T_EE_FRANKA_HAND)
    again = flange_pose(O_T_EE, F_T_EE_FRANKA_HAND, pose[6])
    np.testing.assert_allclose(again[:3], pose[:3], atol=1e-12)
    np.testing.assert_allclose(
        poses.euler_to_matrix(again[3:6]), poses.euler_to_matrix(pose[3:6]), atol=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_flange_and_hand_agree_with_the_robots_own_kinematics(seed: int) -> None:
    pinocchio = pytest.importorskip("pinocchio")
    urdf = resources.files("franky_sim") / "assets" / "fr3.urdf"
    model = pinocchio.buildModelFromUrdf(str(urdf))
    data = model.createData()
    low, high = model.lowerPositionLimit, model.upperPositionLimit
    joints = np.random.default_rng(seed).uniform(low, high)
    pinocchio.framesForwardKinematics(model, data, joints)
    O_T_F = data.oMf[model.getFrameId("fr3_link8")].homogeneous
    pose = flange_pose(O_T_F @ F_T_EE_FRANKA_HAND, F_T_EE_FRANKA_HAND, 0.0)
    np.testing.assert_allclose(pose[:3], O_T_F[:3, 3], atol=1e-12)
    np.testing.assert_allclose(poses.euler_to_matrix(pose[3:6]), O_T_F[:3, :3], atol=1e-12)


def test_with_the_hand_pointing_down_the_end_effector_is_below_the_flange() -> None:
    down = np.array([0.5, 0.0, 0.4, np.pi, 0.0, 0.0, 0.0])
    O_T_EE = end_effector_matrix(down, F_T_EE_FRANKA_HAND)
    np.testing.assert_allclose(O_T_EE[:3, 3], [0.5, 0.0, 0.4 - 0.1034], atol=1e-12)


def test_closedness_is_one_when_the_fingers_touch() -> None:
    assert closedness_from_width(0.0, 0.08) == 1.0
    assert closedness_from_width(0.08, 0.08) == 0.0
    assert closedness_from_width(0.0801, 0.08) == 0.0
    assert closedness_from_width(0.04, 0.08) == 0.5
