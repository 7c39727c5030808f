"""Does the energy say how far the hand is from its goal?

The planner follows the distance between tokens; here it is held against the distance of the flange. In
recorded runs every row is the goal of every other one, so that lights, objects and shadows change as well. In
simulation the hand alone is moved: away from a goal along the axes, in workcells that were not trained on.

Letters in shapes: T rows, P pairs of rows, K places, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from training.diagnostics.measures import spearman
from training.diagnostics.runs import SEED, Seen
from training.diagnostics.subject import ENCODER, Eye, look
from trajectories.replay.statistics import Estimate, PairedEstimate, compare, estimate

Array = NDArray[np.float64]

NEAR_M: Final = 0.10
DISTANCES_M: Final = (0.01, 0.02, 0.04, 0.07, 0.10, 0.14, 0.18, 0.22)
_FEWEST_PAIRS: Final = 6
_WORKCELLS: Final = 16
_AXES: Final = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of energy and distance, one number per goal's run or workcell, averaged.

    Attributes:
        eye: Whose tokens.
        overall: Over all pairs.
        near: Over pairs less than 10 cm apart, where grasping is decided.
        lead: Of the encoder over this eye, near; None for itself.
    """

    eye: str
    overall: Estimate
    near: Estimate
    lead: PairedEstimate | None


@dataclass(frozen=True)
class Landscape:
    """Energies in simulated workcells, the hand moved along the axes and nothing else.

    Attributes:
        correlations: Of every eye.
        distances_m: The places' distances from the goal `[K]` [m].
        curves: Mean energy there for every eye, in shares of the energy at the largest distance `[K]`.
        goals: How many goals there were.
    """

    correlations: Sequence[Correlation]
    distances_m: Array
    curves: Mapping[str, Array]
    goals: int


def recorded_correlations(views: Mapping[str, Seen]) -> list[Correlation]:
    """Correlate energy and distance within recorded runs, for every eye."""
    groups: dict[str, list[tuple[Array, Array]]] = {}
    for name, seen in views.items():
        groups[name] = []
        for run, tokens in zip(seen.runs, seen.tokens, strict=True):
            first, second = np.triu_indices(len(tokens), 1)
            apart = np.linalg.norm(run.positions_m[first] - run.positions_m[second], axis=1)
            groups[name].append((apart, _pair_energies(tokens, first, second)))
    return _correlate(groups)


def simulated_landscape(eyes: Mapping[str, Eye]) -> Landscape:
    """Render places around goals in simulated workcells and correlate.

    Raises:
        ModuleNotFoundError: The simulator is not installed.
    """
    groups: dict[str, list[tuple[Array, Array]]] = {name: [] for name in eyes}
    for number in track(range(_WORKCELLS), "moving the hand in simulation"):
        frames, apart = _frames_around_goal(SEED + number)
        for name, eye in eyes.items():
            tokens = look(eye, frames)
            energies = (tokens[1:] - tokens[0]).abs().mean(dim=(1, 2)).double().numpy()
            groups[name].append((apart, energies))
    curves = {name: _curve(found) for name, found in groups.items()}
    return Landscape(_correlate(groups), np.array(DISTANCES_M), curves, _WORKCELLS)


def _frames_around_goal(seed: int) -> tuple[Tensor, Array]:
    """Return the goal's frame and those of the places around it, and how far these are away [m]."""
    from simulation.exploration import clear_pose
    from simulation.stepper import WORKSPACE, OfflineWorkcell
    from simulation.variation import sample_variation

    rng = np.random.default_rng(seed)
    workcell = OfflineWorkcell(sample_variation(seed))
    goal = clear_pose(workcell.variation.object_position_m, rng)
    workcell.reset(goal)
    frames, apart = [workcell.render()], []
    here = workcell.state()[:3]
    for axis in _AXES:
        for distance_m in DISTANCES_M:
            pose = goal.copy()
            pose[:3] = WORKSPACE.clip(goal[:3] + distance_m * np.array(axis))
            if np.linalg.norm(pose[:3] - goal[:3]) < 0.99 * distance_m:
                continue  # outside of the workspace
            workcell.set_flange(pose)
            frames.append(workcell.render())
            apart.append(float(np.linalg.norm(workcell.state()[:3] - here)))
    return torch.from_numpy(np.stack(frames)), np.array(apart)


def _correlate(groups: Mapping[str, Sequence[tuple[Array, Array]]]) -> list[Correlation]:
    """Correlate distances and energies of every group by itself, and compare the eyes."""
    near = {name: np.array([_near(*one) for one in found]) for name, found in groups.items()}
    correlations = []
    for name, found in groups.items():
        names = [str(number) for number in range(len(found))]
        overall = np.array([spearman(*one) for one in found])
        lead = None if name == ENCODER else compare(near[name], near[ENCODER], names)
        correlations.append(
            Correlation(name, estimate(overall, names), estimate(near[name], names), lead)
        )
    return correlations


def _near(apart_m: Array, energies: Array) -> float:
    is_near = apart_m < NEAR_M + 1e-3
    if is_near.sum() < _FEWEST_PAIRS:
        return float("nan")
    return spearman(apart_m[is_near], energies[is_near])


def _pair_energies(tokens: Tensor, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
    """Return the energies of pairs of rows, `[P]`; one first row at a time, to save memory."""
    energies = np.empty(len(first))
    for row in np.unique(first):
        chosen = first == row
        others = tokens[torch.from_numpy(second[chosen])]
        energies[chosen] = (others - tokens[row]).abs().mean(dim=(1, 2)).double().numpy()
    return energies


def _curve(found: Sequence[tuple[Array, Array]]) -> Array:
    """Average energies by the distance that was meant, in shares of the last one."""
    apart = np.concatenate([one for one, _ in found])
    energies = np.concatenate([one for _, one in found])
    nearest = np.abs(apart[:, None] - np.array(DISTANCES_M)).argmin(axis=1)
    means = np.array([energies[nearest == place].mean() for place in range(len(DISTANCES_M))])
    return np.asarray(means / means[-1])
