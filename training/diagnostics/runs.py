"""The recorded runs that a diagnosis looks at: one control period from row to row, one camera.

By default they are simulated, with a seed that no training of ours uses.
Letters in shapes: T rows, H and W pixels, N tokens, D channels.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.progress import track
from torch import Tensor

from training.diagnostics.subject import Eye, look
from training.errors import DataError
from training.recordings import Recordings, open_recordings
from training.windows import check_strides

SEED: Final = 864_200
"""Of the simulated runs; trainings use small seeds."""

_TERMINATED: Final = 128 + signal.SIGTERM
_HELD_OUT: Final = 0.3
_FEWEST = 2
_SHORTEST = 3
_FIXED_VIEW = "left"


@dataclass(frozen=True)
class Run:
    """One episode.

    Attributes:
        name: Its name in the data set.
        frames: uint8 RGB `[T, H, W, 3]`.
        states: Poses `[T, 7]` [m, rad, closedness].
    """

    name: str
    frames: Tensor
    states: NDArray[np.float64]

    @property
    def positions_m(self) -> NDArray[np.float64]:
        """Where the flange is, `[T, 3]` [m]."""
        return self.states[:, :3]


@dataclass(frozen=True)
class Runs:
    """Episodes to learn read-outs from, and others to judge by.

    Attributes:
        learned: To learn from.
        judged: To judge by.
        origin: Where they come from, for the report.
        period_s: Time from row to row [s].
    """

    learned: Sequence[Run]
    judged: Sequence[Run]
    origin: str
    period_s: float


@dataclass(frozen=True)
class Seen:
    """What one eye makes of some runs.

    Attributes:
        runs: The runs.
        tokens: For every run `[T, N, D]`.
    """

    runs: Sequence[Run]
    tokens: Sequence[Tensor]

    @property
    def names(self) -> list[str]:
        """The run of every row of all runs."""
        return [run.name for run in self.runs for _ in run.states]


def see(eye: Eye, runs: Sequence[Run], what: str) -> Seen:
    """Encode all frames of runs."""
    return Seen(runs, [look(eye, run.frames) for run in track(runs, f"encoding: {what}")])


def simulated_runs(folder: Path, episodes: int, period_s: float, max_step_m: float) -> Path:
    """Simulate runs into a folder, or find them there; return the folder.

    Raises:
        DataError: The simulator is not installed, cannot simulate this, or the folder holds
            something else.
    """
    try:
        from simulation.errors import SimulationError
        from simulation.generate import generate
        from simulation.recipe import Recipe
    except ModuleNotFoundError as error:
        raise DataError(
            f"the simulator needs {error.name}; install vjepa-planner[sim], or pass --data RECORDINGS"
        ) from error
    # An exception unwinds the pool; the default of SIGTERM would leave its workers writing on.
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(_TERMINATED))
    try:
        recipe = Recipe(
            episodes=episodes, seed=SEED, control_period_s=period_s, max_step_m=max_step_m
        )
        generate(folder, recipe)
    except (SimulationError, ValidationError) as error:
        raise DataError(str(error)) from error
    finally:
        signal.signal(signal.SIGTERM, before)
    return folder


def load_runs(path: Path, period_s: float, view: str | None = None, most: int = 96) -> Runs:
    """Read runs of a data set and divide them.

    Args:
        path: Anything that `trajectories` reads, or a data set of the simulator.
        period_s: Control period [s].
        view: Camera; None: `left` where there is one, else the first.
        most: Episodes to read, spread over the data set.

    Raises:
        DataError: There are fewer than two episodes of three control periods.
        TrajectoryError: There is no data set, or a frame cannot be read.
        ConfigurationError: Its rows are no control periods apart.
    """
    is_simulated = any(path.glob("shard-*"))
    recordings = open_recordings(path, None if is_simulated else period_s)
    stride = max(1, round(period_s / recordings.row_period_s))
    check_strides((stride, stride), recordings.row_period_s, period_s)
    names = list(recordings.episodes)
    chosen = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, most).astype(int))]
    runs = [
        _read(recordings, name, view, stride) for name in track(chosen, "reading recorded runs")
    ]
    usable = [run for run in runs if len(run.states) >= _SHORTEST]
    if len(usable) < _FEWEST:
        raise DataError(
            f"{len(usable)} of {len(runs)} episodes in {path} last {_SHORTEST} control periods of "
            f"{period_s:g} s; at least {_FEWEST} are needed"
        )
    learned, judged = divide(usable, _HELD_OUT)
    return Runs(learned, judged, f"{len(usable)} episodes of {path}", period_s)


def divide(runs: Sequence[Run], share: float) -> tuple[Sequence[Run], Sequence[Run]]:
    """Cut the last share off, at least one: neighbours are often of one day and one place."""
    last = max(1, round(share * len(runs)))
    return runs[:-last], runs[-last:]


def _read(recordings: Recordings, name: str, view: str | None, stride: int) -> Run:
    views = recordings.views(name)
    if view is not None and view not in views:
        raise DataError(f"{name} has no camera {view!r}; it has {', '.join(views)}")
    camera = view or (_FIXED_VIEW if _FIXED_VIEW in views else views[0])
    states = recordings.states(name)
    rows = np.arange(0, len(states), stride, dtype=np.int64)
    frames = np.ascontiguousarray(recordings.frames(name, camera, rows))
    return Run(name, torch.from_numpy(frames), np.asarray(states[rows], np.float64))
