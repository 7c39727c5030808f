"""Search for the actions that bring the predicted tokens closest to the goal. Knows torch; knows no server.

`planners` is the registry: `planners.make(name, engine).plan(problems, budget)`.
"""

from __future__ import annotations

from planner_server.planning.bounds import ActionBounds, GripperRule, Workspace
from planner_server.planning.budget import Budget, StopReason
from planner_server.planning.cem import CemPlanner, CemSettings
from planner_server.planning.dynamics import Context, Dynamics
from planner_server.planning.energy import EnergySpec, goal_energy
from planner_server.planning.errors import (
    BoundsError,
    BudgetError,
    InvalidProblemError,
    NonFiniteEnergyError,
    PlanningError,
    UnknownPlannerError,
)
from planner_server.planning.goal import Goal
from planner_server.planning.gradient import GradientPlanner, GradientSettings
from planner_server.planning.icem import IcemPlanner, IcemSettings
from planner_server.planning.limits import contains, project
from planner_server.planning.mppi import MppiPlanner, MppiSettings
from planner_server.planning.plan import Candidates, Plan, shift
from planner_server.planning.planner import Planner
from planner_server.planning.problem import PlanningProblem
from planner_server.planning.registry import planners
from planner_server.planning.rollouts import RolloutEngine, RolloutSettings
from planner_server.planning.surrogate import SurrogatePlanner, SurrogateSettings
from planner_server.planning.world_model_dynamics import (
    Precision,
    WorldModelDynamics,
    engine_for,
)

__all__ = [
    "ActionBounds",
    "BoundsError",
    "Budget",
    "BudgetError",
    "Candidates",
    "CemPlanner",
    "CemSettings",
    "Context",
    "Dynamics",
    "EnergySpec",
    "Goal",
    "GradientPlanner",
    "GradientSettings",
    "GripperRule",
    "IcemPlanner",
    "IcemSettings",
    "InvalidProblemError",
    "MppiPlanner",
    "MppiSettings",
    "NonFiniteEnergyError",
    "Plan",
    "Planner",
    "PlanningError",
    "PlanningProblem",
    "Precision",
    "RolloutEngine",
    "RolloutSettings",
    "StopReason",
    "SurrogatePlanner",
    "SurrogateSettings",
    "UnknownPlannerError",
    "Workspace",
    "WorldModelDynamics",
    "contains",
    "engine_for",
    "goal_energy",
    "planners",
    "project",
    "shift",
]
