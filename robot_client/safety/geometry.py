"""Where flange and fingertips are, and how far outside or inside a box."""

import numpy as np
import numpy.typing as npt

from trajectories import poses

#: From the flange to the tips of the Franka Hand's fingers, along the flange's z axis [m].
FINGERTIP_DEPTH_M = 0.1124

Vector = npt.NDArray[np.float64]


def fingertip_m(pose: Vector, depth_m: float = FINGERTIP_DEPTH_M) -> Vector:
    """Position [..., 3] of the point between the fingertips for flange poses [..., 7].

    Args:
        pose: Flange in the base frame.
        depth_m: From the flange to the fingertips along the flange's z axis [m].
    """
    rotation = poses.euler_to_matrix(pose[..., poses.ROTATION])
    tip: Vector = pose[..., poses.POSITION] + depth_m * rotation[..., :, 2]
    return tip


def fingertip_z_m(pose: Vector, depth_m: float = FINGERTIP_DEPTH_M) -> float:
    """Height of the fingertips over the base plane [m] for a flange pose [7]."""
    return float(fingertip_m(pose, depth_m)[2])


def deviation_m(position: Vector, start: Vector, target: Vector) -> float:
    """Distance of a flange position [3] from the straight line between two others [3], in [m]."""
    way = target - start
    length_m2 = float(way @ way)
    share = float(np.clip((position - start) @ way / length_m2, 0.0, 1.0)) if length_m2 else 0.0
    return float(np.linalg.norm(position - start - share * way))


def outside_m(points: Vector, low: Vector, high: Vector) -> Vector:
    """How far each point [..., 3] lies outside a box, per axis [..., 3]; 0 inside."""
    outside: Vector = np.maximum(np.maximum(low - points, points - high), 0.0)
    return outside


def depth_m(points: Vector, low: Vector, high: Vector) -> Vector:
    """How deep each point [..., 3] lies inside a box [...]: the shortest way out; 0 outside."""
    inside: Vector = np.minimum(points - low, high - points).min(axis=-1)
    return np.maximum(inside, 0.0)


def along(
    state: Vector, action: Vector, spacing_m: float, depth_m: float = FINGERTIP_DEPTH_M
) -> tuple[Vector, Vector]:
    """Poses on the way of an action, close enough together to be checked one by one.

    Args:
        state: Start [7].
        action: Action [7].
        spacing_m: Largest distance of neighbours, of the flange and of the fingertips.
        depth_m: From the flange to the fingertips [m].

    Returns:
        Fractions [K] from 0 to 1 and the poses [K, 7] there.
    """
    reach_m = float(np.linalg.norm(action[poses.POSITION]))
    reach_m += depth_m * float(np.linalg.norm(action[poses.ROTATION]))
    fractions = np.linspace(0.0, 1.0, max(2, int(np.ceil(reach_m / spacing_m)) + 1))
    steps = fractions[:, None] * action
    way = poses.compose(np.broadcast_to(state, steps.shape), steps)
    return fractions, way.astype(np.float64)
