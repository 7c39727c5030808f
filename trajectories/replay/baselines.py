"""What a plan is held against: motions that need no model.

All of them stay inside the box that the planner was given, so that a difference to the plan is never one of limits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajectories.poses import POSE_DIM

Array = NDArray[np.float64]

DO_NOTHING = "do_nothing"
RANDOM = "random"
CONSTANT_VELOCITY = "constant_velocity"
ORACLE = "oracle"
BASELINES = (DO_NOTHING, RANDOM, CONSTANT_VELOCITY, ORACLE)


def do_nothing(horizon: int) -> Array:
    """Return actions `[H, 7]` that hold still."""
    return np.zeros((horizon, POSE_DIM))


def constant_velocity(previous: Array | None, horizon: int, max_step: Array) -> Array:
    """Repeat the recorded action `[7]` that led to the current frame; hold still where there was none before."""
    if previous is None:
        return do_nothing(horizon)
    return np.tile(np.clip(previous, -max_step, max_step), (horizon, 1))


def oracle(recorded: Array, max_step: Array) -> Array:
    """Return the recorded actions `[H, 7]` as far as the box allows: what no planner of this box can beat."""
    return np.clip(recorded, -max_step, max_step)


def random_actions(count: int, horizon: int, max_step: Array, seed: int) -> Array:
    """Draw `[count, H, 7]` actions uniformly from the box `max_step` `[7]`; an axis of size 0 stays still."""
    draws = np.random.default_rng(seed).uniform(-1.0, 1.0, (count, horizon, POSE_DIM))
    return np.asarray(draws * max_step)
