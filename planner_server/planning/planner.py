"""What all planners have in common: problems are checked, grouped by shape, searched and answered in order."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Protocol

from torch import Tensor

from planner_server.planning.batch import ProblemBatch, shape_of
from planner_server.planning.budget import Budget
from planner_server.planning.errors import InvalidProblemError, NonFiniteEnergyError
from planner_server.planning.plan import Plan
from planner_server.planning.problem import PlanningProblem
from planner_server.planning.rollouts import RolloutEngine
from planner_server.planning.search import Search


class Planner(Protocol):
    """Anything that plans; instances keep nothing between calls and may be shared."""

    def plan(self, problems: Sequence[PlanningProblem], budget: Budget | None = None) -> list[Plan]:
        """Return one plan per problem, in their order."""
        ...


class SearchingPlanner(ABC):
    """A planner that tries candidates with the model.

    Problems of the same shape are searched as one batch where the device gains from it. On a CPU they are searched one
    after another, which makes a plan independent of its neighbours to the last bit; elsewhere it is so up to the
    rounding of a matrix product of another size.

    Args:
        engine: Imagines candidates.
    """

    def __init__(self, engine: RolloutEngine) -> None:
        self._engine = engine

    def plan(self, problems: Sequence[PlanningProblem], budget: Budget | None = None) -> list[Plan]:
        """Search for the actions of lowest energy, for every problem by itself.

        Args:
            problems: The questions, of any mixture of shapes.
            budget: Limits of this call; None sets none. Batches that are searched one after another share the
                deadline evenly.

        Returns:
            One plan per problem, in their order. Where the model predicts no finite energy for some of them, it is
            for the caller to see that their `energy` or `energy_do_nothing` is not finite; the others' plans are good.

        Raises:
            InvalidProblemError: A horizon is beyond what the model can imagine.
            BoundsError: Bounds leave no action.
            NonFiniteEnergyError: The model predicted no finite energy for any of the problems.
        """
        started_s, budget = time.monotonic(), budget or Budget()
        for problem in problems:
            self._check(problem)
        plans: dict[int, Plan] = {}
        groups = _group(problems)
        for group in groups:
            share = len(group) / (len(problems) - len(plans))
            deadline_s = _deadline_s(budget, started_s, share)
            batch = ProblemBatch([problems[index] for index in group])
            found = self._plan_batch(Search(self._engine, batch, budget, deadline_s))
            plans.update(zip(group, found, strict=True))
        _check_energies(plans.values())
        return [plans[index] for index in range(len(problems))]

    @abstractmethod
    def search(self, search: Search) -> Tensor | None:
        """Try candidates until done or until the search is over.

        Returns:
            The answers `[P, H, 7]`; None are the best sequences that were tried.
        """

    def _plan_batch(self, search: Search) -> list[Plan]:
        if not search.can_begin:
            return search.hold()
        return search.finish(self.search(search))

    def _check(self, problem: PlanningProblem) -> None:
        longest = self._engine.max_frames - problem.frames + 1
        if problem.horizon > longest:
            raise InvalidProblemError(
                f"horizon is {problem.horizon}; with {problem.frames} frame(s) of context this model imagines at "
                f"most {longest} steps"
            )


def _check_energies(plans: Collection[Plan]) -> None:
    """Refuse plans none of which has energies that are numbers."""
    energies = [(plan.energy, plan.energy_do_nothing) for plan in plans]
    if energies and not any(math.isfinite(sum(each)) for each in energies):
        raise NonFiniteEnergyError(
            f"the model predicts energies that are not finite ({energies}); check the weights, and try float32"
        )


def _group(problems: Sequence[PlanningProblem]) -> list[list[int]]:
    """Return the places of problems that are searched together."""
    groups: dict[object, list[int]] = {}
    for index, problem in enumerate(problems):
        key = index if searched_alone(problem) else shape_of(problem)
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def searched_alone(problem: PlanningProblem) -> bool:
    """Return whether a batch with others would gain nothing: a CPU is busy with one problem's candidates."""
    return problem.context_tokens.device.type == "cpu"


def _deadline_s(budget: Budget, started_s: float, share: float) -> float | None:
    """Return when a batch must be done: its share of the time that is left."""
    if budget.deadline_ms is None:
        return None
    now_s = time.monotonic()
    return now_s + (started_s + 1e-3 * budget.deadline_ms - now_s) * share
