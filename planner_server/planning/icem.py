"""Iterated search that first covers the whole box and then closes in: the default planner.

The energy of a frozen encoder is neither convex nor monotone far from the goal, so a normal distribution that starts
at zero often settles on a slope nearby. Here the first round is uniform over the box and contains the action that
holds still; the later rounds are small clouds around the best sequences found so far, shrinking round by round. From
iCEM (arXiv 2008.06389) come the kept elites, the falling number of candidates and the answer that was itself tried.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from planner_server.planning.dynamics import Dynamics
from planner_server.planning.problem import POSE_DIM, Budget, Plan, PlanningProblem
from planner_server.planning.scoring import Scorer

_XYZ = slice(0, 3)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class IcemPlanner:
    """Options of the search.

    Attributes:
        uniform_candidates: Sequences of the first round, spread over the box; the first of them holds still.
        cloud_candidates: Sequences of every later round.
        cloud_elites: For every later round, how many of the best sequences so far its cloud is drawn around.
        cloud_std: Standard deviation of the first cloud, as a fraction of the box.
        cloud_decay: Factor on that fraction from one cloud to the next.
        averaged: How many of the best sequences are averaged into the answer where they agree and the model
            finds the average no worse.
        agreement_m: Largest distance of their translations from the best one's at which they agree [m].
        chunk_size: Candidates imagined at once.
    """

    uniform_candidates: Annotated[int, Field(ge=1)] = 192
    cloud_candidates: Annotated[int, Field(ge=1)] = 64
    cloud_elites: tuple[Annotated[int, Field(ge=1)], ...] = (8, 4, 4)
    cloud_std: Annotated[float, Field(gt=0)] = 0.35
    cloud_decay: Annotated[float, Field(gt=0, le=1)] = 0.5
    averaged: Annotated[int, Field(ge=1)] = 4
    agreement_m: Annotated[float, Field(ge=0)] = 0.02
    chunk_size: Annotated[int, Field(ge=1)] = 32

    def plan(self, dynamics: Dynamics, problem: PlanningProblem, budget: Budget) -> Plan:
        """Cover the box, close in on the best, return the best sequence or the mean of the best few."""
        scorer = Scorer(dynamics, problem, budget, self.chunk_size)
        generator = torch.Generator().manual_seed(problem.seed)
        box = problem.box()
        shape = (problem.horizon, POSE_DIM)

        uniform = torch.rand(self.uniform_candidates, *shape, generator=generator).to(box) * 2 - 1
        uniform[0] = 0.0
        tried, energies = _try(scorer, uniform * box)
        best_per_iteration = [float(energies.min())]

        for round_index, elite_count in enumerate(self.cloud_elites):
            if scorer.is_stopped:
                break
            elites = tried[energies.argsort(stable=True)[:elite_count]]
            centres = elites[torch.arange(self.cloud_candidates, device=box.device) % len(elites)]
            noise = torch.randn(self.cloud_candidates, *shape, generator=generator).to(box)
            std = self.cloud_std * self.cloud_decay**round_index * box
            cloud, cloud_energies = _try(scorer, (centres + noise * std).clamp(-box, box))
            tried, energies = torch.cat([tried, cloud]), torch.cat([energies, cloud_energies])
            best_per_iteration.append(float(energies.min()))

        finalists = tried[energies.argsort(stable=True)[: self.averaged]]
        return scorer.best_of(self._answers(finalists), best_per_iteration)

    def _answers(self, finalists: Tensor) -> list[Tensor]:
        """Return the best sequence `[H, 7]` and, where the finalists `[K, H, 7]` agree, also their mean."""
        best = finalists[0]
        distance_m = (finalists - best)[..., _XYZ].norm(dim=-1).max()
        if len(finalists) > 1 and float(distance_m) <= self.agreement_m:
            return [best, finalists.mean(dim=0)]
        return [best]


def _try(scorer: Scorer, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Score what the budget allows and return those candidates with their energies."""
    energies = scorer.score(candidates)
    return candidates[: len(energies)], energies
