"""The cross-entropy method exactly as it was published with V-JEPA 2-AC, for comparison with its results.

Its peculiarities are kept on purpose: the gripper starts with a standard deviation of 1 whatever the translations may
do; the standard deviation is the unbiased one and has no floor; the answer is the mean of the last distribution with
small gripper changes set to zero, a sequence that the search itself never tried, so that more iterations can answer
with a higher energy. What is added: the answer is moved into the bounds and scored once at the end; rotations are
searched where the bounds allow them; a budget may end the search after any iteration; `answer="best"` gives the best
sequence that was tried.

Letters in shapes: P problems, S candidates, H horizon, A searched axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from typing_extensions import Self

from planner_server.planning.bounds import ACTION_DIM, GRIPPER, ROTATION, TRANSLATION
from planner_server.planning.planner import SearchingPlanner
from planner_server.planning.rollouts import RolloutEngine
from planner_server.planning.scored import take
from planner_server.planning.search import Search

Noise = Callable[[int, int], Tensor]  # (candidates, axes) -> [P, S, A] standard normal
Momentum = Annotated[float, Field(ge=0, le=1)]

_ALWAYS_DRAWN = (
    0,
    1,
    2,
    GRIPPER,
)  # dx, dy, dz, closedness: the reference draws these four in this order
_CLOSEDNESS = 3  # place of the gripper among them
_ROTATIONS = range(ROTATION.start, ROTATION.stop)
_INITIAL_GRIPPER_STD = 1.0


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CemSettings:
    """Options of the published search (defaults: the paper's 800 candidates and 10 iterations).

    Attributes:
        candidates: Action sequences per iteration.
        elites: The best ones, that the next distribution is fitted to.
        iterations: Times that the distribution is refitted.
        momentum_mean: Weight of the old mean, for all axes but the gripper.
        momentum_std: Weight of the old standard deviation, for all axes but the gripper.
        momentum_mean_gripper: Weight of the old mean of the gripper.
        momentum_std_gripper: Weight of the old standard deviation of the gripper.
        gripper_limit: Largest gripper change drawn, whatever the bounds allow.
        gripper_dead_zone: Gripper changes of the answer below this become zero.
        close_gripper_from: First step of the horizon at which the gripper is told to close fully; None leaves it free.
        answer: `mean` of the last distribution, as published, or the `best` sequence tried.
    """

    candidates: Annotated[int, Field(ge=2)] = 800
    elites: Annotated[int, Field(ge=2)] = 10
    iterations: Annotated[int, Field(ge=1)] = 10
    momentum_mean: Momentum = 0.15
    momentum_std: Momentum = 0.15
    momentum_mean_gripper: Momentum = 0.15
    momentum_std_gripper: Momentum = 0.15
    gripper_limit: Annotated[float, Field(ge=0, le=1)] = 0.75
    gripper_dead_zone: Annotated[float, Field(ge=0)] = 0.25
    close_gripper_from: Annotated[int, Field(ge=0)] | None = None
    answer: Literal["mean", "best"] = "mean"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.elites > self.candidates:
            raise ValueError(f"{self.elites} elites cannot come from {self.candidates} candidates")
        return self


class CemPlanner(SearchingPlanner):
    """Refit a normal distribution to the best candidates, again and again.

    Args:
        engine: Imagines candidates.
        settings: The options; None takes the defaults.
        noise: Source of the standard normal draws, called per iteration and, inside it, per step of the horizon; by
            default every problem's own generator.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        settings: CemSettings | None = None,
        noise: Noise | None = None,
    ) -> None:
        super().__init__(engine)
        self.settings = settings or CemSettings()
        self._noise = noise

    def search(self, search: Search) -> Tensor | None:
        """Return the mean of the last distribution that a whole iteration was fitted to."""
        settings, limits = self.settings, search.batch.limits
        axes = self._axes(search)
        low, high = self._narrow(limits.low[..., axes], limits.high[..., axes])
        mean = torch.zeros_like(low).clamp(low, high)
        std = torch.maximum(low.abs(), high.abs())
        std[..., _CLOSEDNESS] = _INITIAL_GRIPPER_STD
        if settings.close_gripper_from is not None:  # the mean follows, and begins at zero
            closing = slice(settings.close_gripper_from, None)
            low[:, closing, _CLOSEDNESS] = limits.high[:, closing, GRIPPER]
            high[:, closing, _CLOSEDNESS] = limits.high[:, closing, GRIPPER]
        keep_mean = _per_axis(mean, settings.momentum_mean, settings.momentum_mean_gripper)
        keep_std = _per_axis(mean, settings.momentum_std, settings.momentum_std_gripper)

        for _ in range(settings.iterations):
            candidates = self._draw(search, mean, std).clamp(low[:, None], high[:, None])
            scored = search.score(_embed(candidates, axes))
            if search.is_over:
                break  # an unfinished iteration would bias the fit
            best = scored.energies.topk(settings.elites, dim=1, largest=False).indices
            elites = take(scored.actions[..., axes], best)
            mean = elites.mean(dim=1) * (1 - keep_mean) + mean * keep_mean
            std = elites.std(dim=1) * (1 - keep_std) + std * keep_std
            search.end_iteration(std[..., TRANSLATION].amax(dim=(1, 2)))
            if search.is_over:
                break

        if settings.answer == "best":
            return None
        answer = _embed(mean, axes)
        gripper = answer[..., GRIPPER]
        answer[..., GRIPPER] = gripper.masked_fill(gripper.abs() < settings.gripper_dead_zone, 0.0)
        return answer

    def _axes(self, search: Search) -> Tensor:
        """Return what is drawn, `[A]`: the reference's four axes, then the rotations that are free."""
        is_searched = search.batch.limits.is_searched
        is_free = is_searched.any(dim=1).any(dim=0).tolist()
        drawn = [*_ALWAYS_DRAWN, *(axis for axis in _ROTATIONS if is_free[axis])]
        return torch.tensor(drawn, device=is_searched.device)

    def _narrow(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the limits `[P, H, A]` of what is drawn, with the reference's rules for the gripper."""
        limit, is_free = self.settings.gripper_limit, high > low
        is_free[..., :_CLOSEDNESS] = False
        is_free[..., _CLOSEDNESS + 1 :] = False
        low = torch.where(is_free, low.clamp(-limit, limit), low)
        return low, torch.where(is_free, high.clamp(-limit, limit), high)

    def _draw(self, search: Search, mean: Tensor, std: Tensor) -> Tensor:
        """Draw candidates `[P, S, H, A]`, one call of the noise source per step of the horizon."""
        noise = self._noise or search.batch.normal
        draws = [noise(self.settings.candidates, mean.shape[-1]) for _ in range(mean.shape[1])]
        return torch.stack(draws, dim=2).to(mean) * std[:, None] + mean[:, None]


def _per_axis(like: Tensor, value: float, gripper: float) -> Tensor:
    """Return weights `[A]`: `gripper` in the gripper's place, `value` elsewhere."""
    weights = torch.full(like.shape[-1:], value, dtype=like.dtype, device=like.device)
    weights[_CLOSEDNESS] = gripper
    return weights


def _embed(drawn: Tensor, axes: Tensor) -> Tensor:
    """Place drawn axes `[..., A]` into actions `[..., 7]` whose other axes are zero."""
    actions = drawn.new_zeros(*drawn.shape[:-1], ACTION_DIM)
    actions[..., axes] = drawn
    return actions
