"""What a planner is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from planner_server.planning.bounds import ActionBounds
from planner_server.planning.energy import EnergySpec
from planner_server.planning.errors import InvalidProblemError
from planner_server.planning.goal import POSE_DIM, Goal


@dataclass(frozen=True, eq=False)
class PlanningProblem:
    """One question: which actions lead from here to the goal?

    Attributes:
        context_tokens: Layer-normed tokens `[k * N, D]` of the last k frames, oldest first.
        context_states: Poses `[k, 7]` at those frames: x, y, z [m], extrinsic xyz Euler [rad] of the flange in the
            base frame, closedness.
        goal: Where to go.
        bounds: What is allowed.
        context_actions: Actions `[k - 1, 7]` between those frames; None where k is 1.
        horizon: Control periods to plan, H.
        energy: How the distance to the goal is measured.
        seed: Seed of this problem's own random numbers; the same seed gives the same plan.
        warm_start: A guess `[H, 7]`, for example `shift(last_plan.actions)`; it is tried beside doing nothing.

    Raises:
        InvalidProblemError: Shapes do not fit each other, or numbers are not finite.
    """

    context_tokens: Tensor
    context_states: Tensor
    goal: Goal
    bounds: ActionBounds
    context_actions: Tensor | None = None
    horizon: int = 1
    energy: EnergySpec = field(default_factory=EnergySpec)
    seed: int = 0
    warm_start: Tensor | None = None

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise InvalidProblemError(f"horizon must be at least 1, got {self.horizon}")
        self._check_context()
        if self.energy.proprio_weight and self.goal.states is None:
            raise InvalidProblemError(
                f"proprio_weight is {self.energy.proprio_weight} but the goal has no states; give Goal.states"
            )
        if self.warm_start is not None:
            _check_shape("warm_start", self.warm_start, (self.horizon, POSE_DIM))
        for name in ("context_tokens", "context_states", "context_actions", "warm_start"):
            value = getattr(self, name)
            if value is not None and not bool(torch.isfinite(value).all()):
                raise InvalidProblemError(f"{name} must be finite numbers")

    @property
    def frames(self) -> int:
        """Frames of context, k."""
        return len(self.context_states)

    @property
    def current_tokens(self) -> Tensor:
        """Tokens `[N, D]` of the newest frame."""
        return self.context_tokens[-self.goal.tokens.shape[1] :]

    def _check_context(self) -> None:
        if self.context_states.ndim != 2 or not len(self.context_states):
            raise InvalidProblemError(
                f"context_states have shape {list(self.context_states.shape)}; expected [k, 7] with k >= 1"
            )
        frames, (per_frame, channels) = len(self.context_states), self.goal.tokens.shape[1:]
        _check_shape("context_states", self.context_states, (frames, POSE_DIM))
        if self.context_tokens.shape != (frames * per_frame, channels):
            raise InvalidProblemError(
                f"context_tokens have shape {list(self.context_tokens.shape)}; {frames} frame(s) and a goal of "
                f"{per_frame} x {channels} need [{frames * per_frame}, {channels}]. Encode both with the same model"
            )
        if self.context_actions is None and frames > 1:
            raise InvalidProblemError(
                f"{frames} frames of context need context_actions [{frames - 1}, 7]"
            )
        if self.context_actions is not None:
            _check_shape("context_actions", self.context_actions, (frames - 1, POSE_DIM))


def _check_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise InvalidProblemError(f"{name} has shape {list(value.shape)}; expected {list(shape)}")
