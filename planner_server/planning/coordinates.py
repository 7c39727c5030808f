"""The searched axes of a batch as one vector per sequence, each coordinate from -1 to 1 over its limits.

Letters in shapes: P problems, S candidates, H horizon, A searched coordinates (axes times steps).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from planner_server.planning.batch import ProblemBatch
from planner_server.planning.bounds import ACTION_DIM, GRIPPER
from planner_server.planning.scored import take

_EXACT = "donot_use_mm_for_euclid_dist"  # a point is at distance 0 from itself


class Coordinates:
    """Translates between actions and coordinates, and draws points.

    Args:
        batch: The problems; they search the same axes.
        gripper_scale: Length of the gripper's axis relative to the others, where distances are measured.
        path_scale: Length of the way to the last pose relative to that pose, where distances are measured.

    Attributes:
        count: Number of coordinates, A.
    """

    def __init__(self, batch: ProblemBatch, gripper_scale: float, path_scale: float) -> None:
        self._batch = batch
        limits = batch.limits
        self._places = limits.is_searched[0].flatten().nonzero()[:, 0]  # of H * 7
        self._middle = ((limits.high + limits.low) / 2).flatten(1)[:, None]
        self._half = ((limits.high - limits.low) / 2).flatten(1)[:, None]
        self.count = len(self._places)
        self._is_gripper = self._places % ACTION_DIM == GRIPPER
        self._metric = self._make_metric(batch.horizon, gripper_scale, path_scale)

    def of(self, actions: Tensor) -> Tensor:
        """Return the coordinates `[P, S, A]` of sequences `[P, S, H, 7]`."""
        flat = actions.flatten(2)
        at = self._places
        return (flat[..., at] - self._middle[..., at]) / self._half[..., at]

    def actions(self, points: Tensor) -> Tensor:
        """Return the allowed sequences `[P, S, H, 7]` nearest to points `[P, S, A]`."""
        at = self._places
        flat = self._middle.repeat(1, points.shape[1], 1)
        flat[..., at] += points * self._half[..., at]
        return self._batch.limits.project(flat.view(*points.shape[:2], -1, ACTION_DIM))

    def sides(self, radius: float, gripper_radius: float) -> Tensor:
        """Return half the sides of a region, `[A]`."""
        return torch.where(self._is_gripper, gripper_radius, radius).to(self._middle)

    def allowed(self, points: Tensor) -> Tensor:
        """Return the allowed points nearest to points `[P, S, A]` of the box."""
        return points if self._batch.limits.is_box else self.of(self.actions(points))

    def sobol(self, count: int) -> Tensor:
        """Return points `[P, count, A]` that cover the box evenly, scrambled by every problem's own seed."""
        make = cast(Callable[..., SobolEngine], SobolEngine)  # torch leaves it untyped
        engines = [make(self.count, scramble=True, seed=p.seed) for p in self._batch.problems]
        return 2 * torch.stack([engine.draw(count) for engine in engines]).to(self._middle) - 1

    def uniform(self, count: int) -> Tensor:
        """Draw points `[P, count, A]` uniform over the box."""
        return 2 * self._batch.uniform(count, self.count) - 1

    def normal(self, count: int) -> Tensor:
        """Draw standard normal points `[P, count, A]`."""
        return self._batch.normal(count, self.count)

    def embed(self, points: Tensor) -> Tensor:
        """Return points `[P, S, A]` where their distance says how different the predictions are.

        What the last frame shows depends on where the steps lead together more than on the way there.
        """
        return points @ self._metric

    def pick(self, points: Tensor, energies: Tensor, count: int, apart: float) -> Tensor:
        """Return the lowest of points `[P, K, A]`, lowest first, none within `apart` of a lower one.

        Where too few are that far from each other, the lowest one is repeated.
        """
        if not apart:
            return take(points, energies.topk(count, dim=1, largest=False).indices)
        embedded, left = self.embed(points), energies.clone()
        chosen: list[Tensor] = []
        while True:
            chosen.append(left.argmin(dim=1, keepdim=True))
            if len(chosen) == count:
                return take(points, torch.cat(chosen, dim=1))
            distance = torch.cdist(take(embedded, chosen[-1]), embedded, compute_mode=_EXACT)[:, 0]
            left.masked_fill_(distance <= apart, torch.inf)

    def _make_metric(self, horizon: int, gripper_scale: float, path_scale: float) -> Tensor:
        """Return the matrix `[A, A]` that sums the steps up to each one and scales the sums."""
        steps, axes = self._places // ACTION_DIM, self._places % ACTION_DIM
        is_summed = (axes[:, None] == axes) & (steps[:, None] <= steps)
        scale = torch.where(axes == GRIPPER, gripper_scale, 1.0)
        scale = scale * torch.where(steps == horizon - 1, 1.0, path_scale)
        return (is_summed * scale).to(self._middle)
