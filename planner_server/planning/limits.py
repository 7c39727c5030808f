"""The allowed actions of several problems as tensors, and the way back to them.

Letters in shapes: P problems, S candidates, H horizon.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from planner_server.planning.bounds import (
    ACTION_DIM,
    GRIPPER,
    ROTATION,
    TRANSLATION,
    ActionBounds,
)
from planner_server.planning.errors import BoundsError

_HALVINGS = 30  # of the interval that holds the ball's multiplier


class Limits:
    """The bounds of P problems.

    Args:
        bounds: Bounds of every problem.
        horizon: Steps of every sequence, H.
        states: Poses `[P, 7]` that the sequences start from; their type and device are taken on.

    Attributes:
        low: Smallest actions `[P, H, 7]`.
        high: Largest actions `[P, H, 7]`.

    Raises:
        BoundsError: A problem has no allowed sequence: its smallest displacement leads out of the workspace.
    """

    def __init__(self, bounds: Sequence[ActionBounds], horizon: int, states: Tensor) -> None:
        limits = torch.tensor([b.limits(horizon) for b in bounds], dtype=torch.float64)
        self.low, self.high = (part.to(states) for part in limits.unbind(1))
        self._positions = states[:, TRANSLATION]
        self._dead_zone = states.new_tensor([b.gripper.dead_zone for b in bounds])
        radii = [torch.inf if b.l1_radius_m is None else b.l1_radius_m for b in bounds]
        self._radius_m = states.new_tensor(radii)
        self._has_ball = any(b.l1_radius_m is not None for b in bounds)
        self._has_dead_zone = any(b.gripper.dead_zone > 0 for b in bounds)
        self._has_workspace = any(b.workspace is not None for b in bounds)
        free = [-torch.inf] * 3, [torch.inf] * 3
        corners = [
            free if w is None else (w.low_m, w.high_m) for w in (b.workspace for b in bounds)
        ]
        self._floor, self._ceiling = states.new_tensor(corners).unbind(1)
        self._check()

    @property
    def is_searched(self) -> Tensor:
        """Whether the limits leave a choice, bool `[P, H, 7]`."""
        return self.high > self.low

    @property
    def is_box(self) -> bool:
        """Whether the limits of the axes are all there is."""
        return not (self._has_ball or self._has_workspace or self._has_dead_zone)

    def stay(self) -> Tensor:
        """Return the allowed sequences nearest to doing nothing, `[P, H, 7]`."""
        return self.project(torch.zeros_like(self.low)[:, None])[:, 0]

    def project(self, actions: Tensor) -> Tensor:
        """Return the allowed sequences nearest to `actions` `[P, S, H, 7]`, step by step.

        Every step is moved to the nearest point of the box, the ball and, from where the steps before it lead, the
        workspace.
        """
        inside = actions.clamp(self.low[:, None], self.high[:, None])
        if self.is_box:
            return inside
        translation, rotation = inside[..., TRANSLATION], inside[..., ROTATION]
        gripper = self._round_gripper(inside[..., GRIPPER])[..., None]
        if self._has_ball or self._has_workspace:
            translation = self._project_translations(actions[..., TRANSLATION])
        return torch.cat([translation, rotation, gripper], dim=-1)

    def _project_translations(self, translations: Tensor) -> Tensor:
        """Move translations `[P, S, H, 3]` into ball and workspace, from where the steps before them lead."""
        position = self._positions[:, None].expand_as(translations[:, :, 0])
        moved: list[Tensor] = []
        for step, translation in enumerate(translations.unbind(2)):
            moved.append(self._project_step(translation, position, step))
            position = position + moved[-1]
        return torch.stack(moved, dim=2)

    def _round_gripper(self, change: Tensor) -> Tensor:
        low, high = self.low[:, None, :, GRIPPER], self.high[:, None, :, GRIPPER]
        is_small = change.abs() < self._dead_zone[:, None, None]
        return change.masked_fill(is_small & (low <= 0) & (high >= 0), 0.0)

    def _project_step(self, translation: Tensor, position: Tensor, step: int) -> Tensor:
        """Move translations `[P, S, 3]` that start at `position` into box, workspace and ball."""
        # A position outside the workspace may come nearer and never go further: zero stays allowed.
        floor = (self._floor[:, None] - position).clamp(max=0.0)
        ceiling = (self._ceiling[:, None] - position).clamp(min=0.0)
        low = torch.maximum(self.low[:, None, step, TRANSLATION], floor)
        high = torch.minimum(self.high[:, None, step, TRANSLATION], ceiling)
        return (
            self._shrink(translation, low, high) if self._has_ball else translation.clamp(low, high)
        )

    def _shrink(self, translation: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Project onto the ball inside a box: the smallest multiplier of soft thresholding that suffices."""
        radius = self._radius_m[:, None]
        size = translation.abs()
        too_small, enough = torch.zeros_like(radius).expand(size.shape[:-1]), size.amax(dim=-1)
        for _ in range(_HALVINGS):
            middle = (too_small + enough) / 2
            fits = _threshold(translation, middle, low, high).abs().sum(dim=-1) <= radius
            too_small, enough = (
                torch.where(fits, too_small, middle),
                torch.where(fits, middle, enough),
            )
        boxed = translation.clamp(low, high)
        is_inside = boxed.abs().sum(dim=-1, keepdim=True) <= radius[..., None]
        return torch.where(is_inside, boxed, _threshold(translation, enough, low, high))

    def _check(self) -> None:
        stay = self.stay()
        tolerance = 1e-6
        is_wrong = ((stay < self.low - tolerance) | (stay > self.high + tolerance)).any(dim=-1)
        for problem, step in is_wrong.nonzero().tolist():
            raise BoundsError(
                f"step {step} must move by at least {self.low[problem, step, TRANSLATION].tolist()} m to at most "
                f"{self.high[problem, step, TRANSLATION].tolist()} m, which leads out of the workspace from "
                f"{self._positions[problem].tolist()}; widen the workspace or free the axis"
            )


def _threshold(values: Tensor, by: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Move values towards zero by `by` `[P, S]`, not past it, and not out of the box."""
    shrunk = values.sign() * (values.abs() - by[..., None]).clamp(min=0.0)
    return shrunk.clamp(low, high)


def project(bounds: ActionBounds, actions: Tensor, state: Tensor) -> Tensor:
    """Return the allowed sequences nearest to `actions` `[..., H, 7]` from the pose `state` `[7]`."""
    horizon = actions.shape[-2]
    limits = Limits([bounds], horizon, state.to(actions)[None])
    return limits.project(actions.reshape(1, -1, horizon, ACTION_DIM)).view(actions.shape)


def contains(bounds: ActionBounds, actions: Tensor, state: Tensor, tolerance: float = 1e-9) -> bool:
    """Return whether every sequence of `actions` `[..., H, 7]` is allowed from the pose `state` `[7]`."""
    return bool(((project(bounds, actions, state) - actions).abs() <= tolerance).all())
