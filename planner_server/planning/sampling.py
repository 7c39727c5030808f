"""Ways to draw action sequences inside a box.

Letters in shapes: P problems, S candidates, H horizon.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planner_server.planning.batch import ProblemBatch
from planner_server.planning.bounds import ACTION_DIM


def uniform(batch: ProblemBatch, count: int) -> Tensor:
    """Draw sequences `[P, count, H, 7]` uniform over the box."""
    low, high = batch.limits.low[:, None], batch.limits.high[:, None]
    return low + (high - low) * batch.uniform(count, batch.horizon, ACTION_DIM)


def half_range(batch: ProblemBatch) -> Tensor:
    """Return half the width of the box, `[P, 1, H, 7]`."""
    return (batch.limits.high - batch.limits.low)[:, None] / 2


def coloured(batch: ProblemBatch, count: int, exponent: float) -> Tensor:
    """Draw standard normal sequences `[P, count, H, 7]` with a power spectrum of `frequency ** -exponent`.

    With exponent 0, or a horizon of one step, this is white noise (iCEM, arXiv 2008.06389, section 3.2).
    """
    horizon = batch.horizon
    white = batch.normal(count, horizon, ACTION_DIM)
    if horizon == 1 or exponent == 0:
        return white
    frequencies = torch.fft.rfftfreq(horizon, device=white.device)
    frequencies[0] = frequencies[1]
    scale = frequencies ** (-exponent / 2)
    # Every component but the first (and the last of an even length) stands for two: keep the variance at one.
    counts = torch.full_like(scale, 2.0)
    counts[0] = 1.0
    if horizon % 2 == 0:
        counts[-1] = 1.0
    scale = scale / ((counts * scale.square()).sum() / horizon).sqrt()
    spectrum = torch.fft.rfft(white, dim=2) * scale[:, None]
    sequences: Tensor = torch.fft.irfft(spectrum, n=horizon, dim=2)
    return sequences
