"""Laws of the pose algebra in torch; the numpy one and scipy are its oracles."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

import trajectories.poses as numpy_poses
from models.poses import ROTATION, compose, difference, euler_to_matrix, matrix_to_euler


@pytest.fixture
def poses() -> torch.Tensor:
    """Poses `[2, 50, 7]` all around the circle."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(2, 50, 7, generator=generator, dtype=torch.float64)
    values[..., ROTATION] = (values[..., ROTATION] * 2 - 1) * 3.1
    return values


def test_reference_vectors(pose_vectors: dict[str, Any]) -> None:
    composed = compose(pose_vectors["poses"], pose_vectors["actions"])
    torch.testing.assert_close(composed, pose_vectors["composed"], atol=1e-6, rtol=0)
    steps = difference(pose_vectors["poses"][:-1].double(), pose_vectors["poses"][1:].double())
    torch.testing.assert_close(steps, pose_vectors["diffs"], atol=1e-6, rtol=0)


def test_composing_the_difference_arrives_at_the_end(poses: torch.Tensor) -> None:
    start, end = poses
    reached = compose(start, difference(start, end))
    torch.testing.assert_close(reached[..., [0, 1, 2, 6]], end[..., [0, 1, 2, 6]])
    torch.testing.assert_close(
        euler_to_matrix(reached[..., ROTATION]), euler_to_matrix(end[..., ROTATION])
    )


def test_no_difference_is_no_motion(poses: torch.Tensor) -> None:
    start = poses[0]
    torch.testing.assert_close(difference(start, start), torch.zeros_like(start), atol=1e-9, rtol=0)
    still = compose(start, torch.zeros_like(start))
    torch.testing.assert_close(
        euler_to_matrix(still[..., ROTATION]), euler_to_matrix(start[..., ROTATION])
    )


def test_torch_and_numpy_agree(poses: torch.Tensor) -> None:
    start, end = poses
    assert_allclose(
        compose(start, end).numpy(), numpy_poses.compose(start.numpy(), end.numpy()), atol=1e-12
    )
    assert_allclose(
        difference(start, end).numpy(),
        numpy_poses.difference(start.numpy(), end.numpy()),
        atol=1e-12,
    )


def test_angles_are_scipys_extrinsic_xyz(poses: torch.Tensor) -> None:
    angles = poses[0, :, ROTATION]
    rotation = Rotation.from_euler("xyz", angles.numpy())
    assert_allclose(euler_to_matrix(angles).numpy(), rotation.as_matrix(), atol=1e-12)
    assert_allclose(
        matrix_to_euler(torch.from_numpy(rotation.as_matrix())).numpy(),
        rotation.as_euler("xyz"),
        atol=1e-9,
    )


@pytest.mark.parametrize("pitch", [np.pi / 2, -np.pi / 2])
def test_gimbal_lock_keeps_the_rotation(pitch: float) -> None:
    matrix = euler_to_matrix(torch.tensor([0.3, pitch, 0.7], dtype=torch.float64))
    again = euler_to_matrix(matrix_to_euler(matrix))
    torch.testing.assert_close(again, matrix, atol=1e-7, rtol=0)


def test_closedness_stays_within_its_range() -> None:
    pose, action = torch.zeros(7), torch.zeros(7)
    pose[6], action[6] = 0.9, 0.5
    assert compose(pose, action)[6] == 1.0
    assert compose(pose, -4 * action)[6] == 0.0


def test_the_type_of_the_pose_is_kept(poses: torch.Tensor) -> None:
    single = poses.float()
    assert compose(single[0], single[1]).dtype == torch.float32
    assert difference(single[0], single[1]).dtype == torch.float32


def test_autocast_does_not_touch_rotations(poses: torch.Tensor) -> None:
    start, end = poses.float()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = compose(start, end)
    assert torch.equal(mixed, compose(start, end))
