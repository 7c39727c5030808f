"""One training episode from one seed: a workcell, a motion, its frames and states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from simulation import demonstrations
from simulation.demonstrations import Script
from simulation.exploration import clear_pose, explore
from simulation.recipe import Motion, Recipe
from simulation.stepper import OfflineWorkcell
from simulation.variation import OBJECT_X_M, OBJECT_Y_M, sample_variation

STORED_SIZE = (128, 128)


@dataclass(frozen=True)
class Episode:
    """Frames uint8 `[T, 128, 128, 3]`, states float64 `[T, 7]` and the motion's name."""

    frames: NDArray[np.uint8]
    states: NDArray[np.float64]
    motion: Motion


def halve(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average 2x2 pixels of a frame `[2H, 2W, 3]`: what a bilinear resize to half size does."""
    wide = frame.astype(np.uint16)
    rows = wide[0::2] + wide[1::2]
    return ((rows[:, 0::2] + rows[:, 1::2] + 2) // 4).astype(np.uint8)


def simulate_episode(recipe: Recipe, index: int) -> Episode:
    """Simulate episode `index` of a data set; nothing else influences the result."""
    rng = np.random.default_rng([recipe.seed, index])
    workcell = OfflineWorkcell(sample_variation(int(rng.integers(2**31))))
    workcell.reset(clear_pose(workcell.variation.object_position_m, rng))
    motion, targets = _choose_motion(workcell, recipe, rng)
    frames, states = [halve(workcell.render())], [workcell.state()]
    while len(frames) < recipe.episode_length:
        workcell.move(next(targets), recipe.control_period_s)
        frames.append(halve(workcell.render()))
        states.append(workcell.state())
    return Episode(np.stack(frames), np.stack(states), motion)


def _choose_motion(
    workcell: OfflineWorkcell, recipe: Recipe, rng: np.random.Generator
) -> tuple[Motion, Iterator[NDArray[np.float64]]]:
    """Choose exploration or a noisy script; a script that ends early is followed by exploration."""
    exploration = explore(workcell, rng, recipe.max_step_m)
    shares = np.array(list(recipe.motions.values()))
    motion = list(recipe.motions)[int(rng.choice(len(shares), p=shares / shares.sum()))]
    if motion == "explore":
        return motion, exploration
    spread_m = float(rng.choice(recipe.noise_levels_m))
    script = demonstrations.noisy(_SCRIPTS[motion](workcell, rng), rng, spread_m)
    return motion, chain(demonstrations.limited(script, workcell, recipe.max_step_m), exploration)


def _approach(workcell: OfflineWorkcell, _rng: np.random.Generator) -> Script:
    return demonstrations.pick(workcell)


def _grasp(workcell: OfflineWorkcell, rng: np.random.Generator) -> Script:
    return demonstrations.grasp(workcell, lift_m=float(rng.uniform(0.05, 0.2)))


def _pick_and_place(workcell: OfflineWorkcell, rng: np.random.Generator) -> Script:
    place = (float(rng.uniform(*OBJECT_X_M)), float(rng.uniform(*OBJECT_Y_M)))
    return demonstrations.pick_and_place(workcell, place)


def _push(workcell: OfflineWorkcell, rng: np.random.Generator) -> Script:
    heading_rad = float(rng.uniform(-np.pi, np.pi))
    return demonstrations.push(workcell, heading_rad, distance_m=float(rng.uniform(0.03, 0.2)))


def _fumble(workcell: OfflineWorkcell, rng: np.random.Generator) -> Script:
    angle_rad, radius_m = rng.uniform(-np.pi, np.pi), rng.uniform(0.02, 0.06)
    miss = (float(radius_m * np.cos(angle_rad)), float(radius_m * np.sin(angle_rad)))
    return demonstrations.fumble(workcell, miss)


def _drop(workcell: OfflineWorkcell, rng: np.random.Generator) -> Script:
    return demonstrations.drop(workcell, lift_m=float(rng.uniform(0.03, 0.15)))


def _chatter(workcell: OfflineWorkcell, rng: np.random.Generator) -> Script:
    closednesses = [float(closedness) for closedness in rng.uniform(0.0, 1.0, 4).round()]
    return demonstrations.chatter(workcell, closednesses)


_SCRIPTS: dict[Motion, Callable[[OfflineWorkcell, np.random.Generator], Script]] = {
    "approach": _approach,
    "grasp": _grasp,
    "pick_and_place": _pick_and_place,
    "push": _push,
    "fumble": _fumble,
    "drop": _drop,
    "chatter": _chatter,
}
