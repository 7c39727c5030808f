"""What planning refuses: every message names the offending value, what is allowed and what to do next."""

from __future__ import annotations


class PlanningError(ValueError):
    """Base of everything that the planners refuse on purpose."""


class InvalidProblemError(PlanningError):
    """A problem does not fit together, is not finite, or is beyond what the model can imagine."""


class BoundsError(PlanningError):
    """Action bounds are empty or contradict each other: no action would be allowed."""


class BudgetError(PlanningError):
    """A budget that no search can keep."""


class UnknownPlannerError(PlanningError):
    """A planner of this name does not exist."""


class NonFiniteEnergyError(PlanningError):
    """The model predicted no finite energy for any problem: weights or precision are broken."""
