"""Forward kinematics of the Franka arm, for recordings that kept joint angles and no pose.

Panda and FR3 share these lengths. The result is the flange (link8) in the base frame, which is
what DROID calls `cartesian_position`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajectories.poses import matrix_to_euler

# Modified Denavit-Hartenberg parameters, joints 1-7 and the flange, from Franka's documentation.
_A_M = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088, 0.0)
_D_M = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0, 0.107)
_ALPHA_RAD = np.array((0, -1, 1, 1, -1, 1, 1, 0)) * np.pi / 2


def flange_pose(joints_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pose of the flange in the base frame.

    Args:
        joints_rad: Joint angles `[..., 7]` [rad].

    Returns:
        `[..., 6]`: position [m] and extrinsic xyz Euler angles [rad].
    """
    angles = np.concatenate([joints_rad, np.zeros_like(joints_rad[..., :1])], axis=-1)
    pose = np.broadcast_to(np.eye(4), (*joints_rad.shape[:-1], 4, 4))
    for index in range(len(_A_M)):
        pose = pose @ _link(angles[..., index], index)
    return np.concatenate([pose[..., :3, 3], matrix_to_euler(pose[..., :3, :3])], axis=-1)


def _link(angle_rad: NDArray[np.float64], index: int) -> NDArray[np.float64]:
    """Transform of one link `[..., 4, 4]`: along and about x, then along and about z."""
    cos_a, sin_a = np.cos(_ALPHA_RAD[index]), np.sin(_ALPHA_RAD[index])
    cos_t, sin_t = np.cos(angle_rad), np.sin(angle_rad)
    zero, one = np.zeros_like(angle_rad), np.ones_like(angle_rad)
    rows = [
        [cos_t, -sin_t, zero, _A_M[index] * one],
        [sin_t * cos_a, cos_t * cos_a, -sin_a * one, -_D_M[index] * sin_a * one],
        [sin_t * sin_a, cos_t * sin_a, cos_a * one, _D_M[index] * cos_a * one],
        [zero, zero, zero, one],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
