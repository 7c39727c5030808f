"""Many frames in one picture, to look at workcells, goals and episodes before trusting them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulation.episodes import halve
from simulation.errors import NoEpisodeError, OutputExistsError
from simulation.kinematics import flange_pose_at
from simulation.stepper import OfflineWorkcell
from simulation.supervisor import encode_png
from simulation.tasks import TaskName, make_task
from simulation.variation import sample_variation
from trajectories.shards import open_shards

Frame = NDArray[np.uint8]

_COLUMNS = 4
_VIEW_M = np.array([0.45, 0.0, 0.22])


def of_variations(first_seed: int, count: int) -> Frame:
    """Draw `count` workcells, one per seed, with the gripper above the table."""
    frames = []
    for seed in range(first_seed, first_seed + count):
        workcell = OfflineWorkcell(sample_variation(seed))
        workcell.reset(flange_pose_at(_VIEW_M, 0.0))
        frames.append(workcell.render())
    blank = np.zeros_like(frames[0])
    frames += [blank] * (-len(frames) % _COLUMNS)
    return _grid([frames[start : start + _COLUMNS] for start in range(0, len(frames), _COLUMNS)])


def of_tasks(name: TaskName, first_seed: int, count: int) -> Frame:
    """Draw tasks, one per row: the start, then every sub-goal."""
    rows = []
    for seed in range(first_seed, first_seed + count):
        task = make_task(name, seed)
        workcell = OfflineWorkcell(task.variation)
        workcell.reset(task.start)
        rows.append([halve(workcell.render()), *(halve(goal.image) for goal in task.sub_goals)])
    return _grid(rows)


def of_episodes(directory: Path, first: int, count: int) -> Frame:
    """Draw episodes of a data set, one per row, one frame per control period.

    Raises:
        NoEpisodeError: The data set ends before `first`.
        CorruptDataError: There is no data set, or it is damaged.
    """
    shards = open_shards(directory)
    if first >= len(shards):
        raise NoEpisodeError(
            f"{directory} has no episode {first}; its {len(shards)} are counted from 0"
        )
    last = min(first + count, len(shards))
    return _grid([list(shards.frames(episode)) for episode in range(first, last)])


def write(sheet: Frame, path: Path) -> None:
    """Write a picture as PNG.

    Raises:
        OutputExistsError: The file is there already.
    """
    if path.exists():
        raise OutputExistsError(f"{path} exists; remove it or give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(sheet))


def _grid(rows: list[list[Frame]]) -> Frame:
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
