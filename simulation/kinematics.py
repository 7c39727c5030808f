"""Flange (link8) kinematics of the FR3: where the flange is, and which joints bring it there.

Poses are those of `trajectories.poses`. The rest posture "gripper down" is tilted by 0.1 rad about
the axis along which the fingers close: grasps do not notice, and the roll angle stays clear of
+-pi, where Euler angles of a straight-down flange jump between two values.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simulation.errors import UnreachablePoseError
from simulation.workcell import FLANGE_SITE, PREFIX
from trajectories.poses import euler_to_matrix, matrix_to_euler

Array = NDArray[np.float64]

ARM_JOINTS = 7
HOME_JOINTS_RAD: Array = np.array([0.0, -0.35, 0.0, -2.2, 0.0, 1.85, np.pi / 4])
TILT_RAD = 0.1
TCP_OFFSET_M = 0.1034  # flange to the point between the finger pads, along the flange's z axis
_DAMPING = 1e-4  # lambda^2 of the damped least squares
_POSTURE_GAIN = 0.1
_POSITION_TOLERANCE_M = 5e-4
_ROTATION_TOLERANCE_RAD = 2e-3
_MAX_ITERATIONS = 200
_BASE_AND_WRIST: Array = np.array([1.0, 0, 0, 0, 0, 0, 1.0])


def _down_rotation() -> Array:
    tilt = euler_to_matrix(np.array([0.0, -TILT_RAD, 0.0]))
    down = euler_to_matrix(np.array([np.pi, 0.0, -np.pi / 4]))  # fingers close along base y
    return np.asarray(tilt @ down)


DOWN_ROTATION: Array = _down_rotation()
DOWN_EULER_RAD: Array = np.asarray(matrix_to_euler(DOWN_ROTATION))


def flange_pose_at(tcp_m: Array, closedness: float) -> Array:
    """Return the flange pose `[7]` that puts the finger pads at `tcp_m` `[3]`, gripper down."""
    flange = tcp_m - DOWN_ROTATION[:, 2] * TCP_OFFSET_M
    return np.concatenate([flange, DOWN_EULER_RAD, [closedness]])


def tcp_position(pose: Array) -> Array:
    """Return where the point between the finger pads is for a flange pose `[7]`."""
    return np.asarray(pose[:3] + euler_to_matrix(pose[3:6])[:, 2] * TCP_OFFSET_M)


class FlangeKinematics:
    """Forward and inverse kinematics on a private copy of the robot's state."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._site = model.site(FLANGE_SITE).id
        joints = [model.joint(f"{PREFIX}fr3_joint{i}") for i in range(1, ARM_JOINTS + 1)]
        self._qpos = np.array([int(joint.qposadr[0]) for joint in joints])
        self._dofs = np.array([int(joint.dofadr[0]) for joint in joints])
        self._low, self._high = np.array([joint.range for joint in joints]).T
        self._jacobian = np.zeros((6, model.nv))
        self._quaternion, self._rotation_error = np.zeros(4), np.zeros(3)

    def forward(self, joints_rad: Array) -> tuple[Array, Array]:
        """Return the flange position `[3]` and rotation `[3, 3]` for joint angles `[7]`."""
        self._data.qpos[self._qpos] = joints_rad
        mujoco.mj_kinematics(self._model, self._data)
        rotation = self._data.site_xmat[self._site].reshape(3, 3)
        return self._data.site_xpos[self._site].copy(), rotation.copy()

    def step(self, joints_rad: Array, position_m: Array, rotation: Array) -> tuple[Array, Array]:
        """Take one damped-least-squares step towards a flange position and rotation.

        The null space is used to stay near the home posture, so that one flange pose always
        shows the same arm.

        Returns:
            The next joint angles `[7]` and the error `[6]` (m, rad) before the step.
        """
        found_position, found_rotation = self.forward(joints_rad)
        mujoco.mj_comPos(self._model, self._data)
        jacobian = self._jacobian
        mujoco.mj_jacSite(self._model, self._data, jacobian[:3], jacobian[3:], self._site)
        mujoco.mju_mat2Quat(self._quaternion, (rotation @ found_rotation.T).ravel())
        mujoco.mju_quat2Vel(self._rotation_error, self._quaternion, 1.0)
        error = np.concatenate([position_m - found_position, self._rotation_error])
        arm = jacobian[:, self._dofs]
        gram = arm @ arm.T
        gram[np.diag_indices(6)] += _DAMPING
        posture = _POSTURE_GAIN * (HOME_JOINTS_RAD - joints_rad)
        # J+ e + (I - J+ J) p = p + J+ (e - J p)
        change = posture + arm.T @ np.linalg.solve(gram, error - arm @ posture)
        return np.clip(joints_rad + change, self._low, self._high), error

    def solve(self, pose: Array, start_rad: Array = HOME_JOINTS_RAD) -> Array:
        """Return joint angles `[7]` that bring the flange to `pose` `[7]` (closedness ignored).

        Raises:
            UnreachablePoseError: The error stays above 0.5 mm or 2 mrad.
        """
        position, rotation = pose[:3], np.asarray(euler_to_matrix(pose[3:6]), np.float64)
        # Turning the base towards the pose, and the wrist back, avoids folded postures far aside.
        bearing = float(np.arctan2(position[1], position[0]))
        joints = start_rad + bearing * _BASE_AND_WRIST
        error = np.full(6, np.inf)
        for iteration in range(_MAX_ITERATIONS):
            joints, error = self.step(joints, position, rotation)
            if iteration > 20 and _is_small(error):
                return joints
        raise UnreachablePoseError(
            f"flange pose {np.round(pose[:6], 3).tolist()} is {np.linalg.norm(error[:3]) * 1e3:.1f} mm"
            " out of reach; stay within the workspace of simulation.stepper.WORKSPACE"
        )


def _is_small(error: Array) -> bool:
    return bool(
        np.linalg.norm(error[:3]) < _POSITION_TOLERANCE_M
        and np.linalg.norm(error[3:]) < _ROTATION_TOLERANCE_RAD
    )
