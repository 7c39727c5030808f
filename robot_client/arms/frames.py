"""Between the flange, which the planner speaks of, and the end effector, which libfranka speaks of.

A DROID `cartesian_position`, and so every state and action of the planner, is the pose of the bare
flange (link8). libfranka reports and accepts `O_T_EE`, with the Franka Hand 10 cm further out and
turned by -45 degrees. The conversion happens at the arm driver and nowhere else. Matrices are 4x4,
`a_T_b` is frame b seen from frame a; O is the robot base, F the flange, EE the end effector.
"""

import numpy as np
import numpy.typing as npt

from trajectories import poses

Matrix = npt.NDArray[np.float64]
Pose = npt.NDArray[np.float64]


def _hand_frame() -> Matrix:
    turn, depth_m = -np.pi / 4, 0.1034
    cosine, sine = np.cos(turn), np.sin(turn)
    return np.array(
        [[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, depth_m], [0, 0, 0, 1]], np.float64
    )


#: The Franka Hand's end effector seen from the flange, as Desk sets it: Rz(-45 deg), z + 103.4 mm.
F_T_EE_FRANKA_HAND = _hand_frame()


def flange_pose(O_T_EE: Matrix, F_T_EE: Matrix, closedness: float) -> Pose:
    """Turn what libfranka reports into a pose [7] of the flange in the base frame.

    Args:
        O_T_EE: End effector seen from the base.
        F_T_EE: End effector seen from the flange, from the same robot state.
        closedness: Gripper closedness, 0 open to 1 closed; handed through.
    """
    O_T_F = O_T_EE @ np.linalg.inv(F_T_EE)
    euler_rad = poses.matrix_to_euler(O_T_F[:3, :3])
    return np.concatenate([O_T_F[:3, 3], euler_rad, [closedness]])


def without_jumps(euler_rad: Pose, before_rad: Pose) -> Pose:
    """Euler angles [3] of the same rotation, on the turn nearest to those of a moment ago.

    A flange that points straight down has a roll of about pi, and measuring noise would let it jump
    between pi and -pi: one and the same posture, but two very different numbers for a model.
    """
    turns = np.round((before_rad - euler_rad) / (2 * np.pi))
    turns[1] = 0.0  # pitch stays within +-pi/2
    near: Pose = euler_rad + 2 * np.pi * turns
    return near


def end_effector_matrix(pose: Pose, F_T_EE: Matrix) -> Matrix:
    """Turn a flange pose [7] into the `O_T_EE` that libfranka is to reach."""
    O_T_F = np.eye(4)
    O_T_F[:3, :3] = poses.euler_to_matrix(pose[poses.ROTATION])
    O_T_F[:3, 3] = pose[poses.POSITION]
    O_T_EE: Matrix = O_T_F @ F_T_EE
    return O_T_EE


def closedness_from_width(width_m: float, max_width_m: float) -> float:
    """Gripper closedness 0 (open) to 1 (closed) of a finger distance [m], as DROID defines it."""
    return float(np.clip(1.0 - width_m / max_width_m, 0.0, 1.0))
