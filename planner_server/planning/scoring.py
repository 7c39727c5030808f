"""Let the model imagine candidates in batches, keep the account of what that cost, and close with a scored plan."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from planner_server.planning.dynamics import Dynamics
from planner_server.planning.energy import goal_energy
from planner_server.planning.problem import Budget, Plan, PlanningProblem, StopReason


class Scorer:
    """Scores action sequences of one problem until the budget is spent.

    Args:
        dynamics: The world model.
        problem: The problem being planned.
        budget: When to stop.
        chunk_size: Candidates imagined at once; bounds memory, and how far a deadline can be overrun.
    """

    def __init__(
        self, dynamics: Dynamics, problem: PlanningProblem, budget: Budget, chunk_size: int
    ) -> None:
        self._dynamics = dynamics
        self._problem = problem
        self._budget = budget
        self._chunk_size = chunk_size
        self._started = time.monotonic()
        self._state = problem.state.to(problem.context)[None]
        self.evaluations = 0
        self.stop_reason = StopReason.COMPLETED

    @property
    def is_stopped(self) -> bool:
        """Whether the budget ended the search before the planner was through."""
        return self.stop_reason is not StopReason.COMPLETED

    def score(self, candidates: Tensor) -> Tensor:
        """Return the energies of `candidates` `[S, H, 7]`.

        The budget is checked before every batch but the very first one of the problem, so there is always something
        to choose from. Where it ends, the energies returned are fewer than the candidates: those of the leading ones.
        """
        energies = []
        start = 0
        while start < len(candidates):
            size = self._next_batch_size(len(candidates) - start)
            if size == 0:
                break
            energies.append(self._imagine(candidates[start : start + size])[0])
            start += size
        return torch.cat(energies) if energies else candidates.new_empty(0)

    def best_of(self, candidates: Sequence[Tensor], energy_per_iteration: Sequence[float]) -> Plan:
        """Score a few finished sequences `[H, 7]` once more and turn the best into the plan.

        One batch of the model, outside the budget. Holding still is scored beside them, for the report only.
        """
        still = torch.zeros_like(candidates[0])
        energies, states = self._imagine(torch.stack([*candidates, still]))
        winner = int(energies[:-1].argmin())
        limit = np.asarray(self._problem.max_step)
        return Plan(
            # The box in double precision: the single-precision bound may lie a rounding error outside it.
            actions=np.clip(candidates[winner].double().cpu().numpy(), -limit, limit),
            predicted_states=states[winner].double().cpu().numpy(),
            energy=float(energies[winner]),
            energy_now=float(goal_energy(self._problem.context[0], self._problem.goal)),
            energy_do_nothing=float(energies[-1]),
            energy_per_iteration=tuple(energy_per_iteration),
            evaluations=self.evaluations,
            elapsed_ms=self._elapsed_ms(),
            stop_reason=self.stop_reason,
        )

    def _next_batch_size(self, wanted: int) -> int:
        size = min(wanted, self._chunk_size)
        deadline_ms, most = self._budget.deadline_ms, self._budget.max_evaluations
        if most is not None and self.evaluations + size > most:
            self.stop_reason = StopReason.MAX_EVALUATIONS
            size = most - self.evaluations
        if deadline_ms is not None and self.evaluations and self._elapsed_ms() >= deadline_ms:
            self.stop_reason = StopReason.DEADLINE
            size = 0
        return size

    def _elapsed_ms(self) -> float:
        return 1e3 * (time.monotonic() - self._started)

    @torch.inference_mode()
    def _imagine(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the energies `[B]` of the last imagined frames and the poses `[B, H, 7]` on the way."""
        batch = len(actions)
        tokens = self._problem.context.expand(batch, -1, -1)
        predicted, states = self._dynamics.rollout(tokens, self._state.expand(batch, -1), actions)
        self.evaluations += batch
        return goal_energy(predicted[:, -1], self._problem.goal), states
