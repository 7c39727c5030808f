"""Iterated search that first covers the whole box and then closes in.

The energy of a frozen encoder is neither convex nor monotone far from the goal, so a normal distribution that starts
at zero often settles on a slope nearby. Here the first round is uniform over the box and contains the action that
stays, and the warm start; the later rounds are clouds around the best sequences found so far, smaller and fewer from
round to round, each with the mean of those sequences in it. From iCEM (arXiv 2008.06389) come the kept elites, the
falling number of candidates, the noise that is coloured over the horizon and the answer that was itself tried.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from planner_server.planning.planner import SearchingPlanner
from planner_server.planning.rollouts import RolloutEngine
from planner_server.planning.sampling import coloured, half_range, uniform
from planner_server.planning.scored import Scored
from planner_server.planning.search import Search


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class IcemSettings:
    """Options of the search.

    Attributes:
        uniform_candidates: Sequences of the first round, spread over the box; one of them stays.
        cloud_candidates: Sequences of the second round.
        cloud_decay: Factor on their number from one cloud to the next.
        cloud_elites: For every later round, how many of the best sequences so far its cloud is drawn around.
        cloud_std: Standard deviation of the first cloud, as a fraction of half the box.
        std_decay: Factor on that fraction from one cloud to the next.
        noise_exponent: Colour of the noise over the horizon; 0 is white. Of no effect at horizon 1.
    """

    uniform_candidates: Annotated[int, Field(ge=2)] = 192
    cloud_candidates: Annotated[int, Field(ge=2)] = 80
    cloud_decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    cloud_elites: tuple[Annotated[int, Field(ge=1)], ...] = (8, 4, 4)
    cloud_std: Annotated[float, Field(gt=0)] = 0.35
    std_decay: Annotated[float, Field(gt=0, le=1)] = 0.5
    noise_exponent: Annotated[float, Field(ge=0)] = 1.0


class IcemPlanner(SearchingPlanner):
    """Cover the box, then close in on the best.

    Args:
        engine: Imagines candidates.
        settings: The options; None takes the defaults.
    """

    def __init__(self, engine: RolloutEngine, settings: IcemSettings | None = None) -> None:
        super().__init__(engine)
        self.settings = settings or IcemSettings()

    def search(self, search: Search) -> Tensor | None:
        """Answer with the best sequence that was tried."""
        settings, batch = self.settings, search.batch
        anchors = batch.anchors()
        spread = uniform(batch, settings.uniform_candidates - anchors.shape[1])
        tried = search.score(torch.cat([anchors, spread], dim=1))
        for round_index, elite_count in enumerate(settings.cloud_elites):
            search.end_iteration()
            if search.is_over:
                return None
            cloud = self._cloud(search, tried.best(elite_count), round_index)
            tried = _join(tried, search.score(cloud))
        search.end_iteration()
        return None

    def _cloud(self, search: Search, elites: Tensor, round_index: int) -> Tensor:
        """Return the mean of the elites `[P, K, H, 7]` and noise around them."""
        settings = self.settings
        count = max(2, round(settings.cloud_candidates * settings.cloud_decay**round_index)) - 1
        centres = elites[:, torch.arange(count, device=elites.device) % elites.shape[1]]
        std = settings.cloud_std * settings.std_decay**round_index * half_range(search.batch)
        noise = coloured(search.batch, count, settings.noise_exponent)
        return torch.cat([elites.mean(dim=1, keepdim=True), centres + noise * std], dim=1)


def _join(first: Scored, second: Scored) -> Scored:
    return Scored(
        torch.cat([first.actions, second.actions], dim=1),
        torch.cat([first.energies, second.energies], dim=1),
        None,
    )
