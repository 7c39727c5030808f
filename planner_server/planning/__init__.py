"""Search for the actions that bring the predicted tokens closest to the goal. Knows torch; knows no server.

`planners` is the registry: a name that sessions and configuration use, and the factory that builds the planner from
its options.
"""

from __future__ import annotations

from collections.abc import Callable

from planner_server.planning.cem import CemPlanner
from planner_server.planning.dynamics import Bfloat16Dynamics, Dynamics
from planner_server.planning.icem import IcemPlanner
from planner_server.planning.problem import Budget, Plan, Planner, PlanningProblem, StopReason

planners: dict[str, Callable[..., Planner]] = {"icem": IcemPlanner, "cem": CemPlanner}

__all__ = [
    "Bfloat16Dynamics",
    "Budget",
    "CemPlanner",
    "Dynamics",
    "IcemPlanner",
    "Plan",
    "Planner",
    "PlanningProblem",
    "StopReason",
    "planners",
]
