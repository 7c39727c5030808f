"""Forward kinematics and Jacobian of the Franka arms, in numpy: no simulator, no pinocchio needed.

Modified Denavit-Hartenberg parameters (Craig), the same for Franka Research 3 and Franka Emika
Robot: https://frankarobotics.github.io/docs/control_parameters.html
"""

import numpy as np
import numpy.typing as npt

from trajectories import poses

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

ARM_JOINTS = 7
# One row a joint, then the flange: a [m], d [m], alpha [rad].
_A = np.array([0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088, 0.0])
_D = np.array([0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0, 0.107])
_ALPHA = np.array([0.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 0.0]) * np.pi / 2

#: Lowest and highest joint angles [2, 7] [rad] by arm.
JOINT_LIMITS_RAD: dict[str, Matrix] = {
    "fr3": np.array(
        [
            [-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159],
            [2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159],
        ]
    ),
    "fer": np.array(
        [
            [-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973],
            [2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973],
        ]
    ),
}
_DAMPING = 1e-4  # lambda^2 of the damped least squares


def link_frames(joints_rad: Vector) -> Matrix:
    """Frames of the seven links and the flange, seen from the base: [8, 4, 4]."""
    angles = np.append(joints_rad, 0.0)
    cosine, sine = np.cos(angles), np.sin(angles)
    cos_alpha, sin_alpha = np.cos(_ALPHA), np.sin(_ALPHA)
    steps = np.zeros((8, 4, 4))
    steps[:, 0] = np.stack([cosine, -sine, np.zeros(8), _A], axis=-1)
    steps[:, 1] = np.stack(
        [sine * cos_alpha, cosine * cos_alpha, -sin_alpha, -_D * sin_alpha], axis=-1
    )
    steps[:, 2] = np.stack(
        [sine * sin_alpha, cosine * sin_alpha, cos_alpha, _D * cos_alpha], axis=-1
    )
    steps[:, 3, 3] = 1.0
    for index in range(1, 8):
        steps[index] = steps[index - 1] @ steps[index]
    return steps


def flange(joints_rad: Vector, closedness: float = 0.0) -> Vector:
    """Flange pose [7] in the base frame for joint angles [7]; closedness is handed through."""
    frame = link_frames(joints_rad)[-1]
    euler_rad = poses.matrix_to_euler(frame[:3, :3])
    return np.concatenate([frame[:3, 3], euler_rad, [closedness]])


def jacobian(frames: Matrix) -> Matrix:
    """Geometric Jacobian [6, 7] of the flange in the base frame, from `link_frames`."""
    axes, origins = frames[:ARM_JOINTS, :3, 2], frames[:ARM_JOINTS, :3, 3]
    lever = frames[-1, :3, 3] - origins
    return np.concatenate([np.cross(axes, lever), axes], axis=1).T


def follow(joints_rad: Vector, pose: Vector, iterations: int = 6) -> tuple[Vector, float]:
    """Joint angles near `joints_rad` [7] that bring the flange to `pose` [7], and what is missing.

    Damped least squares: good for the few centimetres of one step, no general inverse kinematics.

    Returns:
        Joint angles [7] and the distance left [m + rad].
    """
    joints = joints_rad.copy()
    wanted = poses.euler_to_matrix(pose[poses.ROTATION])
    error = np.full(6, np.inf)
    for index in range(iterations + 1):
        frames = link_frames(joints)
        error[:3] = pose[poses.POSITION] - frames[-1, :3, 3]
        error[3:] = _rotation_vector(wanted @ frames[-1, :3, :3].T)
        if index == iterations:
            break
        columns = jacobian(frames)
        gram = columns @ columns.T
        gram[np.diag_indices(6)] += _DAMPING
        joints = joints + columns.T @ np.linalg.solve(gram, error)
    return joints, float(np.linalg.norm(error[:3]) + np.linalg.norm(error[3:]))


def joint_margin_rad(joints_rad: Vector, arm: str) -> float:
    """Distance of the nearest joint limit [rad]; negative beyond it."""
    low, high = JOINT_LIMITS_RAD[arm]
    return float(np.minimum(joints_rad - low, high - joints_rad).min())


def smallest_singular_value(joints_rad: Vector) -> float:
    """Smallest singular value of the Jacobian: 0 where the arm loses a direction of motion."""
    values = np.linalg.svd(jacobian(link_frames(joints_rad)), compute_uv=False)
    return float(values[-1])


def _rotation_vector(matrix: Matrix) -> Vector:
    """Rotation vector [3] [rad] of a rotation matrix, for angles below half a turn."""
    skew = np.array(
        [
            matrix[2, 1] - matrix[1, 2],
            matrix[0, 2] - matrix[2, 0],
            matrix[1, 0] - matrix[0, 1],
        ]
    )
    sine, cosine = np.linalg.norm(skew) / 2, (np.trace(matrix) - 1) / 2
    angle = float(np.arctan2(sine, cosine))
    return skew / 2 if sine < 1e-9 else skew * angle / (2 * sine)
