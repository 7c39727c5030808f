"""The quantity that planning minimises (arXiv 2506.09985, equation 5), and its relatives.

Letters in shapes: P problems, S candidates, H steps, G goal images, N tokens, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from planner_server.planning.goal import Goal

_ROTATION = slice(3, 6)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EnergySpec:
    """How the distance between predicted frames and goal images is measured.

    Attributes:
        metric: l1 is the mean absolute difference (the published choice), l2 the mean squared one, cosine is one minus
            the cosine of predicted and goal token, averaged over tokens.
        over: last counts the last predicted frame only (published), all the mean over the horizon, discounted the mean
            with weights `discount ** step`.
        discount: Weight of a step relative to the one before it.
        proprio_weight: Factor on the mean absolute difference [m, rad, closedness] between predicted pose and
            goal pose, which is added; 0 leaves poses out.
    """

    metric: Literal["l1", "l2", "cosine"] = "l1"
    over: Literal["last", "all", "discounted"] = "last"
    discount: Annotated[float, Field(gt=0, le=1)] = 0.7
    proprio_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    def step_weights(self, horizon: int) -> list[float]:
        """Return how much each of the counted steps counts; there is 1 of them, or `horizon`."""
        if self.over == "last":
            return [1.0]
        base = self.discount if self.over == "discounted" else 1.0
        weights = [base**step for step in range(horizon)]
        return [weight / sum(weights) for weight in weights]


class Energy:
    """The energy of several problems that share a specification.

    Args:
        spec: The specification.
        goals: The goal of every problem, with the same number of images.
        like: A tensor on the device, and of the type, that predictions have.
    """

    def __init__(self, spec: EnergySpec, goals: Sequence[Goal], like: Tensor) -> None:
        self.spec = spec
        self._metric = _METRICS[spec.metric]
        self._tokens = torch.stack([goal.tokens for goal in goals]).to(like)
        self._goal_weights = torch.stack([goal.shares for goal in goals]).to(like)
        self._token_weights = _token_weights(goals, like)
        self._step_weights: dict[int, Tensor] = {}
        has_states = spec.proprio_weight > 0
        states = [goal.states for goal in goals if goal.states is not None]
        self._states = torch.stack(states).to(like) if has_states else None

    def __call__(self, tokens: Tensor, poses: Tensor, problems: slice = slice(None)) -> Tensor:
        """Return the energies `[P, S]` of predicted tokens `[P, S, H, N, D]` and poses `[P, S, H, 7]`.

        Args:
            tokens: Layer-normed predicted tokens.
            poses: Predicted poses [m, rad, closedness].
            problems: Which of the problems these are.
        """
        return self.of_tokens(self.counted(tokens), problems) + self.of_poses(poses, problems)

    def counted(self, predictions: Tensor) -> Tensor:
        """Return the steps of `[P, S, H, ...]` that count: the last one, or all."""
        return predictions[:, :, -1:] if self.spec.over == "last" else predictions

    def of_tokens(
        self, tokens: Tensor, problems: slice = slice(None), channels: Tensor | None = None
    ) -> Tensor:
        """Return the energies `[P, S]` of the tokens of the steps that count.

        Args:
            tokens: Predicted tokens `[P, S, H, N, D]`.
            problems: Which of the problems these are.
            channels: Which channels `[D]` of the goal the given ones are; None: all.
        """
        goals = self._tokens[problems]
        if channels is not None:
            goals = goals[..., channels]
        per_goal = [
            self._over_tokens(self._metric(tokens, goals[:, g, None, None]), problems)
            for g in range(goals.shape[1])
        ]
        return self._over_goals_and_steps(torch.stack(per_goal, dim=-1), problems)

    def of_poses(self, poses: Tensor, problems: slice = slice(None)) -> Tensor | float:
        """Return the proprioceptive part `[P, S]` of poses `[P, S, H, 7]`; 0 where it is not asked for."""
        if self._states is None:
            return 0.0
        error = self.counted(poses)[..., None, :] - self._states[problems][:, None, None]
        error[..., _ROTATION] = (
            torch.remainder(error[..., _ROTATION] + math.pi, 2 * math.pi) - math.pi
        )
        per_goal = error.abs().mean(dim=-1)
        return self.spec.proprio_weight * self._over_goals_and_steps(per_goal, problems)

    def _over_tokens(self, per_token: Tensor, problems: slice) -> Tensor:
        """Average `[P, S, H, N]` over the tokens that count."""
        if self._token_weights is None:
            return per_token.mean(dim=-1)
        return (per_token * self._token_weights[problems][:, None, None]).sum(dim=-1)

    def _over_goals_and_steps(self, energies: Tensor, problems: slice) -> Tensor:
        """Average `[P, S, H, G]` over goal images and steps."""
        weighted = (energies * self._goal_weights[problems][:, None, None]).sum(dim=-1)
        steps = weighted.shape[-1]
        if steps not in self._step_weights:
            with torch.inference_mode(mode=False):  # a gradient may pass by it later
                weights = torch.tensor(self.spec.step_weights(steps)).to(self._goal_weights)
            self._step_weights[steps] = weights
        return weighted @ self._step_weights[steps]


def goal_energy(predicted: Tensor, goal: Tensor) -> Tensor:
    """Return the mean absolute difference between predicted and goal tokens; lower is better.

    Args:
        predicted: Layer-normed tokens `[..., N, D]`.
        goal: Layer-normed tokens `[N, D]` of the goal image.

    Returns:
        Energies `[...]`.
    """
    return (predicted - goal).abs().mean(dim=(-2, -1))


def _token_weights(goals: Sequence[Goal], like: Tensor) -> Tensor | None:
    """Return weights `[P, N]` that sum to one, or None where every token of every problem counts."""
    if all(goal.token_mask is None for goal in goals):
        return None
    per_frame = goals[0].tokens.shape[1]
    masks = [
        torch.ones(per_frame) if goal.token_mask is None else goal.token_mask for goal in goals
    ]
    return F.normalize(torch.stack([mask.to(like) for mask in masks]), p=1.0, dim=-1)


def _l1(tokens: Tensor, goal: Tensor) -> Tensor:
    return (tokens - goal).abs().mean(dim=-1)


def _l2(tokens: Tensor, goal: Tensor) -> Tensor:
    return (tokens - goal).square().mean(dim=-1)


def _cosine(tokens: Tensor, goal: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(tokens, goal, dim=-1)


_METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": _l1, "l2": _l2, "cosine": _cosine}
