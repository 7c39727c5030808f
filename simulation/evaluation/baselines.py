"""Policies that a claim about planning must beat, or that show what limits it; all see the truth.

Each is made with the task and the very workcell that it drives, in the process of the simulator.
Their part is not to be fair but to be known: nothing, chance, perfect knowledge of the goal pose,
and a search with the simulator itself in place of a learned predictor.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulation.evaluation.policy import PolicySpec
from simulation.stepper import OfflineWorkcell
from simulation.tasks import Task
from trajectories.poses import difference

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

BOX_M = 0.15  # largest displacement per axis and control period, as in the data
_UNIFORM = 96
_ROUNDS = (0.35, 0.12, 0.04)  # deviation of each further round, in shares of the box
_ROUND_SIZE = 32
_ELITES = 4


class FrameEnergy(Protocol):
    """How far pictures are from a goal image."""

    def begin(self, goals: Sequence[Frame]) -> None:
        """Take the goal images of an episode."""

    def energies(self, frames: Sequence[Frame], goal_index: int) -> Array:
        """Return one energy per frame, uint8 RGB `[256, 256, 3]`; 0 where it equals the goal."""
        ...


class _Still:
    """Never move."""

    def begin(self, goals: Sequence[Frame]) -> None:
        """Nothing to prepare."""

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:  # noqa: ARG002
        """Return the zero action."""
        return np.zeros(7)


class _Random:
    """Uniform translations over the same box that planners search."""

    def __init__(self, seed: int, box_m: float) -> None:
        self._rng, self._box_m = np.random.default_rng([seed, 0xD1CE]), box_m

    def begin(self, goals: Sequence[Frame]) -> None:
        """Nothing to prepare."""

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:  # noqa: ARG002
        """Return a random translation."""
        action = np.zeros(7)
        action[:3] = self._rng.uniform(-self._box_m, self._box_m, 3)
        return action


class _Oracle:
    """Goes straight to the flange pose that the goal image shows."""

    def __init__(self, task: Task, box_m: float) -> None:
        self._poses = [sub_goal.pose for sub_goal in task.sub_goals]
        self._box_m = box_m

    def begin(self, goals: Sequence[Frame]) -> None:
        """Nothing to prepare."""

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:  # noqa: ARG002
        """Return the translation to the goal pose, cut to the box."""
        action = np.zeros(7)
        action[:3] = np.clip(
            difference(state, self._poses[goal_index])[:3], -self._box_m, self._box_m
        )
        return action


class _TrueDynamics:
    """Searches with the simulator in place of a predictor: carries out every candidate and looks.

    What is left to go wrong is the energy and that it looks one step ahead.
    """

    def __init__(self, workcell: OfflineWorkcell, energy: FrameEnergy, box_m: float) -> None:
        self._workcell, self._energy, self._box_m = workcell, energy, box_m
        self._step = 0
        self.description: dict[str, str] = {}
        self.numbers: dict[str, float] = {}

    def begin(self, goals: Sequence[Frame]) -> None:
        """Show the energy the goal images."""
        self._energy.begin(goals)
        self._step = 0

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:  # noqa: ARG002
        """Search uniformly over the box, then in ever smaller clouds around the best."""
        started_s = time.monotonic()
        rng = np.random.default_rng(self._step)
        self._step += 1
        candidates = rng.uniform(-self._box_m, self._box_m, (_UNIFORM + 1, 3))
        candidates[0] = 0.0
        energies = self._look(candidates, goal_index)
        for share in _ROUNDS:
            best = candidates[energies.argsort()[:_ELITES]]
            cloud = np.tile(best, (_ROUND_SIZE // _ELITES, 1))
            cloud = cloud + rng.normal(0.0, share * self._box_m, cloud.shape)
            cloud = np.clip(cloud, -self._box_m, self._box_m)
            candidates = np.concatenate([candidates, cloud])
            energies = np.concatenate([energies, self._look(cloud, goal_index)])
        self.numbers = {
            "energy_now": float(self._energy.energies([frame], goal_index)[0]),
            "energy": float(energies.min()),
            "plan_ms": 1e3 * (time.monotonic() - started_s),
        }
        return _translation(candidates[energies.argmin()])

    def _look(self, translations_m: Array, goal_index: int) -> Array:
        """Carry out translations `[S, 3]`, each from here, and return the energies of what is seen."""
        here, frames = self._workcell.snapshot(), []
        for translation_m in translations_m:
            self._workcell.act(_translation(translation_m))
            frames.append(self._workcell.render())
            self._workcell.restore(here)
        return self._energy.energies(frames, goal_index)


class PixelEnergy:
    """Mean absolute difference of pixels, 0 to 255."""

    def __init__(self) -> None:
        self._goals: list[Array] = []

    def begin(self, goals: Sequence[Frame]) -> None:
        """Keep the goal images."""
        self._goals = [goal.astype(np.float64) for goal in goals]

    def energies(self, frames: Sequence[Frame], goal_index: int) -> Array:
        """Return one energy per frame."""
        goal = self._goals[goal_index]
        return np.array([np.abs(frame - goal).mean() for frame in frames])


def still(_task: Task, _workcell: OfflineWorkcell) -> _Still:
    """Return the policy that does nothing."""
    return _Still()


def random(task: Task, _workcell: OfflineWorkcell, box_m: float = BOX_M) -> _Random:
    """Return the policy of chance."""
    return _Random(task.seed, box_m)


def oracle(task: Task, _workcell: OfflineWorkcell, box_m: float = BOX_M) -> _Oracle:
    """Return the policy that knows the goal's pose."""
    return _Oracle(task, box_m)


def true_dynamics(
    _task: Task,
    workcell: OfflineWorkcell,
    energy: str | None = None,
    model: str | None = None,
    box_m: float = BOX_M,
) -> _TrueDynamics:
    """Return a planner with perfect dynamics.

    Args:
        workcell: What it searches with, and drives.
        energy: `package.module:factory` of a `FrameEnergy`; the pixels' by default.
        model: World model that this energy is to be of, in place of its own choice.
        box_m: Largest displacement per axis.
    """
    if energy is None:
        return _TrueDynamics(workcell, PixelEnergy(), box_m)
    spec = PolicySpec.parse(energy)
    made: FrameEnergy = (spec if model is None else spec.having(model=model)).make()
    return _TrueDynamics(workcell, made, box_m)


def _translation(translation_m: Array) -> Array:
    return np.concatenate([translation_m, np.zeros(4)])
