"""Minimise the energy of a fit: a sample of a region, then clouds around its lowest points, at almost no cost.

Letters in shapes: P problems, K points, A searched coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planner_server.planning.coordinates import Coordinates
from planner_server.planning.token_fit import TokenFit

_ROUNDS = 3
_CENTRES = 8
_STD = 0.3  # of the region, for the first cloud; halved from one to the next


@dataclass(frozen=True, eq=False)
class Region:
    """Where to look, and for what.

    Attributes:
        centre: The best point known `[P, 1, A]`.
        sides: How far to look from there along every axis, `[A]`; never out of the box.
        points: How many low points are wanted.
        apart: How far apart they must be.
    """

    centre: Tensor
    sides: Tensor
    points: int
    apart: float


def lowest_points(fit: TokenFit, coordinates: Coordinates, region: Region, pool: int) -> Tensor:
    """Return low points `[P, K, A]` of a fit in a region, the lowest first.

    Args:
        fit: What to minimise.
        coordinates: The space it lives in.
        region: Where to look.
        pool: Points to try at first; the clouds have half as many each.
    """
    low = (region.centre - region.sides).clamp(min=-1.0)
    high = (region.centre + region.sides).clamp(max=1.0)
    spread = (high + low + (high - low) * coordinates.uniform(pool)) / 2
    points = coordinates.allowed(torch.cat([region.centre, spread], dim=1))
    energies = fit.energies(points)
    for cloud_index in range(_ROUNDS):
        centres = coordinates.pick(points, energies, _CENTRES, region.apart / 2)
        around = centres.repeat(1, pool // 2 // _CENTRES, 1)
        std = _STD * 0.5**cloud_index * (high - low) / 2
        noise = coordinates.normal(around.shape[1]) * std
        cloud = coordinates.allowed((around + noise).clamp(low, high))
        points = torch.cat([points, cloud], dim=1)
        energies = torch.cat([energies, fit.energies(cloud)], dim=1)
    return coordinates.pick(points, energies, region.points, region.apart)
