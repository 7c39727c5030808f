"""Algebra of end-effector poses, batched in torch, on the device of its inputs.

A pose is `[..., 7]`: position x, y, z [m] and orientation roll, pitch, yaw [rad] (extrinsic xyz
Euler angles, R = Rz(yaw) Ry(pitch) Rx(roll)) of the bare flange in the robot base frame, then
gripper closedness (0 open, 1 closed). An action is the difference of two poses over one control
period: translation in the base frame, the rotation `R_next R_prev^T` as Euler angles, and the
change of closedness (arXiv 2506.09985, section 3.1).

Rotations are computed in double precision, as the reference does, and returned in the input's type.
"""

from __future__ import annotations

import torch
from torch import Tensor

POSITION = slice(0, 3)
ROTATION = slice(3, 6)
GRIPPER = slice(6, 7)

_GIMBAL_COSINE = 1e-6  # below this cos(pitch) roll and yaw are not separable


def compose(pose: Tensor, action: Tensor) -> Tensor:
    """Apply an action `[..., 7]` to a pose `[..., 7]`; closedness is clipped to [0, 1]."""
    turn = euler_to_matrix(action[..., ROTATION].double())
    rotation = turn @ euler_to_matrix(pose[..., ROTATION].double())
    return torch.cat(
        [
            pose[..., POSITION] + action[..., POSITION],
            matrix_to_euler(rotation).to(pose.dtype),
            (pose[..., GRIPPER] + action[..., GRIPPER]).clamp(0.0, 1.0),
        ],
        dim=-1,
    )


def difference(start: Tensor, end: Tensor) -> Tensor:
    """Return the action `[..., 7]` that leads from pose `start` to pose `end` (both `[..., 7]`)."""
    backwards = euler_to_matrix(start[..., ROTATION].double()).transpose(-1, -2)
    rotation = euler_to_matrix(end[..., ROTATION].double()) @ backwards
    return torch.cat(
        [
            end[..., POSITION] - start[..., POSITION],
            matrix_to_euler(rotation).to(end.dtype),
            end[..., GRIPPER] - start[..., GRIPPER],
        ],
        dim=-1,
    )


def euler_to_matrix(euler_rad: Tensor) -> Tensor:
    """Turn extrinsic xyz Euler angles `[..., 3]` [rad] into rotation matrices `[..., 3, 3]`."""
    cr, cp, cy = euler_rad.cos().unbind(-1)
    sr, sp, sy = euler_rad.sin().unbind(-1)
    rows = [
        torch.stack([cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr], dim=-1),
        torch.stack([sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr], dim=-1),
        torch.stack([-sp, cp * sr, cp * cr], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def matrix_to_euler(matrix: Tensor) -> Tensor:
    """Turn rotation matrices `[..., 3, 3]` into extrinsic xyz Euler angles `[..., 3]` [rad].

    At gimbal lock (pitch = +-90 degrees) only roll and yaw together are defined; yaw is then
    set to zero.
    """
    cos_pitch = torch.hypot(matrix[..., 0, 0], matrix[..., 1, 0])
    pitch = torch.atan2(-matrix[..., 2, 0], cos_pitch)
    locked = cos_pitch < _GIMBAL_COSINE
    roll = torch.where(
        locked,
        torch.atan2(-matrix[..., 1, 2], matrix[..., 1, 1]),
        torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2]),
    )
    yaw = torch.where(
        locked, torch.zeros_like(roll), torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])
    )
    return torch.stack([roll, pitch, yaw], dim=-1)
