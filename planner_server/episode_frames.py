"""What lies in recorded episodes: frames, to be looked at or used as goals, and the motion.

The only place of the service that reads recordings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from planner_server.errors import PlannerError
from planner_server.plan_request import Frame

if TYPE_CHECKING:
    from trajectories.episode import Episode

_ENERGY = "planner/energy_now"
_GOAL = "planner/goal_index"


@dataclass(frozen=True)
class Motion:
    """What an episode recorded besides its frames; row i of everything belongs to frame i.

    Attributes:
        times_s: From the beginning [s].
        states: Poses `[T][7]`.
        energies: Of each frame towards its goal; None where they were not recorded.
        goal_indices: Which sub-goal it was on the way to; None where that was not recorded.
        cameras: Frames of each view.
    """

    times_s: list[float]
    states: list[list[float]]
    energies: list[float] | None
    goal_indices: list[int] | None
    cameras: dict[str, int]


def read_episode_frame(root: Path, name: str, index: int, camera: str | None) -> Frame:
    """Read one frame of a recorded episode.

    Args:
        root: Folder that the episodes lie in; nothing outside it is read.
        name: The episode's path below it, with `#INDEX` where a data set holds many.
        index: Of the frame, from 0; -1 is the last.
        camera: Which camera; None is the first.

    Returns:
        The frame, uint8 RGB `[H, W, 3]`.

    Raises:
        PlannerError: `not_found` or `invalid_request`.
    """
    with _opened(root, name) as episode:
        view = camera or next(iter(episode.cameras), None)
        if view is None or view not in episode.cameras:
            known = ", ".join(episode.cameras) or "none"
            raise PlannerError("not_found", f"episode {name[:200]!r} has the cameras {known}")
        stream = episode.camera(view)
        row = index if index >= 0 else len(stream) + index
        if not 0 <= row < len(stream):
            raise PlannerError(
                "not_found",
                f"frame {index} does not exist; {name[:200]!r} has {len(stream)} frames",
            )
        frame: Frame = stream.read([row])[0]
        return frame


def read_motion(root: Path, name: str) -> Motion:
    """Read an episode's states and energies.

    Args:
        root: Folder that the episodes lie in; nothing outside it is read.
        name: The episode's path below it, with `#INDEX` where a data set holds many.

    Raises:
        PlannerError: `not_found` or `invalid_request`.
    """
    with _opened(root, name) as episode:
        energies, goals = episode.signals.get(_ENERGY), episode.signals.get(_GOAL)
        return Motion(
            times_s=np.round(episode.times_s - episode.times_s[0], 4).tolist(),
            states=np.round(episode.states, 5).tolist(),
            energies=None if energies is None else np.asarray(energies, float).tolist(),
            goal_indices=None if goals is None else np.asarray(goals, int).tolist(),
            cameras={view: len(stream) for view, stream in episode.cameras.items()},
        )


@contextmanager
def _opened(root: Path, name: str) -> Iterator[Episode]:
    """Open an episode below the root, and put what goes wrong into the service's words."""
    try:
        from trajectories.dataset import open_episode
        from trajectories.errors import TrajectoryError
    except ImportError as error:
        raise PlannerError(
            "invalid_request",
            f"recordings cannot be read here ({error.name} is missing): pip install 'vjepa-planner[data]'",
        ) from error
    path, mark, number = name.partition("#")
    try:
        folder = (root / path).resolve()
        is_inside = folder.is_relative_to(root.resolve()) and folder.exists()
    except (OSError, ValueError):  # a name that no file system takes
        is_inside = False
    # What follows the # becomes part of a path or URL again, so it must be a number and nothing else.
    if not is_inside or (mark and not number.isdecimal()):
        raise PlannerError(
            "not_found", f"there is no episode {name[:200]!r} in the episodes folder"
        )
    try:
        with open_episode(f"{folder}#{number}" if number else folder) as episode:
            yield episode
    except (TrajectoryError, OSError, ValueError, IndexError) as error:
        raise PlannerError(
            "invalid_request", f"episode {name[:200]!r} cannot be read: {error}"
        ) from error
