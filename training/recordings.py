"""Recorded robot episodes as post-training sees them: named views, states, and frames by row.

One protocol, whatever wrote the recording. Letters in shapes: T rows, K rows asked for.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from training.errors import ConfigurationError, DataError
from trajectories.clock import rows_at_period
from trajectories.dataset import Dataset, open_dataset
from trajectories.errors import TrajectoryError
from trajectories.shards import ShardSet, open_shards

logger = logging.getLogger(__name__)

_SHOWN = 20  # bad episodes listed in a message

SIMULATED_VIEW: Final = "camera"
"""The name of the only view in a data set of the simulator."""


class Recordings(Protocol):
    """Episodes with one state per row and one frame per row and view."""

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes, all different."""
        ...

    @property
    def row_period_s(self) -> float:
        """Real time between two rows [s]."""
        ...

    def views(self, episode: str) -> Sequence[str]:
        """Return the names of an episode's cameras."""
        ...

    def states(self, episode: str) -> NDArray[np.float64]:
        """Return the robot's state at every row, `[T, 7]` [m, rad, closedness]."""
        ...

    def frames(self, episode: str, view: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return frames at rows, RGB `[K, H, W, 3]`."""
        ...


class ShardRecordings:
    """A data set that the simulator wrote."""

    def __init__(self, shards: ShardSet) -> None:
        self._shards = shards
        self._states = shards.states
        self._episodes = [f"{index:06d}" for index in range(len(shards))]

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes: their place in the data set."""
        return self._episodes

    @property
    def row_period_s(self) -> float:
        """Real time between two rows [s]."""
        periods = [shard.attributes.get("control_period_s") for shard in self._shards.shards]
        if periods[0] is None or len(set(periods)) > 1:
            raise ConfigurationError(
                "the shards of a data set have to say how far their rows are apart, and all the same: "
                f"control_period_s is {', '.join(sorted(set(map(str, periods))))} in the attributes of their "
                "episodes.json; write the true one there, or keep different ones in folders of their own"
            )
        return float(periods[0])

    def views(self, episode: str) -> Sequence[str]:  # noqa: ARG002  every episode has one
        """Return the name of the only camera."""
        return (SIMULATED_VIEW,)

    def states(self, episode: str) -> NDArray[np.float64]:
        """Return the robot's state at every row, `[T, 7]`."""
        states: NDArray[np.float64] = self._states[int(episode)]
        return states

    def frames(self, episode: str, view: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:  # noqa: ARG002
        """Return frames at rows, RGB `[K, H, W, 3]`."""
        return self._shards.frames(int(episode))[rows]


class DatasetRecordings:
    """Any data set that `trajectories` reads, thinned out to evenly spaced rows by its real clock.

    All episodes are opened once, for their states; frames are decoded when they are asked for.

    Args:
        dataset: The data set.
        row_period_s: Real time between two rows [s].
        max_bad: Unreadable episodes to leave out before it is refused.

    Raises:
        DataError: More are unreadable, or none is left; names them.
    """

    def __init__(self, dataset: Dataset, row_period_s: float, max_bad: int) -> None:
        self._dataset = dataset
        self._row_period_s = row_period_s
        self._entries: dict[str, _Entry] = {}
        bad: list[str] = []
        for index in track(range(len(dataset)), description="reading episodes"):
            try:
                name, entry = _read_entry(dataset, index, row_period_s)
                self._entries[name] = entry
            except TrajectoryError as error:  # noqa: PERF203  one bad episode must not hide others
                bad.append(f"{dataset.name(index)}: {error}")
                logger.warning("left out %s", bad[-1])
        refuse_bad(bad, max_bad, f"{len(dataset)} episodes in {dataset.root}")
        if not self._entries:
            listed = "".join(f"\n  {line}" for line in bad[:_SHOWN])
            raise DataError(f"no episode of {dataset.root} can be used{listed}")

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes."""
        return list(self._entries)

    @property
    def row_period_s(self) -> float:
        """Real time between two rows [s]."""
        return self._row_period_s

    def views(self, episode: str) -> Sequence[str]:
        """Return the names of an episode's cameras."""
        return self._entries[episode].views

    def states(self, episode: str) -> NDArray[np.float64]:
        """Return the robot's state at every row, `[T, 7]`."""
        return self._entries[episode].states

    def frames(self, episode: str, view: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return frames at rows, RGB `[K, H, W, 3]`.

        Raises:
            TrajectoryError: They cannot be read.
        """
        entry = self._entries[episode]
        with self._dataset.open(entry.number) as opened:
            return opened.camera(view).read(entry.rows[rows])


@dataclass(frozen=True)
class _Entry:
    """What is kept of an episode: its number, and states `[T, 7]` and source rows `[T]`."""

    number: int
    states: NDArray[np.float64]
    rows: NDArray[np.int64]
    views: tuple[str, ...]


def _read_entry(dataset: Dataset, index: int, row_period_s: float) -> tuple[str, _Entry]:
    with dataset.open(index) as episode:
        rows = rows_at_period(episode.times_s, row_period_s)
        return episode.name, _Entry(
            index, episode.states[rows], rows, tuple(sorted(episode.cameras))
        )


def open_recordings(path: Path, row_period_s: float | None, max_bad: int = 0) -> Recordings:
    """Open a data set of the simulator, or whatever else `trajectories` reads.

    Args:
        path: Where it lies.
        row_period_s: Real time between two rows [s]; the simulator's data sets bring their own.
        max_bad: Unreadable episodes to leave out before it is refused.

    Raises:
        TrajectoryError: There is no data set.
        DataError: It cannot be used.
        ConfigurationError: The period is missing, or is not that of the simulator's data set.
    """
    if any(path.glob("shard-*")):
        recordings = ShardRecordings(open_shards(path))
        if row_period_s not in (None, recordings.row_period_s):
            raise ConfigurationError(
                f"data.row_period_s is {row_period_s}, the rows in {path} are "
                f"{recordings.row_period_s} s apart; leave it out"
            )
        return recordings
    if row_period_s is None:
        raise ConfigurationError(f"data.row_period_s is needed to read {path}")
    return DatasetRecordings(open_dataset(path), row_period_s, max_bad)


def refuse_bad(bad: Sequence[str], max_bad: int, of_what: str) -> None:
    """Refuse data of which too much cannot be read.

    Args:
        bad: What cannot be read, each with the reason.
        max_bad: How much is left out without complaint.
        of_what: What it is part of, with its number.

    Raises:
        DataError: Names the first of them.
    """
    if len(bad) > max_bad:
        more = f"\n  and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise DataError(
            f"{len(bad)} of {of_what} cannot be used (data.max_bad allows {max_bad}):\n  "
            + "\n  ".join(bad[:_SHOWN])
            + more
        )


def fingerprint(recordings: Recordings) -> str:
    """Return a hash of the episodes' names, views and states; frames are too many to hash."""
    digest = hashlib.sha256()
    for episode in recordings.episodes:
        digest.update(f"{episode}:{','.join(recordings.views(episode))};".encode())
        digest.update(np.ascontiguousarray(recordings.states(episode)).tobytes())
    return digest.hexdigest()
