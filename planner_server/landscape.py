"""Energies of given actions: a list of them, or a grid over some axes, as numbers and as a picture."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planner_server.errors import PlannerError
from planner_server.goal_tokens import GoalTokens
from planner_server.goals import SubGoal
from planner_server.options import EnergyOptions
from planner_server.plan_request import Frame
from planner_server.planning import Context, EnergySpec
from planner_server.planning.energy import Energy
from planner_server.served_model import ServedModel
from planner_server.worker import PlanningWorker

MAX_SEQUENCES = 4096
# Imagined before it is the next robot's turn: what takes as long, but so many steps at least.
_PORTION_S = 0.2
_FEWEST_STEPS = 32
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


async def energies_of(worker: PlanningWorker, question: EnergyQuestion) -> Energies:
    """Imagine the sequences and measure where they lead, in portions between which robots have their turn.

    Raises:
        PlannerError: `invalid_request`, where they are longer than the model can look ahead; `busy`; `planner_failed`,
            when the model predicts no numbers.
    """

    def begin(model: ServedModel, goals: GoalTokens) -> tuple[_Viewpoint, float, float]:
        viewpoint = _Viewpoint(model, goals, question)
        return (
            viewpoint,
            viewpoint.now(),
            viewpoint.energies(np.zeros_like(question.actions[:1]))[0],
        )

    viewpoint, now, still = await asyncio.wrap_future(worker.ask(begin, "energies"))
    return Energies(
        energies=await in_portions(worker, question.actions, viewpoint.energies),
        energy_now=now,
        energy_do_nothing=still,
        encode_ms=viewpoint.encode_ms,
        model_ms=viewpoint.model_ms,
    )


async def in_portions(
    worker: PlanningWorker,
    actions: NDArray[np.float64],
    measure: Callable[[NDArray[np.float64]], list[float]],
) -> list[float]:
    """Return what `measure` says of sequences `[S, H, 7]`, asked in the worker's thread about a few at a time.

    Raises:
        PlannerError: `busy`, or what `measure` raises.
    """
    size = fewest = max(1, _FEWEST_STEPS // actions.shape[1])
    energies: list[float] = []
    while len(energies) < len(actions):
        portion = actions[len(energies) : len(energies) + size]
        work = partial(_timed, measure, portion)
        found, taken_s = await asyncio.wrap_future(worker.ask(work, "energies"))
        energies += found
        size = max(fewest, min(2 * size, int(size * _PORTION_S / taken_s)))
    return energies


class _Viewpoint:
    """Where sequences begin and where they shall lead, encoded; used in the worker's thread only.

    Attributes:
        encode_ms: Time that the frame took [ms].
        model_ms: Time that everything since has taken [ms].
    """

    def __init__(self, model: ServedModel, goals: GoalTokens, question: EnergyQuestion) -> None:
        steps, longest = question.actions.shape[1], model.engine.max_frames
        if steps > longest:
            raise PlannerError(
                "invalid_request",
                f"the sequences have {steps} steps; this model looks at most {longest} ahead",
            )
        begun_s = time.monotonic()
        self._engine = model.engine
        self._tokens = model.encode(question.read_frame()[None])
        self.encode_ms, self.model_ms = 1e3 * (time.monotonic() - begun_s), 0.0
        self._state = torch.from_numpy(question.state).to(self._tokens)[None, None]
        spec = EnergySpec(**question.energy.model_dump())
        self._energy = Energy(spec, [goals.goal(question.goal)], self._tokens)

    @torch.inference_mode()
    def now(self) -> float:
        """Return the energy of the frame itself."""
        return _finite(self._energy(self._tokens[:, None, None], self._state[:, None])[0])[0]

    @torch.inference_mode()
    def energies(self, actions: NDArray[np.float64]) -> list[float]:
        """Return the energies of sequences `[S, H, 7]`."""
        begun_s = time.monotonic()
        context = Context(self._tokens, self._state, self._state[:, :0])
        asked = torch.from_numpy(actions)[None].to(self._tokens)
        found = self._engine.evaluate(context, asked, self._energy, exact=True).energies[0]
        energies = _finite(found)
        self.model_ms += 1e3 * (time.monotonic() - begun_s)
        return energies


def _timed(
    measure: Callable[[NDArray[np.float64]], list[float]],
    portion: NDArray[np.float64],
    _model: ServedModel,
    _goals: GoalTokens,
) -> tuple[list[float], float]:
    """Return what was measured, and how long that took [s]."""
    begun_s = time.perf_counter()
    energies = measure(portion)
    return energies, time.perf_counter() - begun_s


def _finite(energies: Tensor) -> list[float]:
    numbers: list[float] = energies.tolist()
    if not np.isfinite(numbers).all():
        raise PlannerError(
            "planner_failed",
            "the model predicted numbers that are not finite; try PLANNER_PRECISION=float32",
        )
    return numbers


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
