"""Problems of the same shape, planned side by side: their tensors stacked, their random numbers apart.

Letters in shapes: P problems, S candidates, H horizon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from planner_server.planning.dynamics import Context
from planner_server.planning.energy import Energy
from planner_server.planning.limits import Limits
from planner_server.planning.problem import PlanningProblem


class ProblemBatch:
    """Problems that agree in `shape_of`, as one.

    Attributes:
        problems: The problems themselves.
        horizon: Control periods, H.
        context: What the model is given of the past.
        states: Current poses `[P, 7]`.
        limits: What is allowed.
        energy: What is minimised.
    """

    def __init__(self, problems: Sequence[PlanningProblem]) -> None:
        first = problems[0]
        tokens = torch.stack([problem.context_tokens for problem in problems])
        states = torch.stack([problem.context_states for problem in problems]).to(tokens)
        actions = [problem.context_actions for problem in problems]
        past = [tokens.new_zeros(0, states.shape[-1]) if a is None else a for a in actions]
        self.problems = tuple(problems)
        self.horizon = first.horizon
        self.context = Context(tokens, states, torch.stack(past).to(tokens))
        self.states = states[:, -1]
        self.limits = Limits([p.bounds for p in problems], first.horizon, self.states)
        self.energy = Energy(first.energy, [problem.goal for problem in problems], tokens)
        device = self.states.device  # drawing there, no iteration waits for a copy
        self._generators = [torch.Generator(device).manual_seed(p.seed) for p in problems]

    def __len__(self) -> int:
        return len(self.problems)

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers `[P, *shape]`, every problem from its own generator."""
        return torch.stack([torch.randn(shape, **source) for source in self._sources()])

    def uniform(self, *shape: int) -> Tensor:
        """Draw numbers `[P, *shape]` uniform in [0, 1), every problem from its own generator."""
        return torch.stack([torch.rand(shape, **source) for source in self._sources()])

    def _sources(self) -> Iterator[dict[str, Any]]:
        for generator in self._generators:
            yield {"generator": generator, "dtype": self.states.dtype, "device": generator.device}

    def anchors(self) -> Tensor:
        """Return what every search tries first, `[P, A, H, 7]`: staying, and the warm start where there is one."""
        anchors = [self.limits.stay()]
        guesses = [p.warm_start for p in self.problems if p.warm_start is not None]
        if guesses:
            anchors.append(torch.stack(guesses).to(self.states))
        return self.limits.project(torch.stack(anchors, dim=1))

    def energy_now(self) -> Tensor:
        """Return the energies `[P]` of the current frames."""
        tokens = torch.stack([problem.current_tokens for problem in self.problems])
        return self.energy(tokens[:, None, None], self.states[:, None, None])[:, 0]


def shape_of(problem: PlanningProblem) -> tuple[Any, ...]:
    """Return what problems must have in common to be planned as one batch."""
    low, high = problem.bounds.limits(problem.horizon)
    searched = tuple(
        tuple(a < b for a, b in zip(*step, strict=True)) for step in zip(low, high, strict=True)
    )
    return (
        problem.frames,
        problem.horizon,
        problem.energy,
        problem.goal.tokens.shape,
        problem.warm_start is not None,
        problem.context_tokens.device,
        searched,
    )
