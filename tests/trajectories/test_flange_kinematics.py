"""The arm's forward kinematics against what DROID's controller measured."""

import numpy as np
from numpy.testing import assert_allclose

from trajectories.dataset import open_dataset
from trajectories.kinematics import flange_pose
from trajectories.poses import difference


def test_joint_angles_give_the_recorded_flange_pose(shared_dir):
    for episode in open_dataset(shared_dir / "data" / "droid_raw"):
        joints = episode.signals["observation/robot_state/joint_positions"]
        pose = np.concatenate([flange_pose(joints), episode.states[:, 6:]], axis=1)
        assert_allclose(difference(episode.states, pose), 0, atol=1e-6)


def test_a_straight_arm_reaches_as_high_as_its_links_are_long():
    pose = flange_pose(np.zeros(7))
    assert_allclose(pose[:3], [0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107], atol=1e-12)
