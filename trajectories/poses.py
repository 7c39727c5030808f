"""Algebra of end-effector poses, in numpy.

A pose is `[..., 7]`: position x, y, z [m] and orientation roll, pitch, yaw [rad] (extrinsic xyz
Euler angles, R = Rz(yaw) Ry(pitch) Rx(roll)) of the bare flange in the robot base frame, then
gripper closedness (0 open, 1 closed). An action is the difference of two poses over one control
period: translation in the base frame, the rotation `R_next R_prev^T` as Euler angles, and the
change of closedness (arXiv 2506.09985, section 3.1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

POSITION = slice(0, 3)
ROTATION = slice(3, 6)
GRIPPER = slice(6, 7)
POSE_DIM = 7

_GIMBAL_COSINE = 1e-6  # below this |cos(pitch)| roll and yaw are not separable


def euler_to_matrix(euler_rad: Array) -> Array:
    """Turn extrinsic xyz Euler angles `[..., 3]` [rad] into rotation matrices `[..., 3, 3]`."""
    cosine, sine = np.cos(euler_rad), np.sin(euler_rad)
    cr, cp, cy = cosine[..., 0], cosine[..., 1], cosine[..., 2]
    sr, sp, sy = sine[..., 0], sine[..., 1], sine[..., 2]
    cy_sp, sy_sp = cy * sp, sy * sp
    matrix = np.empty((*cosine.shape[:-1], 3, 3), cosine.dtype)  # np.stack takes five times as long
    matrix[..., 0, 0], matrix[..., 0, 1] = cy * cp, cy_sp * sr - sy * cr
    matrix[..., 0, 2], matrix[..., 1, 0] = cy_sp * cr + sy * sr, sy * cp
    matrix[..., 1, 1], matrix[..., 1, 2] = sy_sp * sr + cy * cr, sy_sp * cr - cy * sr
    matrix[..., 2, 0], matrix[..., 2, 1], matrix[..., 2, 2] = -sp, cp * sr, cp * cr
    return matrix


def matrix_to_euler(matrix: Array) -> Array:
    """Turn rotation matrices `[..., 3, 3]` into extrinsic xyz Euler angles `[..., 3]` [rad].

    At gimbal lock (pitch = +-90 degrees) only roll and yaw together are defined; yaw is then
    set to zero.
    """
    cos_pitch = np.hypot(matrix[..., 0, 0], matrix[..., 1, 0])
    pitch = np.arctan2(-matrix[..., 2, 0], cos_pitch)
    locked = cos_pitch < _GIMBAL_COSINE
    roll = np.where(
        locked,
        np.arctan2(-matrix[..., 1, 2], matrix[..., 1, 1]),
        np.arctan2(matrix[..., 2, 1], matrix[..., 2, 2]),
    )
    yaw = np.where(locked, 0.0, np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0]))
    return np.stack([roll, pitch, yaw], axis=-1)


def compose(pose: Array, action: Array) -> Array:
    """Apply an action `[..., 7]` to a pose `[..., 7]`; closedness is clipped to [0, 1]."""
    rotation = euler_to_matrix(action[..., ROTATION]) @ euler_to_matrix(pose[..., ROTATION])
    return np.concatenate(
        [
            pose[..., POSITION] + action[..., POSITION],
            matrix_to_euler(rotation),
            np.clip(pose[..., GRIPPER] + action[..., GRIPPER], 0.0, 1.0),
        ],
        axis=-1,
    )


def difference(start: Array, end: Array) -> Array:
    """Return the action `[..., 7]` that leads from pose `start` to pose `end` (both `[..., 7]`)."""
    rotation = euler_to_matrix(end[..., ROTATION]) @ np.swapaxes(
        euler_to_matrix(start[..., ROTATION]), -1, -2
    )
    return np.concatenate(
        [
            end[..., POSITION] - start[..., POSITION],
            matrix_to_euler(rotation),
            end[..., GRIPPER] - start[..., GRIPPER],
        ],
        axis=-1,
    )


def seen_from(frame: Array, pose: Array) -> Array:
    """Express poses `[..., 7]` in another frame: `T_frame^-1 T_pose`; closedness stays.

    Args:
        frame: Pose of the new frame in the frame that `pose` is given in, `[..., 6]`: position
            [m] and extrinsic xyz Euler angles [rad]; a camera's extrinsics, for example.
        pose: `[..., 7]`.
    """
    inverse = np.swapaxes(euler_to_matrix(frame[..., ROTATION]), -1, -2)
    offset = pose[..., POSITION] - frame[..., POSITION]
    rotation = inverse @ euler_to_matrix(pose[..., ROTATION])
    return np.concatenate(
        [
            (inverse @ offset[..., None])[..., 0],
            matrix_to_euler(rotation),
            pose[..., GRIPPER],
        ],
        axis=-1,
    )
