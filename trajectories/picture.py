"""One picture of an episode: frames of every camera above the course of pose and gripper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trajectories.episode import Episode
from trajectories.errors import TrajectoryError

_WIDTH_IN = 16.0
_PLOT_HEIGHT_IN = 2.0
_AXES = (
    ("position [m]", (0, 1, 2), ("x", "y", "z")),
    ("rotation [rad]", (3, 4, 5), ("roll", "pitch", "yaw")),
    ("closedness", (6,), ("gripper",)),
)


def draw(episode: Episode, path: Path, columns: int = 8) -> Path:
    """Draw an episode as PNG.

    Args:
        episode: What to draw.
        path: The picture.
        columns: Frames per camera, evenly spread over the rows.

    Raises:
        TrajectoryError: matplotlib is missing, or a frame cannot be decoded.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TrajectoryError(
            "drawing needs matplotlib; pip install 'vjepa-planner[data]'"
        ) from error
    rows = np.unique(np.linspace(0, len(episode) - 1, columns).round().astype(np.int64))
    sheets = [(view, stream.read(rows)) for view, stream in episode.cameras.items()]
    heights = [_WIDTH_IN / columns * s.shape[1] / s.shape[2] for _, s in sheets]
    figure = Figure(
        figsize=(_WIDTH_IN, sum(heights) + len(_AXES) * _PLOT_HEIGHT_IN + 0.8),
        dpi=80,
        layout="constrained",
    )
    grid = figure.add_gridspec(
        len(sheets) + len(_AXES), columns, height_ratios=[*heights, *[_PLOT_HEIGHT_IN] * len(_AXES)]
    )
    for line, (view, frames) in enumerate(sheets):
        for column, (row, frame) in enumerate(zip(rows, frames, strict=True)):
            axes = figure.add_subplot(grid[line, column])
            axes.imshow(frame)
            axes.set_axis_off()
            title = f"{view}  " if column == 0 else ""
            axes.set_title(f"{title}{episode.times_s[row]:.1f} s", fontsize=9)
    _draw_course(figure, grid, len(sheets), episode, rows)
    task = f" - {episode.task}" if episode.task else ""
    figure.suptitle(f"{episode.name}{task}", fontsize=12)
    figure.savefig(path)
    return path


def _draw_course(figure: Any, grid: Any, line: int, episode: Episode, rows: Any) -> None:
    first = None
    for offset, (label, axes_of_pose, names) in enumerate(_AXES):
        axes = figure.add_subplot(grid[line + offset, :], sharex=first)
        first = first or axes
        for index, name in zip(axes_of_pose, names, strict=True):
            course = (
                np.unwrap(episode.states[:, index])
                if index in (3, 4, 5)
                else episode.states[:, index]
            )
            axes.plot(episode.times_s, course, label=name, linewidth=1.4)
        for row in rows:
            axes.axvline(episode.times_s[row], color="0.85", linewidth=0.8, zorder=0)
        axes.set_ylabel(label)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlabel(f"time [s], {episode.clock}")
