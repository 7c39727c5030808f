"""Model-predictive path integral control: the mean moves to the average of candidates, weighted by their energy.

The temperature is measured in standard deviations of the energies at hand, so it means the same for every model and
goal; the published uses set it on raw energies, whose spread is so small that all candidates count almost alike. Every
candidate is moved into the bounds before it is tried, and the answer is the best sequence that was tried.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from planner_server.planning.bounds import TRANSLATION
from planner_server.planning.planner import SearchingPlanner
from planner_server.planning.rollouts import RolloutEngine
from planner_server.planning.sampling import coloured, half_range, uniform
from planner_server.planning.scored import Scored
from planner_server.planning.search import Search


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MppiSettings:
    """Options of the search.

    Attributes:
        first_candidates: Sequences of the first iteration, uniform over the box.
        candidates: Sequences of every later iteration.
        iterations: Times that mean and spread are updated.
        temperature: Energy difference, in standard deviations of the iteration's energies, that makes a candidate
            count e times less.
        min_std: Smallest standard deviation of the noise, as a fraction of half the box.
        noise_exponent: Colour of the noise over the horizon; 0 is white. Of no effect at horizon 1.
    """

    first_candidates: Annotated[int, Field(ge=2)] = 128
    candidates: Annotated[int, Field(ge=2)] = 64
    iterations: Annotated[int, Field(ge=1)] = 6
    temperature: Annotated[float, Field(gt=0)] = 0.15
    min_std: Annotated[float, Field(ge=0)] = 0.01
    noise_exponent: Annotated[float, Field(ge=0)] = 1.0


class MppiPlanner(SearchingPlanner):
    """Average candidates by their energy, again and again.

    Args:
        engine: Imagines candidates.
        settings: The options; None takes the defaults.
    """

    def __init__(self, engine: RolloutEngine, settings: MppiSettings | None = None) -> None:
        super().__init__(engine)
        self.settings = settings or MppiSettings()

    def search(self, search: Search) -> Tensor | None:
        """Answer with the best sequence that was tried."""
        settings, batch = self.settings, search.batch
        anchors = batch.anchors()
        spread = uniform(batch, settings.first_candidates - anchors.shape[1])
        candidates = torch.cat([anchors, spread], dim=1)
        floor = settings.min_std * half_range(batch)
        for _ in range(settings.iterations):
            scored = search.score(candidates)
            if search.is_over:
                break
            mean, std = self._average(scored)
            search.end_iteration(std[..., TRANSLATION].amax(dim=(1, 2, 3)))
            noise = coloured(batch, settings.candidates - 1, settings.noise_exponent)
            candidates = torch.cat([mean, mean + noise * torch.maximum(std, floor)], dim=1)
        return None

    def _average(self, scored: Scored) -> tuple[Tensor, Tensor]:
        """Return the weighted mean and standard deviation `[P, 1, H, 7]` of candidates."""
        worst = torch.finfo(scored.energies.dtype).max
        relative = scored.energies - scored.energies.amin(dim=1, keepdim=True)
        known = relative.masked_fill(~relative.isfinite(), 0.0)
        scale = self.settings.temperature * known.std(dim=1, keepdim=True)
        logits = -(relative / scale.clamp(min=1 / worst)).clamp(max=worst)
        weights = logits.softmax(dim=1)[..., None, None]
        mean = (weights * scored.actions).sum(dim=1, keepdim=True)
        variance = (weights * (scored.actions - mean).square()).sum(dim=1, keepdim=True)
        return mean, variance.sqrt()
