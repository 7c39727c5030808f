"""What a planner is asked and what it answers."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planner_server.planning.dynamics import Dynamics

POSE_DIM = 7
GRIPPER = 6


@dataclass(frozen=True)
class PlanningProblem:
    """One question: which actions lead from here to the goal?

    Attributes:
        context: Layer-normed tokens `[1, N, D]` of the current frame.
        state: Pose `[7]` now: x, y, z [m], extrinsic xyz Euler [rad] of the flange in the base frame, closedness.
        goal: Layer-normed tokens `[N, D]` of the goal image, from the same encoder.
        max_step: Largest magnitude of every action axis in one control period, `[7]` [m, rad, closedness];
            0 keeps the axis still.
        horizon: Control periods to plan.
        seed: Seed of this request's own random numbers; the same seed gives the same plan.
    """

    context: Tensor
    state: Tensor
    goal: Tensor
    max_step: tuple[float, ...]
    horizon: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.context.ndim != 3 or self.context.shape[0] != 1:
            raise ValueError(f"context has shape {tuple(self.context.shape)}; expected [1, N, D]")
        if self.goal.shape != self.context.shape[1:]:
            raise ValueError(
                f"goal has shape {tuple(self.goal.shape)}; the context needs {tuple(self.context.shape[1:])}"
            )
        if self.state.shape != (POSE_DIM,) or not bool(torch.isfinite(self.state).all()):
            raise ValueError(f"state must be 7 finite numbers, got {self.state.tolist()}")
        if len(self.max_step) != POSE_DIM or not all(0 <= limit < 10 for limit in self.max_step):
            raise ValueError(f"max_step must be 7 magnitudes in [0, 10), got {self.max_step}")
        if self.horizon < 1:
            raise ValueError(f"horizon must be at least 1, got {self.horizon}")

    def box(self) -> Tensor:
        """Return `max_step` as a tensor `[7]` beside the context."""
        return torch.tensor(self.max_step, dtype=self.context.dtype, device=self.context.device)


@dataclass(frozen=True)
class Budget:
    """How much a plan may cost; what is None is unlimited.

    Attributes:
        deadline_ms: Time after which no further batch of candidates is started. The batch that runs is finished.
        max_evaluations: Action sequences the model may imagine during the search.
    """

    deadline_ms: float | None = None
    max_evaluations: int | None = None

    def __post_init__(self) -> None:
        if self.max_evaluations is not None and self.max_evaluations < 1:
            raise ValueError(f"max_evaluations must be at least 1, got {self.max_evaluations}")


class StopReason(str, enum.Enum):
    """Why a search ended."""

    COMPLETED = "completed"
    DEADLINE = "deadline"
    MAX_EVALUATIONS = "max_evaluations"


@dataclass(frozen=True)
class Plan:
    """The answer.

    Attributes:
        actions: float64 `[H, 7]`, inside the box [m, rad, closedness per control period].
        predicted_states: float64 `[H, 7]`, the poses these actions lead to.
        energy: Energy of exactly these actions, scored by the model once more after the search.
        energy_now: Energy of the current frame: 0 means that the goal is reached.
        energy_do_nothing: Energy the model predicts for holding still.
        energy_per_iteration: Lowest energy known after every iteration of the search.
        evaluations: Action sequences imagined, the final scoring included.
        elapsed_ms: Duration of the whole search.
        stop_reason: Why the search ended.
    """

    actions: NDArray[np.float64]
    predicted_states: NDArray[np.float64]
    energy: float
    energy_now: float
    energy_do_nothing: float
    energy_per_iteration: tuple[float, ...]
    evaluations: int
    elapsed_ms: float
    stop_reason: StopReason


class Planner(Protocol):
    """A way to search; instances hold options only and may be shared between requests."""

    def plan(self, dynamics: Dynamics, problem: PlanningProblem, budget: Budget) -> Plan:
        """Search for the actions of lowest energy within the budget."""
        ...
