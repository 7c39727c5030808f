"""Search a fit of the model instead of the model: the default planner.

Imagining a candidate is a run of a transformer; but over the small box of allowed actions the predicted tokens change
smoothly. So a few candidates are imagined, their *tokens* (not their energies, which have kinks) are fitted as a
function of the action, the energy of the fit is minimised at almost no cost, and the model is asked about what was
found there. Far from the goal the energy has several basins: the first rounds ask about the lowest point of each of
them, the last ones about a cloud around the single lowest one, in a region that narrows from round to round. The
answer is the best sequence that the model itself was asked about.

Letters in shapes: P problems, S candidates, K points on the fit, H horizon, A searched coordinates.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from planner_server.planning.coordinates import Coordinates
from planner_server.planning.fit_minimum import Region, lowest_points
from planner_server.planning.planner import SearchingPlanner
from planner_server.planning.rollouts import RolloutEngine
from planner_server.planning.search import Search
from planner_server.planning.token_fit import TokenFit

_USUAL_COORDINATES = 4  # dx, dy, dz and the gripper, one step


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SurrogateSettings:
    """Options of the search.

    Attributes:
        design: Candidates of the first round, spread evenly over the box. This and `rounds` are for up to four searched
            coordinates (axes times steps of the horizon); for A of them both are A / 4 times as many.
        rounds: Rounds after it.
        cloud: Candidates of every later round: low points of the fit, and a cloud around the lowest of them.
        cloud_std: Standard deviation of the cloud, as a fraction of the region searched.
        shrink: Factor on the region from round to round (slower where there are more rounds); the first one is the
            whole box.
        gripper_shrink: How fast the gripper's side of the region shrinks, as an exponent: 1 is as fast as the others,
            0 not at all. Its effect is small, so it is settled late.
        basins: Low points of the fit, apart from each other, that the second round asks about.
        basins_decay: Factor on their number from round to round.
        separation: How far apart they are, as a fraction of the region.
        length: Distance over which the fitted tokens change much, as a fraction of half the box.
        smoothing: Variance of what the fit may ignore, relative to that of the tokens.
        gripper_scale: Length of the gripper's axis relative to the others; a short one makes the fit smooth along it.
        path_scale: Length of the way to the last pose relative to that pose; of no effect at horizon 1.
        pool: Points of the fit that are tried per step of its minimisation.
        fitted_values: Values of the predicted tokens that are fitted, about.
    """

    design: Annotated[int, Field(ge=2)] = 36
    rounds: Annotated[int, Field(ge=1)] = 5
    cloud: Annotated[int, Field(ge=1)] = 8
    cloud_std: Annotated[float, Field(gt=0)] = 0.35
    shrink: Annotated[float, Field(gt=0, le=1)] = 0.55
    gripper_shrink: Annotated[float, Field(ge=0)] = 0.4
    basins: Annotated[int, Field(ge=1)] = 8
    basins_decay: Annotated[float, Field(ge=0, le=1)] = 0.55
    separation: Annotated[float, Field(ge=0)] = 0.35
    length: Annotated[float, Field(gt=0)] = 0.6
    smoothing: Annotated[float, Field(gt=0)] = 3e-3
    gripper_scale: Annotated[float, Field(gt=0)] = 0.12
    path_scale: Annotated[float, Field(gt=0)] = 0.4
    pool: Annotated[int, Field(ge=16)] = 256
    fitted_values: Annotated[int, Field(ge=1)] = 1024


class SurrogatePlanner(SearchingPlanner):
    """Fit the tokens, minimise the fit, ask the model there, and again.

    Args:
        engine: Imagines candidates.
        settings: The options; None takes the defaults.
    """

    def __init__(self, engine: RolloutEngine, settings: SurrogateSettings | None = None) -> None:
        super().__init__(engine)
        self.settings = settings or SurrogateSettings()

    def search(self, search: Search) -> Tensor | None:
        """Answer with the best sequence that was tried."""
        settings, batch = self.settings, search.batch
        coordinates = Coordinates(batch, settings.gripper_scale, settings.path_scale)
        candidates = batch.anchors()
        if not coordinates.count:
            search.score(candidates)
            return None
        size = max(1.0, coordinates.count / _USUAL_COORDINATES)
        spread = coordinates.sobol(max(round(settings.design * size) - candidates.shape[1], 1))
        candidates = torch.cat([candidates, coordinates.actions(spread)], dim=1)
        fit = TokenFit(
            batch,
            coordinates,
            length=settings.length * size**0.5,
            smoothing=settings.smoothing,
            fitted_values=settings.fitted_values,
        )
        rounds = round(settings.rounds * size)
        for round_index in range(rounds + 1):
            scored = search.score(candidates, keep=fit.part)
            search.end_iteration()
            if search.is_over:
                break
            if round_index < rounds:
                fit.fit(scored)
                candidates = self._propose(search, fit, coordinates, round_index / size)
        return None

    def _propose(
        self, search: Search, fit: TokenFit, coordinates: Coordinates, progress: float
    ) -> Tensor:
        """Return what to ask the model next, `[P, S, H, 7]`: low points of the fit, and a cloud around the lowest."""
        settings = self.settings
        radius = settings.shrink**progress
        sides = coordinates.sides(radius, radius**settings.gripper_shrink)
        basins = max(round(settings.basins * settings.basins_decay**progress), 1)
        region = Region(
            centre=coordinates.of(search.best_actions[:, None]),
            sides=sides if progress else 2 * sides,  # the whole box at first, wherever the best is
            points=min(basins, settings.cloud),
            apart=settings.separation * radius if basins > 1 else 0.0,
        )
        lowest = lowest_points(fit, coordinates, region, settings.pool)
        noise = coordinates.normal(settings.cloud - lowest.shape[1])
        cloud = lowest[:, :1] + noise * settings.cloud_std * sides
        return coordinates.actions(torch.cat([lowest, cloud], dim=1))
