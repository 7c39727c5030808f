"""One search: ask the model within the budget, remember the best of every problem, close with scored plans.

A planner decides which candidates to try; everything about money, time and bookkeeping is here.
Letters in shapes: P problems, S candidates, H horizon.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.poses import compose
from planner_server.planning.batch import ProblemBatch
from planner_server.planning.budget import Budget, StopReason
from planner_server.planning.limits import Limits
from planner_server.planning.plan import Candidates, Plan
from planner_server.planning.rollouts import Evaluated, Keep, RolloutEngine
from planner_server.planning.scored import Scored, take

# Candidates per problem; a deadline that leaves no time for them ends the search.
SMALLEST_BATCH = 8


class Search:
    """Scores candidates of a batch of problems until the budget is spent.

    Args:
        engine: Imagines candidates.
        batch: The problems.
        budget: When to stop.
        deadline_s: `time.monotonic()` at which to stop; None is never.

    Attributes:
        batch: The problems.
        best_actions: The best sequences so far `[P, H, 7]`.
        best_energies: Their energies `[P]`.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        batch: ProblemBatch,
        budget: Budget,
        deadline_s: float | None,
    ) -> None:
        self.batch = batch
        self.best_actions = batch.limits.stay()
        self.best_energies = batch.states.new_full((len(batch),), torch.inf)
        self._engine = engine
        self._budget = budget
        self._deadline_s = deadline_s
        self._evaluations = [0] * len(batch)
        self._reasons: list[StopReason | None] = [None] * len(batch)
        self._history: list[Tensor] = []
        self._iterations = [0] * len(batch)
        self._tried: list[Scored] = []

    @property
    def is_over(self) -> bool:
        """Whether the budget has ended the search of every problem."""
        return all(reason is not None for reason in self._reasons)

    @property
    def can_begin(self) -> bool:
        """Whether the deadline leaves time for one batch, as far as is known."""
        until_s, now_s = self._search_until(), time.monotonic()
        if until_s is None:
            return self._deadline_s is None or now_s < self._deadline_s
        work = self._engine.work(self.batch.context, self.batch.horizon)
        affordable = self._engine.throughput.affordable(work, until_s - now_s)
        return affordable is None or affordable >= SMALLEST_BATCH * len(self.batch)

    def score(self, actions: Tensor, *, keep: Keep | None = None) -> Scored:
        """Imagine sequences `[P, S, H, 7]`, moved into the bounds first.

        What is returned may be less than what was asked for: then the search is over. Of the predicted tokens it
        holds what `keep` returns.
        """
        actions = self.batch.limits.project(actions.nan_to_num())
        affordable = self._within_evaluations(actions.shape[1])
        parts = [self._evaluate(part, keep) for part in self._split(actions[:, :affordable])]
        energies = torch.cat([part.energies for part in parts], dim=1)
        tokens = [part.tokens for part in parts if part.tokens is not None]
        scored = Scored(
            actions[:, : energies.shape[1]],
            torch.where(energies.isnan(), torch.inf, energies),
            torch.cat(tokens, dim=1) if tokens else None,
        )
        self._remember(scored)
        if energies.shape[1] < affordable:
            self._stop(StopReason.DEADLINE)
        elif affordable < actions.shape[1]:
            self._stop(StopReason.MAX_EVALUATIONS)
        return scored

    def end_iteration(self, std_m: Tensor | None = None) -> None:
        """Note that an iteration is complete, and stop the problems whose search has come to rest.

        Args:
            std_m: Spread of every problem's candidates in translation `[P]` [m].
        """
        self._history.append(self.best_energies.clone())
        self._iterations = [
            count + (reason is None)
            for count, reason in zip(self._iterations, self._reasons, strict=True)
        ]
        stops: dict[StopReason, Tensor] = {}
        if self._budget.min_std_m is not None and std_m is not None:
            stops[StopReason.CONVERGED] = std_m < self._budget.min_std_m
        back = self._budget.plateau_iterations
        if self._budget.plateau is not None and len(self._history) > back:
            before = self._history[-1 - back]
            gained = self._history[0] - self.best_energies
            is_flat = before - self.best_energies < self._budget.plateau * gained
            stops[StopReason.PLATEAU] = is_flat | ~(
                gained > 0
            )  # not a number: nothing finite was found
        if stops:
            self._stop_where(stops)

    def finish(self, answers: Tensor | None = None) -> list[Plan]:
        """Score the answers `[P, H, 7]`, the best sequences if none are given, once more and return the plans.

        A problem for which the model predicts no numbers gets a plan whose energies are none.
        """
        answers = self.best_actions if answers is None else answers
        exact = self._exact_limits()
        actions = exact.project(answers.cpu().double()[:, None])[:, 0]
        closing = torch.stack([actions, exact.stay()], dim=1).to(self.batch.states)
        energies = self._imagine(closing, exact=True).energies.cpu()
        self._evaluations = [count + closing.shape[1] for count in self._evaluations]
        return self._report(actions, energies)

    def hold(self) -> list[Plan]:
        """Return the plans to stay, without asking the model."""
        self._stop(StopReason.HELD)
        if self._deadline_s is not None and time.monotonic() < self._deadline_s:
            self._engine.throughput.doubt()  # or a model that was slow once would never be asked again
        energies = self.batch.energy_now().cpu()[:, None].expand(-1, 2)
        return self._report(self._exact_limits().stay(), energies)

    def _exact_limits(self) -> Limits:
        """Return the limits in double precision, which what is answered must keep."""
        states = torch.stack([problem.context_states[-1] for problem in self.batch.problems])
        bounds = [problem.bounds for problem in self.batch.problems]
        return Limits(bounds, self.batch.horizon, states.cpu().double())

    def _within_evaluations(self, wanted: int) -> int:
        most = self._budget.max_evaluations
        return wanted if most is None else max(min(wanted, most - max(self._evaluations)), 0)

    def _split(self, actions: Tensor) -> tuple[Tensor, ...]:
        """Cut off a small first batch where a deadline meets a model of unknown speed."""
        if self._search_until() is not None or self._deadline_s is None:
            return (actions,)
        return actions[:, :SMALLEST_BATCH], actions[:, SMALLEST_BATCH:]

    def _evaluate(self, actions: Tensor, keep: Keep | None) -> Evaluated:
        deadline_s = self._search_until()
        evaluated = self._imagine(actions, deadline_s=deadline_s, keep=keep)
        if self._deadline_s is not None and deadline_s is None:
            evaluated.energies.cpu()  # wait for the GPU once, so that its speed is known
        for index, reason in enumerate(self._reasons):
            self._evaluations[index] += evaluated.energies.shape[1] if reason is None else 0
        return evaluated

    def _search_until(self) -> float | None:
        """Return when to stop so that the closing re-scoring still fits; None where the speed is not known yet."""
        closing = self._engine.work(self.batch.context, self.batch.horizon, exact=True)
        closing_s = self._engine.throughput.seconds(closing, 2 * len(self.batch))
        if self._deadline_s is None or closing_s is None:
            return None
        return self._deadline_s - closing_s

    def _imagine(
        self,
        actions: Tensor,
        *,
        deadline_s: float | None = None,
        keep: Keep | None = None,
        exact: bool = False,
    ) -> Evaluated:
        return self._engine.evaluate(
            self.batch.context,
            actions,
            self.batch.energy,
            deadline_s=deadline_s,
            keep=keep,
            exact=exact,
        )

    def _remember(self, scored: Scored) -> None:
        """Take over what is better than the best, for problems whose search goes on."""
        if not scored.energies.shape[1]:
            return
        self._tried.append(replace(scored, tokens=None))
        energies, index = scored.energies.detach().min(dim=1)
        is_better = energies < self.best_energies
        if any(self._reasons):
            # What was found after a problem's end belongs to its neighbours' search.
            goes_on = [reason is None for reason in self._reasons]
            is_better &= torch.tensor(goes_on, device=is_better.device)
        self.best_energies = torch.where(is_better, energies, self.best_energies)
        actions = take(scored.actions.detach(), index[:, None])[:, 0]
        self.best_actions = torch.where(is_better[:, None, None], actions, self.best_actions)

    def _stop(self, reason: StopReason) -> None:
        self._reasons = [known or reason for known in self._reasons]

    def _stop_where(self, stops: dict[StopReason, Tensor]) -> None:
        """Stop problems whose flag `[P]` is set; the only place where a search waits for a GPU."""
        flags = torch.stack(list(stops.values())).tolist()
        for reason, is_over in zip(stops, flags, strict=True):
            self._reasons = [
                known or (reason if over else None)
                for known, over in zip(self._reasons, is_over, strict=True)
            ]

    def _report(self, actions: Tensor, energies: Tensor) -> list[Plan]:
        now = self.batch.energy_now().tolist()
        history = torch.stack(self._history, dim=1).tolist() if self._history else [[]] * len(now)
        plans, candidates = [], self._candidates()
        for index, problem in enumerate(self.batch.problems):
            energy, still = energies[index].tolist()
            plans.append(
                Plan(
                    actions=actions[index].numpy(),
                    predicted_states=_follow(problem.context_states[-1], actions[index]).numpy(),
                    energy=energy,
                    energy_now=now[index],
                    energy_do_nothing=still,
                    energy_per_iteration=tuple(history[index][: self._iterations[index]]),
                    evaluations=self._evaluations[index],
                    stop_reason=self._reasons[index] or StopReason.COMPLETED,
                    candidates=candidates[index],
                )
            )
        return plans

    def _candidates(self) -> list[tuple[Candidates, ...]]:
        """Return what was tried for every problem, fetched from the device at once."""
        if not self._tried:
            return [()] * len(self.batch)
        ends = np.cumsum([scored.energies.shape[1] for scored in self._tried])[:-1]
        actions = torch.cat([scored.actions for scored in self._tried], dim=1)
        energies = torch.cat([scored.energies for scored in self._tried], dim=1)
        shares = (
            np.split(values.detach().float().cpu().numpy(), ends, axis=1)
            for values in (actions, energies)
        )
        rounds = list(zip(*shares, strict=True))
        return [
            tuple(Candidates(some[index], their[index]) for some, their in rounds)
            for index in range(len(self.batch))
        ]


def _follow(state: Tensor, actions: Tensor) -> Tensor:
    """Return the poses `[H, 7]` that actions `[H, 7]` lead to from a pose `[7]`."""
    poses = [state.cpu().double()]
    for action in actions:
        poses.append(compose(poses[-1], action))
    return torch.stack(poses[1:])
