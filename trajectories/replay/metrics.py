"""How far a planned motion is from a recorded one. Numpy only; training uses it for validation, too.

Letters in shapes: S steps judged, H actions compared at each of them (the horizon). Actions are `[S, H, 7]`:
translation [m], rotation as extrinsic xyz Euler angles [rad] and change of gripper closedness over one control
period each, in the robot base frame (see `trajectories.poses`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajectories.poses import GRIPPER, POSITION, ROTATION, euler_to_matrix

Array = NDArray[np.float64]

SCORE_PER_METRE = 800.0
SCORE_ZERO_M = 0.1
MIN_MOTION_M = 0.005  # shorter motions are noise of the recording and have no direction


@dataclass(frozen=True)
class MotionErrors:
    """Errors of planned against recorded net motions, each `[S]`.

    Attributes:
        end_distance_xyz_m: Sum over the axes of the absolute error of the net displacement [m]; the published
            `end_distance_xyz`.
        end_distance_orientation_rad: The same over the three summed Euler angles [rad].
        end_distance_closure: Absolute error of the net change of closedness.
        distance_m: Euclidean error of the net displacement [m].
        rotation_rad: Angle between the two net rotations [rad], which unlike the sum of Euler angles is an angle.
        direction_cosine: Cosine between the net displacements; NaN where one is shorter than `MIN_MOTION_M`.
    """

    end_distance_xyz_m: Array
    end_distance_orientation_rad: Array
    end_distance_closure: Array
    distance_m: Array
    rotation_rad: Array
    direction_cosine: Array


def motion_errors(planned: Array, recorded: Array) -> MotionErrors:
    """Compare planned with recorded actions, both `[S, H, 7]`, over the same number of steps.

    The three end distances are those of the offline DROID metric (arXiv 2512.24497): absolute errors of the summed
    actions, the path between being ignored.
    """
    ends = np.abs(planned.sum(axis=1) - recorded.sum(axis=1))
    displacement = planned[..., POSITION].sum(axis=1)
    truth = recorded[..., POSITION].sum(axis=1)
    return MotionErrors(
        end_distance_xyz_m=ends[:, POSITION].sum(axis=-1),
        end_distance_orientation_rad=ends[:, ROTATION].sum(axis=-1),
        end_distance_closure=ends[:, GRIPPER].sum(axis=-1),
        distance_m=np.linalg.norm(displacement - truth, axis=-1),
        rotation_rad=_angle(_net_rotation(planned), _net_rotation(recorded)),
        direction_cosine=direction_cosine(displacement, truth),
    )


def action_score(end_distance_xyz_m: Array | float) -> float:
    """Return the published DROID action score: `max(0, 800 * (0.1 - mean end_distance_xyz))`.

    The maximum is taken of the mean, never of single steps. 80 is perfect; 0 is a mean error of 10 cm or more
    (arXiv 2512.24497).
    """
    return max(0.0, SCORE_PER_METRE * (SCORE_ZERO_M - float(np.mean(end_distance_xyz_m))))


def direction_cosine(first: Array, second: Array) -> Array:
    """Return the cosine between displacements `[S, 3]` [m]; NaN where one is too short to point anywhere."""
    lengths = np.linalg.norm(first, axis=-1), np.linalg.norm(second, axis=-1)
    is_pointing = np.minimum(*lengths) >= MIN_MOTION_M
    product = np.where(is_pointing, lengths[0] * lengths[1], 1.0)
    cosine = np.clip((first * second).sum(axis=-1) / product, -1.0, 1.0)
    return np.where(is_pointing, cosine, np.nan)


def rank_among(value: float, others: Array) -> float:
    """Return the share of `others` that are lower than `value`, ties counting half: 0 is best, 0.5 is chance."""
    if others.size == 0:
        raise ValueError("a rank needs at least one other value to compare with; got none")
    return float(np.mean(others < value) + 0.5 * np.mean(others == value))


def monotonicity(energies: Array) -> float:
    """Return minus the rank correlation (Spearman) between time and the energies `[T]` along an episode.

    1 means that the energy falls all the way to the goal, -1 that it rises; NaN for fewer than three frames or a
    constant energy.
    """
    if len(energies) < 3:
        return float("nan")
    times, ranks = np.arange(len(energies), dtype=np.float64), _ranks(energies)
    times -= times.mean()
    ranks -= ranks.mean()
    spread = float(np.sqrt((times**2).sum() * (ranks**2).sum()))
    return float("nan") if spread == 0.0 else -float((times * ranks).sum()) / spread


def falling_share(energies: Array) -> float:
    """Return the share of frames of an episode whose energy `[T]` is below the one before; NaN for one frame."""
    return float(np.mean(np.diff(energies) < 0)) if len(energies) > 1 else float("nan")


def _net_rotation(actions: Array) -> Array:
    """Return the rotation matrices `[S, 3, 3]` that the Euler angles of `[S, H, 7]` compose to, first action first."""
    steps = euler_to_matrix(actions[..., ROTATION])
    net = steps[:, 0]
    for index in range(1, steps.shape[1]):
        net = steps[:, index] @ net
    return np.asarray(net, dtype=np.float64)


def _angle(first: Array, second: Array) -> Array:
    """Return the angle [rad] of the rotation between `[S, 3, 3]` matrices, exact for small angles, too."""
    # The arc cosine of the trace loses half of the digits near zero; the chord does not.
    chord = np.linalg.norm(first - second, axis=(-2, -1)) / np.sqrt(8.0)
    return np.asarray(2.0 * np.arcsin(np.clip(chord, 0.0, 1.0)), dtype=np.float64)


def _ranks(values: Array) -> Array:
    """Return the ranks of `[T]` values, equal ones sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
