"""How much a plan may cost, and why a search ended."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from planner_server.planning.errors import BudgetError


@dataclass(frozen=True)
class Budget:
    """Limits of one call of `plan`; what is None is unlimited.

    Attributes:
        deadline_ms: Time [ms] after which no further batch of candidates is begun. Batches are cut to the time that
            is left by the measured throughput, so a plan is late by one batch at most.
        max_evaluations: Action sequences that the model may imagine per problem during the search. The closing
            re-scoring of the answer and of doing nothing comes on top.
        plateau: The search ends when the best energy has fallen by less than this fraction of what has been gained
            over doing nothing, within `plateau_iterations` iterations.
        plateau_iterations: Iterations that `plateau` looks back.
        min_std_m: The search ends when the candidates' translations spread by less than this [m]. For this and
            `plateau` a GPU is waited for once at the end of every iteration; without them, only at the end.

    Raises:
        BudgetError: A limit is not positive.
    """

    deadline_ms: float | None = None
    max_evaluations: int | None = None
    plateau: float | None = None
    plateau_iterations: int = 2
    min_std_m: float | None = None

    def __post_init__(self) -> None:
        for name in ("deadline_ms", "max_evaluations", "plateau", "min_std_m"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise BudgetError(f"{name} must be a positive number or None, got {value}")
        if self.plateau_iterations < 1:
            raise BudgetError(
                f"plateau_iterations must be at least 1, got {self.plateau_iterations}"
            )


class StopReason(str, enum.Enum):
    """Why a search ended."""

    COMPLETED = "completed"
    DEADLINE = "deadline"
    MAX_EVALUATIONS = "max_evaluations"
    PLATEAU = "plateau"
    CONVERGED = "converged"
    """The candidates have come together: `Budget.min_std_m`."""
    HELD = "held"
    """The deadline was too short for one batch: the plan is to stay, and the model was not asked."""
