"""What the closed-loop benchmark compares: our planners, and baselines that any claim must beat.

Every policy sees camera frames, measured states and goal images only. The one exception is named:
`PixelPolicy` owns a twin of the simulator, so it has perfect dynamics and a naive energy.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.world_model import WorldModel
from planner_server.planning import ActionBounds, Goal, Planner, PlanningProblem
from simulation.stepper import WORKSPACE, OfflineWorkcell
from simulation.tasks import Task
from trajectories.poses import compose

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]


class WorldModelPolicy:
    """Encode the frame, plan towards the goal's tokens, act: what the planning service does.

    Args:
        model: The world model.
        planner: Search with this model; made by `planner_server.planning.planners`.
        search_gripper: Whether the gripper is planned, or held.
    """

    def __init__(self, model: WorldModel, planner: Planner, *, search_gripper: bool) -> None:
        self._model = model
        self._planner = planner
        limits = model.config.max_action
        self._bounds = ActionBounds.symmetric(limits if search_gripper else (*limits[:6], 0.0))
        self._goals: list[torch.Tensor] = []
        self.plan_ms: list[float] = []

    def begin(self, goals: Sequence[Frame]) -> None:
        """Encode the goal images of a new episode once."""
        self._goals = [self._encode(goal)[0] for goal in goals]

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:
        """Return the first action of a plan from this frame and state."""
        started = time.monotonic()
        problem = PlanningProblem(
            context_tokens=self._encode(frame)[0],
            context_states=torch.from_numpy(state)[None],
            goal=Goal.of(self._goals[goal_index]),
            bounds=self._bounds,
            seed=len(self.plan_ms),  # fresh candidates at every step, as the service draws them
        )
        (plan,) = self._planner.plan([problem])
        self.plan_ms.append(1e3 * (time.monotonic() - started))
        return plan.actions[0]

    @torch.inference_mode()
    def _encode(self, frame: Frame) -> torch.Tensor:
        return self._model.encode(torch.from_numpy(frame)[None])


class StillPolicy:
    """Never move."""

    def begin(self, goals: Sequence[Frame]) -> None:
        """Nothing to prepare."""

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:
        """Return the zero action."""
        return np.zeros(7)


class RandomPolicy:
    """Uniform actions over the same box that the planners search."""

    def __init__(self, max_step_m: float, seed: int) -> None:
        self._max_step_m = max_step_m
        self._rng = np.random.default_rng(seed)

    def begin(self, goals: Sequence[Frame]) -> None:
        """Nothing to prepare."""

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:
        """Return a random translation."""
        action = np.zeros(7)
        action[:3] = self._rng.uniform(-self._max_step_m, self._max_step_m, 3)
        return action


class PixelPolicy:
    """Perfect dynamics and the energy |rendered - goal| over pixels, with the same search.

    Candidates are rendered by a twin of the simulator with the arm teleported to where the action
    would lead: no model error, no planning shortcut; what is left is the energy itself.
    """

    def __init__(self, task: Task, max_step_m: float, seed: int) -> None:
        self._twin = OfflineWorkcell(task.variation)
        self._twin.reset(task.start)
        self._max_step_m = max_step_m
        self._rng = np.random.default_rng(seed)
        self._goals: list[Array] = []

    def begin(self, goals: Sequence[Frame]) -> None:
        """Keep the goal images."""
        self._goals = [goal.astype(np.float64) for goal in goals]

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:
        """Search: 96 uniform candidates and no motion, then two clouds of 32 around the best."""
        candidates = self._rng.uniform(-self._max_step_m, self._max_step_m, (97, 3))
        candidates[0] = 0.0
        energies = self._energies(candidates, state, goal_index)
        for std in (0.35, 0.12):
            best = candidates[energies.argsort()[:4]]
            cloud = np.tile(best, (8, 1)) + self._rng.normal(0, std * self._max_step_m, (32, 3))
            cloud = np.clip(cloud, -self._max_step_m, self._max_step_m)
            candidates = np.concatenate([candidates, cloud])
            energies = np.concatenate([energies, self._energies(cloud, state, goal_index)])
        action = np.zeros(7)
        action[:3] = candidates[energies.argmin()]
        return action

    def _energies(self, translations: Array, state: Array, goal_index: int) -> Array:
        goal = self._goals[goal_index]
        return np.array([self._energy(translation, state, goal) for translation in translations])

    def _energy(self, translation: Array, state: Array, goal: Array) -> float:
        pose = compose(state, np.concatenate([translation, np.zeros(4)]))
        pose[:3] = WORKSPACE.clip(pose[:3])
        self._twin.set_flange(pose)
        return float(np.abs(self._twin.render() - goal).mean())
