"""The goal energy around the recorded action, on grids over the translation of the first step.

A model that can be planned with has its lowest energy at the recorded action, and a slope that leads there from
everywhere in the box (arXiv 2506.09985, figure 9). Rotation, gripper and later steps stay as recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trajectories.poses import POSITION
from trajectories.replay.judge import EnergyModel
from trajectories.replay.questions import Question
from trajectories.replay.results import Landscape, Slice

Array = NDArray[np.float64]

AXES = "xyz"
CUBE_POINTS = 5
FINE_POINTS = 17
_PLANES = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True)
class _Plane:
    """A grid over two axes at a fixed third coordinate; `points` is `[up, across, 3]` [m]."""

    axes: tuple[int, int]
    fixed_axis: int
    fixed_m: float
    across_m: Array
    up_m: Array

    @property
    def points(self) -> Array:
        grid = np.empty((len(self.up_m), len(self.across_m), 3))
        grid[..., self.axes[0]] = self.across_m
        grid[..., self.axes[1]] = self.up_m[:, None]
        grid[..., self.fixed_axis] = self.fixed_m
        return grid


def landscape(
    question: Question, planned: Array, max_step: Array, model: EnergyModel
) -> Landscape | None:
    """Map the energy around one step; None where the model's energies cannot be asked for.

    Args:
        question: The step.
        planned: Planned actions `[H, 7]`, to be marked.
        max_step: Box of the actions `[7]`; the grids cover it, and the recorded action where that is outside.
        model: Who knows energies.
    """
    recorded = question.recorded[0, POSITION]
    reach = np.maximum(max_step[POSITION], 1.1 * np.abs(recorded))
    planes = [*_cube(reach), *_fine(reach, recorded)]
    points = np.concatenate([plane.points.reshape(-1, 3) for plane in planes] + [recorded[None]])
    actions = np.repeat(question.recorded[None], len(points), axis=0)
    actions[:, 0, POSITION] = points
    known = model.energies(question.frame, question.state, question.goal, actions)
    if known is None:
        return None
    lowest = int(np.argmin(known.of_actions[:-1]))
    slices = _slices(planes, known.of_actions[:-1])
    return Landscape(
        episode=question.episode,
        step=question.span.step,
        recorded_m=_row(recorded),
        planned_m=_row(planned[0, POSITION]),
        energy_recorded=float(known.of_actions[-1]),
        cube=tuple(slices[:CUBE_POINTS]),
        fine=tuple(slices[CUBE_POINTS:]),
        lowest_m=_row(points[lowest]),
        energy_lowest=float(known.of_actions[lowest]),
    )


def _cube(reach: Array) -> list[_Plane]:
    x, y, z = (np.linspace(-limit, limit, CUBE_POINTS) for limit in reach)
    return [_Plane((0, 1), 2, float(height), x, y) for height in z]


def _fine(reach: Array, recorded: Array) -> list[_Plane]:
    axes = [np.linspace(-limit, limit, FINE_POINTS) for limit in reach]
    return [
        _Plane((a, b), 3 - a - b, float(recorded[3 - a - b]), axes[a], axes[b]) for a, b in _PLANES
    ]


def _slices(planes: list[_Plane], energies: Array) -> list[Slice]:
    ends = np.cumsum([0] + [len(plane.up_m) * len(plane.across_m) for plane in planes])
    slices = []
    for plane, (start, end) in zip(planes, pairwise(ends), strict=True):
        grid = energies[start:end].reshape(len(plane.up_m), len(plane.across_m))
        slices.append(
            Slice(
                axes=(AXES[plane.axes[0]], AXES[plane.axes[1]]),
                across_m=_row(plane.across_m),
                up_m=_row(plane.up_m),
                fixed_axis=AXES[plane.fixed_axis],
                fixed_m=plane.fixed_m,
                energies=tuple(_row(row) for row in grid),
            )
        )
    return slices


def _row(values: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
