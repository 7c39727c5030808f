"""Laws of the pose algebra, against scipy and the reference vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from trajectories.poses import (
    ROTATION,
    compose,
    difference,
    euler_to_matrix,
    matrix_to_euler,
)

angles = arrays(np.float64, (5, 3), elements=st.floats(-3.1, 3.1))
poses = arrays(np.float64, (4, 7), elements=st.floats(0.0, 1.0))


@given(angles)
def test_matrices_equal_scipys_extrinsic_xyz(euler):
    assert_allclose(
        euler_to_matrix(euler), Rotation.from_euler("xyz", euler).as_matrix(), atol=1e-12
    )


@given(angles)
def test_euler_angles_of_a_matrix_give_the_matrix_back(euler):
    matrix = euler_to_matrix(euler)
    assert_allclose(euler_to_matrix(matrix_to_euler(matrix)), matrix, atol=1e-9)


@pytest.mark.parametrize("pitch", [np.pi / 2, -np.pi / 2])
def test_gimbal_lock_keeps_the_rotation(pitch):
    matrix = euler_to_matrix(np.array([0.3, pitch, 0.7]))
    assert_allclose(euler_to_matrix(matrix_to_euler(matrix)), matrix, atol=1e-7)


@given(poses, poses)
def test_composing_the_difference_arrives_at_the_end(start, end):
    reached = compose(start, difference(start, end))
    assert_allclose(reached[:, :3], end[:, :3], atol=1e-12)
    assert_allclose(reached[:, 6], end[:, 6], atol=1e-12)
    assert_allclose(
        euler_to_matrix(reached[:, ROTATION]), euler_to_matrix(end[:, ROTATION]), atol=1e-9
    )


def test_closedness_stays_within_its_range():
    pose = np.array([0.0, 0, 0, 0, 0, 0, 0.9])
    action = np.array([0.0, 0, 0, 0, 0, 0, 0.5])
    assert compose(pose, action)[6] == 1.0
    assert compose(pose, -4 * action)[6] == 0.0


def test_reference_vectors(shared_dir):
    torch = pytest.importorskip("torch")
    golden = torch.load(shared_dir / "golden" / "poses.pt", weights_only=True)
    vectors = {name: np.asarray(value, dtype=np.float64) for name, value in golden.items()}
    composed = compose(vectors["poses"], vectors["actions"])
    assert_allclose(composed, vectors["composed"], atol=1e-4)
    steps = difference(vectors["poses"][:-1], vectors["poses"][1:])
    assert_allclose(steps, vectors["diffs"], atol=1e-4)
