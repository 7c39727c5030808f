"""Candidates that the model has imagined, with their energies.

Letters in shapes: P problems, S candidates, H horizon, h of its steps, N tokens, C of their channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Scored:
    """Candidates that were imagined: the leading ones of those asked for, as the budget allowed.

    Attributes:
        actions: `[P, S, H, 7]`, inside the bounds.
        energies: `[P, S]`; infinite where the model predicted no number.
        tokens: What was kept of the predicted tokens, `[P, S, h, N, C]`; None: nothing.
    """

    actions: Tensor
    energies: Tensor
    tokens: Tensor | None

    def best(self, count: int) -> Tensor:
        """Return the `count` best sequences, best first, `[P, count, H, 7]`; ties go to the earlier one."""
        order = self.energies.argsort(dim=1, stable=True)[:, :count]
        return take(self.actions, order)


def take(values: Tensor, index: Tensor) -> Tensor:
    """Return `values[p, index[p, k]]`: from `[P, S, ...]` and `[P, K]` to `[P, K, ...]`."""
    problems = torch.arange(len(values), device=values.device)[:, None]
    return values[problems, index]
