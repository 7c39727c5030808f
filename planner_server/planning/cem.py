"""The cross-entropy method exactly as it was published with V-JEPA 2-AC, for comparison with its results.

Its peculiarities are kept on purpose: only x, y, z and the gripper are searched; the gripper starts four times wider
than it may move; the rotation stays zero; the standard deviation is the unbiased one and has no floor; the answer is
the mean of the last distribution with small gripper changes set to zero, a sequence that the search itself never
tried. What is added: the answer is scored once at the end, and a budget may end the search after any iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from planner_server.planning.dynamics import Dynamics
from planner_server.planning.problem import GRIPPER, POSE_DIM, Budget, Plan, PlanningProblem
from planner_server.planning.scoring import Scorer

SEARCHED_AXES = (0, 1, 2, GRIPPER)  # x, y, z, closedness
_XYZ = slice(0, 3)
_CLOSEDNESS = 3  # place of the gripper among the searched axes

NoiseSource = Callable[[torch.Generator, int], Tensor]


def standard_normal(generator: torch.Generator, candidates: int) -> Tensor:
    """Draw `[candidates, 4]` standard normal numbers, one row per candidate."""
    return torch.randn(candidates, len(SEARCHED_AXES), generator=generator)


@dataclass(frozen=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class CemPlanner:
    """Options of the published search (defaults: the paper's 800 candidates and 10 iterations).

    Attributes:
        candidates: Action sequences per iteration.
        elites: The best ones, that the next distribution is fitted to.
        iterations: Times that the distribution is refitted.
        momentum_mean: Weight of the old mean of x, y, z.
        momentum_std: Weight of the old standard deviation of x, y, z.
        momentum_mean_gripper: Weight of the old mean of the gripper.
        momentum_std_gripper: Weight of the old standard deviation of the gripper.
        gripper_limit: Largest gripper change sampled, whatever the problem allows.
        gripper_dead_zone: Final gripper changes below this become zero.
        close_gripper_from: First step of the horizon at which the gripper is told to close fully; None leaves it free.
        pinned: Searched axes (0-2 x, y, z; 3 gripper) held at a value [m, closedness] during the search.
        chunk_size: Candidates imagined at once.
        noise: Source of the standard normal draws, called per iteration and, inside it, per step of the horizon.
    """

    candidates: Annotated[int, Field(ge=2)] = 800
    elites: Annotated[int, Field(ge=2)] = 10
    iterations: Annotated[int, Field(ge=1)] = 10
    momentum_mean: Annotated[float, Field(ge=0, le=1)] = 0.15
    momentum_std: Annotated[float, Field(ge=0, le=1)] = 0.15
    momentum_mean_gripper: Annotated[float, Field(ge=0, le=1)] = 0.15
    momentum_std_gripper: Annotated[float, Field(ge=0, le=1)] = 0.15
    gripper_limit: Annotated[float, Field(ge=0, le=1)] = 0.75
    gripper_dead_zone: Annotated[float, Field(ge=0)] = 0.25
    close_gripper_from: Annotated[int, Field(ge=0)] | None = None
    pinned: Mapping[Annotated[int, Field(ge=0, le=3)], float] = field(default_factory=dict)
    chunk_size: Annotated[int, Field(ge=1)] = 32
    noise: NoiseSource = standard_normal

    def __post_init__(self) -> None:
        if self.elites > self.candidates:
            raise ValueError(f"{self.elites} elites cannot come from {self.candidates} candidates")

    def plan(self, dynamics: Dynamics, problem: PlanningProblem, budget: Budget) -> Plan:
        """Refit a normal distribution to the best candidates, again and again, and return its mean."""
        scorer = Scorer(dynamics, problem, budget, self.chunk_size)
        generator = torch.Generator().manual_seed(problem.seed)
        limit = problem.box()[list(SEARCHED_AXES)]
        mean = limit.new_zeros(problem.horizon, len(SEARCHED_AXES))
        std = limit.expand_as(mean).clone()
        std[:, _CLOSEDNESS] = 1.0
        for axis, value in self.pinned.items():
            if abs(value) > limit[axis]:
                raise ValueError(f"axis {axis} is pinned to {value}, outside +-{limit[axis]:g}")
            mean[:, axis] = value
        best_per_iteration: list[float] = []

        for _ in range(self.iterations):
            samples = self._sample(generator, mean, std, limit)
            energies = scorer.score(_embed(samples))
            if len(energies) < len(samples):
                break  # an unfinished iteration would bias the fit
            elites = samples[energies.topk(self.elites, largest=False).indices]
            mean = self._blend(
                elites.mean(dim=0), mean, self.momentum_mean, self.momentum_mean_gripper
            )
            std = self._blend(elites.std(dim=0), std, self.momentum_std, self.momentum_std_gripper)
            best_per_iteration.append(float(energies.min()))

        answer = mean.clone()
        small = answer[:, _CLOSEDNESS].abs() < self.gripper_dead_zone
        answer[small, _CLOSEDNESS] = 0.0
        return scorer.best_of([_embed(answer)], best_per_iteration)

    def _sample(
        self, generator: torch.Generator, mean: Tensor, std: Tensor, limit: Tensor
    ) -> Tensor:
        """Draw candidates `[S, H, 4]`, one call of the noise source per step of the horizon."""
        draws = [self.noise(generator, self.candidates).to(mean) for _ in range(len(mean))]
        samples = torch.stack(draws, dim=1) * std + mean
        sampled_limit = torch.cat([limit[_XYZ], limit[_CLOSEDNESS:].clamp(max=self.gripper_limit)])
        samples = samples.clamp(-sampled_limit, sampled_limit)
        for axis, value in self.pinned.items():
            samples[:, :, axis] = value
        if self.close_gripper_from is not None:
            samples[:, self.close_gripper_from :, _CLOSEDNESS] = limit[_CLOSEDNESS]
        return samples

    @staticmethod
    def _blend(new: Tensor, old: Tensor, momentum: float, momentum_gripper: float) -> Tensor:
        weight = new.new_tensor([momentum, momentum, momentum, momentum_gripper])
        return new * (1 - weight) + old * weight


def _embed(searched: Tensor) -> Tensor:
    """Place searched axes `[..., 4]` into actions `[..., 7]` whose other axes are zero."""
    actions = searched.new_zeros(*searched.shape[:-1], POSE_DIM)
    actions[..., list(SEARCHED_AXES)] = searched
    return actions
