"""What is planned: pairs of real frames, a state between them, and a goal image that a robot could reach.

The default cases are made here, by the simulator, from fixed seeds that no training data uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.world_model import WorldModel
from planner_server.planning import ActionBounds, Goal, PlanningProblem
from simulation.episodes import simulate_episode
from simulation.recipe import Recipe
from simulation.stepper import OfflineWorkcell
from simulation.tasks import FAR_M, NEAR_M, make_task

FIRST_SEED = 910_000
_PAIRS_PER_EPISODE = 5
_APART = 2  # frames between a frame of an episode and its goal


@dataclass(frozen=True)
class Case:
    """A frame, the state in it, and a goal image.

    Attributes:
        name: Where it comes from.
        frame: uint8 RGB `[H, W, 3]`.
        state: Pose `[7]` at the frame [m, rad, closedness].
        goal: uint8 RGB `[H, W, 3]`.
    """

    name: str
    frame: NDArray[np.uint8]
    state: NDArray[np.float64]
    goal: NDArray[np.uint8]


def simulated(count: int) -> list[Case]:
    """Return cases in turns of three kinds: a near goal, a far goal, and two frames of an episode with grasps."""
    kinds = (_reaches("near", NEAR_M), _reaches("far", FAR_M), _episodes())
    return [next(kinds[index % len(kinds)]) for index in range(count)]


def recorded(path: Path) -> list[Case]:
    """Return one case for every two neighbouring frames of a recording.

    Args:
        path: An .npz with `observations` uint8 `[1, T, H, W, 3]` and `states` `[1, T, 7]`, as the example that is
            published with V-JEPA 2.
    """
    with np.load(path) as file:
        frames, states = file["observations"][0], file["states"][0].astype(np.float64)
    return [
        Case(f"{path.stem} {index}", frames[index], states[index], frames[index + 1])
        for index in range(len(frames) - 1)
    ]


@torch.inference_mode()
def problems(model: WorldModel, cases: list[Case], horizon: int) -> list[PlanningProblem]:
    """Return cases as the model's problems, over the model's whole box."""
    bounds = ActionBounds.symmetric(model.config.max_action)
    return [
        PlanningProblem(
            context_tokens=model.encode(torch.from_numpy(case.frame)[None])[0],
            context_states=torch.from_numpy(case.state)[None],
            goal=Goal.of(model.encode(torch.from_numpy(case.goal)[None])[0]),
            bounds=bounds,
            horizon=horizon,
            seed=index,
        )
        for index, case in enumerate(cases)
    ]


def _reaches(name: str, distance_m: tuple[float, float]) -> Iterator[Case]:
    seed = FIRST_SEED
    while True:
        task = make_task("reach", seed, distance_m)
        workcell = OfflineWorkcell(task.variation)
        workcell.reset(task.start)
        goal = task.sub_goals[0].image
        yield Case(f"{name} {seed}", workcell.render(), workcell.state(), goal)
        seed += 1


def _episodes() -> Iterator[Case]:
    recipe, index = Recipe(seed=FIRST_SEED), 0
    while True:
        episode = simulate_episode(recipe, index)
        for pair in range(_PAIRS_PER_EPISODE):
            start = 1 + pair * _APART
            frames = episode.frames[start], episode.frames[start + _APART]
            name = f"{episode.motion} {FIRST_SEED}/{index} frame {start}"
            yield Case(name, frames[0], episode.states[start], frames[1])
        index += 1
