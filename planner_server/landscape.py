"""Energies of given actions: a list of them, or a grid over some axes, as numbers and as a picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from planner_server.errors import PlannerError
from planner_server.goal_tokens import GoalTokens
from planner_server.goals import SubGoal
from planner_server.options import EnergyOptions
from planner_server.plan_request import Frame
from planner_server.planning import Context, EnergySpec
from planner_server.planning.energy import Energy
from planner_server.served_model import ServedModel

MAX_SEQUENCES = 4096
_PICTURE_PX = 512


@dataclass(frozen=True, eq=False)
class EnergyQuestion:
    """How near the goal do these actions lead?

    Attributes:
        read_frame: Returns the current frame, uint8 RGB `[H, W, 3]`; called by the worker.
        state: Pose `[7]` at the frame's capture.
        goal: Where to go.
        actions: Sequences `[S, H, 7]` [m, rad, closedness].
        energy: How the distance is measured.
    """

    read_frame: Callable[[], Frame]
    state: NDArray[np.float64]
    goal: SubGoal
    actions: NDArray[np.float64]
    energy: EnergyOptions


@dataclass(frozen=True, eq=False)
class Energies:
    """The answer: one energy per sequence, those of the frame itself and of holding still, and the time taken [ms]."""

    energies: list[float]
    energy_now: float
    energy_do_nothing: float
    encode_ms: float
    model_ms: float


@torch.inference_mode()
def energies_of(model: ServedModel, goals: GoalTokens, question: EnergyQuestion) -> Energies:
    """Imagine the sequences and measure where they lead; called in the worker's thread.

    Raises:
        PlannerError: `planner_failed`, when the model predicts no numbers.
    """
    begun_s = time.monotonic()
    tokens = model.encode(question.read_frame()[None])
    encoded_s = time.monotonic()
    state = torch.from_numpy(question.state).to(tokens)
    still = np.zeros_like(question.actions[:1])
    actions = torch.from_numpy(np.concatenate([question.actions, still])).to(tokens)
    energy = Energy(EnergySpec(**question.energy.model_dump()), [goals.goal(question.goal)], tokens)
    context = Context(tokens, state[None, None], tokens.new_zeros(1, 0, len(state)))
    found = model.engine.evaluate(context, actions[None], energy, exact=True).energies[0]
    now = energy(tokens[:, None, None], state[None, None, None])
    numbers = [*found.tolist(), float(now[0, 0])]
    if not np.isfinite(numbers).all():
        raise PlannerError(
            "planner_failed",
            "the model predicted numbers that are not finite; try PLANNER_PRECISION=float32",
        )
    return Energies(
        energies=numbers[:-2],
        energy_now=numbers[-1],
        energy_do_nothing=numbers[-2],
        encode_ms=1e3 * (encoded_s - begun_s),
        model_ms=1e3 * (time.monotonic() - encoded_s),
    )


def grid_of(
    axes: dict[int, tuple[float, float, int]],
) -> tuple[list[list[float]], NDArray[np.float64]]:
    """Return the values along every axis, and the single actions `[S, 1, 7]` of the grid, last axis fastest.

    Args:
        axes: Smallest value, largest value and number of points, by axis of the action.

    Raises:
        PlannerError: `invalid_request`, when the grid has too many points.
    """
    values = [np.linspace(low, high, points) for low, high, points in axes.values()]
    count = int(np.prod([len(each) for each in values]))
    if count > MAX_SEQUENCES:
        raise PlannerError(
            "invalid_request",
            f"the grid has {count} points; at most {MAX_SEQUENCES} are imagined at once",
        )
    actions = np.zeros((count, 1, 7))
    for axis, column in zip(axes, np.meshgrid(*values, indexing="ij"), strict=True):
        actions[:, 0, axis] = column.ravel()
    return [each.tolist() for each in values], actions


def picture_of(energies: NDArray[np.float64]) -> bytes:
    """Return energies `[rows, columns]` as a PNG file: dark is near the goal, the lowest is marked.

    Rows are the first axis from its largest value (top) to its smallest, columns the second from left to right.
    """
    low, high = float(energies.min()), float(energies.max())
    grey = (255 * (energies - low) / max(high - low, 1e-12)).astype(np.uint8)
    rows, columns = energies.shape
    scale = max(1, _PICTURE_PX // max(rows, columns))
    big = cv2.resize(grey[::-1], (columns * scale, rows * scale), interpolation=cv2.INTER_NEAREST)
    coloured = cv2.applyColorMap(big, cv2.COLORMAP_VIRIDIS)
    row, column = np.unravel_index(int(energies.argmin()), energies.shape)
    centre = (int((column + 0.5) * scale), int((rows - 1 - row + 0.5) * scale))
    cv2.drawMarker(coloured, centre, (255, 255, 255), cv2.MARKER_CROSS, max(8, scale), 2)
    return bytes(cv2.imencode(".png", coloured)[1].tobytes())
