"""Frames of recorded episodes, to be used as goals. The only place of the service that reads recordings."""

from __future__ import annotations

from pathlib import Path

from planner_server.errors import PlannerError
from planner_server.plan_request import Frame


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
    try:
        from trajectories.dataset import open_episode
        from trajectories.errors import TrajectoryError
    except ImportError as error:
        raise PlannerError(
            "invalid_request",
            f"recordings cannot be read here ({error.name} is missing); install .[client]",
        ) from error
    path, mark, number = name.partition("#")
    folder = (root / path).resolve()
    is_inside = folder.is_relative_to(root.resolve()) and folder.exists()
    # What follows the # becomes part of a path or URL again, so it must be a number and nothing else.
    if not is_inside or (mark and not number.isdecimal()):
        raise PlannerError(
            "not_found", f"there is no episode {name[:200]!r} in the episodes folder"
        )
    try:
        with open_episode(f"{folder}#{number}" if number else folder) as episode:
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
    except (TrajectoryError, OSError, ValueError) as error:
        raise PlannerError(
            "invalid_request", f"episode {name[:200]!r} cannot be read: {error}"
        ) from error
