"""The predicted tokens as a function of the action, fitted to the candidates that were imagined so far.

The fit is a Gaussian process (ordinary kriging with a Matern kernel of order 5/2, one for all tokens): it runs nearly
through every candidate, bends where the model bends, and costs a matrix product instead of a transformer. The energy
is then computed from the fitted tokens, so the kinks of an absolute difference, which defeat a fit of the energy, are
kept. Some channels of every token suffice: an average over them estimates that over all of them, whatever the metric.

Letters in shapes: P problems, S candidates, K points asked about, A searched coordinates, H steps that count,
N tokens, C of D channels, M = H * N * C fitted values.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.poses import compose
from planner_server.planning.batch import ProblemBatch
from planner_server.planning.coordinates import Coordinates
from planner_server.planning.scored import Scored

_FEWEST_CHANNELS = 4


class TokenFit:
    """A smooth function from actions to tokens, for P problems.

    Args:
        batch: The problems.
        coordinates: What the function depends on.
        length: Distance over which tokens change much, between embedded points.
        smoothing: Variance of what the function may ignore, relative to that of the tokens.
        fitted_values: How many values of the predicted tokens are fitted, about.
    """

    def __init__(
        self,
        batch: ProblemBatch,
        coordinates: Coordinates,
        *,
        length: float,
        smoothing: float,
        fitted_values: int,
    ) -> None:
        self._batch = batch
        self._coordinates = coordinates
        self._length = length
        self._smoothing = smoothing
        self._fitted_values = fitted_values
        self._channels = self._choose_channels()
        self._known = batch.states.new_empty(len(batch), 0, coordinates.count)
        self._values: Tensor | None = None
        self._coefficients = self._known

    def part(self, tokens: Tensor) -> Tensor:
        """Return a copy of the part of predicted tokens `[P, S, horizon, N, D]` that is fitted, `[P, S, H, N, C]`."""
        return self._batch.energy.counted(tokens)[..., self._channels]

    def fit(self, scored: Scored) -> None:
        """Take in more candidates with the fitted part of their tokens, and fit the function to all so far."""
        assert scored.tokens is not None  # noqa: S101 - the planner keeps them
        values = scored.tokens.nan_to_num()
        if self._values is not None:
            values = torch.cat([self._values, values], dim=1)
        points = self._coordinates.embed(self._coordinates.of(scored.actions))
        self._known, self._values = torch.cat([self._known, points], dim=1), values
        self._coefficients = self._solve(values.flatten(2))

    def energies(self, points: Tensor) -> Tensor:
        """Return the energies `[P, K]` of the function at points `[P, K, A]`."""
        assert self._values is not None  # noqa: S101 - `fit` comes first
        tokens = self._basis(self._coordinates.embed(points)) @ self._coefficients
        tokens = tokens.view(*points.shape[:2], *self._values.shape[2:])
        energy = self._batch.energy
        energies = energy.of_tokens(tokens, channels=self._channels)
        if not energy.spec.proprio_weight:
            return energies
        return energies + energy.of_poses(self._follow(self._coordinates.actions(points)))

    def _choose_channels(self) -> Tensor:
        """Return which channels of the tokens are fitted, `[C]`: always the same ones."""
        batch = self._batch
        per_frame, channels = batch.problems[0].goal.tokens.shape[1:]
        steps = len(batch.energy.spec.step_weights(batch.horizon))
        count = max(self._fitted_values // (steps * per_frame), _FEWEST_CHANNELS)
        order = torch.randperm(channels, generator=torch.Generator().manual_seed(0))
        return order[: min(count, channels)].to(batch.states.device)

    def _follow(self, actions: Tensor) -> Tensor:
        """Return the poses `[P, K, H, 7]` that actions lead to."""
        poses = [self._batch.states[:, None].expand_as(actions[:, :, 0])]
        for step in range(actions.shape[2]):
            poses.append(compose(poses[-1], actions[:, :, step]))
        return torch.stack(poses[1:], dim=2)

    def _solve(self, values: Tensor) -> Tensor:
        """Return the coefficients `[P, S + 1, M]` of the function through values `[P, S, M]`."""
        basis = self._basis(self._known)
        known = basis.shape[1]
        system = basis.new_zeros(len(basis), known + 1, known + 1, dtype=torch.float64)
        system[:, :known] = basis
        system[:, known, :known] = 1.0  # the coefficients of the known points sum to zero
        system.diagonal(dim1=1, dim2=2)[:, :known] += self._smoothing
        # The system is small and its right-hand sides are many: only the inverse needs double precision. Not `inv`,
        # which waits for a GPU to say whether the matrix is singular; this one never is.
        inverse: Tensor = torch.linalg.inv_ex(system).inverse
        return inverse[:, :, :known].to(values) @ values

    def _basis(self, points: Tensor) -> Tensor:
        """Return the basis functions `[P, K, S + 1]` at embedded points `[P, K, A]`: one per known point, and one."""
        distances = math.sqrt(5) / self._length * torch.cdist(points, self._known)
        matern = (1 + distances + distances.square() / 3) * (-distances).exp()
        return F.pad(matern, (0, 1), value=1.0)
