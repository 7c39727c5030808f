"""One training episode from one seed: a workcell, a motion, its frames and states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from simulation import demonstrations
from simulation.demonstrations import Script
from simulation.exploration import clear_pose, explore
from simulation.stepper import OfflineWorkcell
from simulation.variation import OBJECT_X_M, OBJECT_Y_M, sample_variation

EPISODE_LENGTH = 16
CONTROL_PERIOD_S = 1.0
STORED_SIZE = (128, 128)
_EXPLORATION_SHARE = 0.5
_NOISE_LEVELS_M = (0.0, 0.004, 0.01, 0.025)
_SCRIPTS = ("grasp", "pick_and_place", "approach")


@dataclass(frozen=True)
class Episode:
    """Frames uint8 `[T, 128, 128, 3]`, states float64 `[T, 7]` and the motion's name."""

    frames: NDArray[np.uint8]
    states: NDArray[np.float64]
    task: str


def halve(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average 2x2 pixels of a frame `[2H, 2W, 3]`: what a bilinear resize to half size does."""
    wide = frame.astype(np.uint16)
    rows = wide[0::2] + wide[1::2]
    return ((rows[:, 0::2] + rows[:, 1::2] + 2) // 4).astype(np.uint8)


def simulate_episode(seed: int, index: int) -> Episode:
    """Simulate episode `index` of data set `seed`; nothing else influences the result."""
    rng = np.random.default_rng([seed, index])
    workcell = OfflineWorkcell(sample_variation(int(rng.integers(2**31))))
    workcell.reset(clear_pose(workcell.variation.object_position_m, rng))
    task, targets = _choose_motion(workcell, rng)
    frames, states = [halve(workcell.render())], [workcell.state()]
    while len(frames) < EPISODE_LENGTH:
        workcell.move(next(targets), CONTROL_PERIOD_S)
        frames.append(halve(workcell.render()))
        states.append(workcell.state())
    return Episode(np.stack(frames), np.stack(states), task)


def _choose_motion(
    workcell: OfflineWorkcell, rng: np.random.Generator
) -> tuple[str, Iterator[NDArray[np.float64]]]:
    """Choose exploration or a noisy script; a script that ends early is followed by exploration."""
    exploration = explore(workcell, rng)
    if rng.random() < _EXPLORATION_SHARE:
        return "explore", exploration
    task = str(rng.choice(_SCRIPTS))
    spread = float(rng.choice(_NOISE_LEVELS_M))
    script = demonstrations.noisy(_script(task, workcell, rng), rng, spread)
    return task, chain(script, exploration)


def _script(task: str, workcell: OfflineWorkcell, rng: np.random.Generator) -> Script:
    if task == "grasp":
        return demonstrations.grasp(workcell, lift_m=float(rng.uniform(0.05, 0.2)))
    if task == "pick_and_place":
        place = (float(rng.uniform(*OBJECT_X_M)), float(rng.uniform(*OBJECT_Y_M)))
        return demonstrations.pick_and_place(workcell, place)
    return demonstrations.pick(workcell)
