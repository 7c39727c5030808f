"""What a planner answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planner_server.planning.budget import StopReason


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of one iteration, for display.

    Attributes:
        actions: float32 `[S, H, 7]` [m, rad, closedness].
        energies: float32 `[S]`.
    """

    actions: NDArray[np.float32]
    energies: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Plan:
    """The answer.

    Attributes:
        actions: float64 `[H, 7]`, inside the bounds [m, rad, closedness per control period].
        predicted_states: float64 `[H, 7]`, the poses these actions lead to.
        energy: Energy of exactly these actions, scored by the model once more after the search. Not finite where the
            model predicts no numbers for this problem; `energy_do_nothing` alike.
        energy_now: Energy of the current frame: 0 means that the goal is reached.
        energy_do_nothing: Energy the model predicts for staying.
        energy_per_iteration: Lowest energy known after every iteration of the search.
        evaluations: Action sequences imagined for this problem, the closing re-scoring included.
        stop_reason: Why the search ended. `HELD`: the model was not asked, `energy` and `energy_do_nothing` are those
            of the current frame.
        candidates: What was tried, iteration by iteration, for display; empty where the model was not asked.
    """

    actions: NDArray[np.float64]
    predicted_states: NDArray[np.float64]
    energy: float
    energy_now: float
    energy_do_nothing: float
    energy_per_iteration: tuple[float, ...]
    evaluations: int
    stop_reason: StopReason
    candidates: tuple[Candidates, ...]


def shift(actions: NDArray[np.float64], executed: int = 1) -> Tensor:
    """Return a guess for the next observation's plan: what is left of this one, its end filled with zeros.

    Args:
        actions: The last plan `[H, 7]`.
        executed: How many of its actions were carried out since.
    """
    left = np.zeros_like(actions)
    left[: max(len(actions) - executed, 0)] = actions[executed:]
    return torch.from_numpy(left)
