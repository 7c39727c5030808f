"""Data sets: many episodes under one root, opened one at a time.

`open_dataset` looks at what is there and takes the reader that knows it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from trajectories import droid_raw, vjepa2_npz
from trajectories.cameras import ArrayCamera
from trajectories.defects import refuse_unusable
from trajectories.episode import Episode, Provenance
from trajectories.errors import (
    BadEpisodeError,
    Defect,
    TrajectoryError,
    UnknownFormatError,
)
from trajectories.lerobot.index import INFO_FILE
from trajectories.lerobot.keys import KeyMap
from trajectories.lerobot.reader import LeRobotReader
from trajectories.rlds import reader as rlds
from trajectories.rlds.reader import RldsReader
from trajectories.shards import open_shards
from trajectories.storage import Location, PathLike, locate
from trajectories.vjepa2_npz import NpzReader


class Dataset(ABC):
    """Episodes by index; reading one never reads another.

    Attributes:
        format: As in `Provenance.format`.
        root: Where it lies.
    """

    format: str
    root: Location

    @abstractmethod
    def __len__(self) -> int:
        """How many episodes there are, good and bad."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What episode `index` is called; known without opening it."""

    @abstractmethod
    def _open(self, index: int) -> Episode:
        """Open an episode by valid index."""

    def open(self, index: int) -> Episode:
        """Read the numbers of one episode and prepare its cameras.

        Raises:
            IndexError: There is no such episode.
            BadEpisodeError: It cannot be used; lists why.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.root} has {len(self)} episodes, no number {index}")
        try:
            return self._open(index)
        except BadEpisodeError:
            raise
        except (TrajectoryError, OSError) as error:
            raise BadEpisodeError(self.name(index), [Defect("unreadable", str(error))]) from error

    def __iter__(self) -> Iterator[Episode]:
        return map(self.open, range(len(self)))


def open_dataset(path: PathLike | Location, keys: KeyMap | None = None) -> Dataset:
    """Open whatever recordings lie at a path or URL.

    Args:
        path: A raw DROID tree or episode, a LeRobot or RLDS data set, an example `.npz` of V-JEPA 2,
            shards of our simulator, or the runs of our robot client.
        keys: Names of the columns of a LeRobot data set that is no port of DROID.

    Raises:
        UnknownFormatError: Nothing at the path is known; says what was looked for.
        CorruptDataError: The data set as a whole is damaged.
    """
    root = locate(path)
    if root.is_file():
        if root.name.endswith(".npz"):
            return _NpzDataset(root)
        raise UnknownFormatError(f"{root} is a file, but no .npz; give the folder of the data set")
    if not root.is_folder():
        raise UnknownFormatError(f"{root} does not exist")
    if (root / INFO_FILE).is_file():
        return _LeRobotDataset(root, keys)
    if any(entry.name.startswith("shard-") for entry, is_folder in root.children() if is_folder):
        return _ShardDataset(root)
    if rlds.is_root(root):
        return _RldsDataset(root)
    folders = list(droid_raw.find(root))
    if folders:
        return DroidRawDataset(root, folders)
    raise UnknownFormatError(
        f"{root} holds no recording: no {INFO_FILE} (LeRobot), no *.tfrecord* (RLDS), no shard-* "
        f"(simulator), and no folder with {droid_raw.SIGNALS_FILE} or metadata_*.json (DROID raw)"
    )


def open_episode(path: PathLike, keys: KeyMap | None = None) -> Episode:
    """Open one episode: `PATH`, or `PATH#INDEX` of many.

    Raises:
        UnknownFormatError: Nothing at the path is known, or it holds several episodes.
        BadEpisodeError: It cannot be used.
    """
    place, mark, number = str(path).rpartition("#")
    if mark and number.isdecimal():
        return open_dataset(place, keys).open(int(number))
    dataset = open_dataset(path, keys)
    if len(dataset) != 1:
        raise UnknownFormatError(
            f"{path} holds {len(dataset)} episodes; choose one with {path}#0 .. #{len(dataset) - 1}"
        )
    return dataset.open(0)


class DroidRawDataset(Dataset):
    """Raw DROID episodes below a folder."""

    format = droid_raw.FORMAT

    def __init__(self, root: Location, folders: list[Location]) -> None:
        self.root = root
        self._folders = folders

    def __len__(self) -> int:
        return len(self._folders)

    def name(self, index: int) -> str:
        """The episode's folder, seen from the root."""
        folder = self._folders[index]
        return folder.path[len(self.root.path) :].strip("/") or folder.name

    def _open(self, index: int) -> Episode:
        return droid_raw.open_episode(self._folders[index], self.name(index))


class _LeRobotDataset(Dataset):
    def __init__(self, root: Location, keys: KeyMap | None) -> None:
        self.root = root
        self._reader = LeRobotReader(root, keys)
        self.format = f"lerobot_{self._reader.version}"

    def __len__(self) -> int:
        return len(self._reader.index)

    def name(self, index: int) -> str:
        return f"episode {index}"

    def _open(self, index: int) -> Episode:
        return self._reader.open_episode(self._reader.index.entry(index), self.name(index))


class _RldsDataset(Dataset):
    format = rlds.FORMAT

    def __init__(self, root: Location) -> None:
        self.root = root
        self._reader = RldsReader(root)

    def __len__(self) -> int:
        return len(self._reader)

    def name(self, index: int) -> str:
        return self._reader.name(index)

    def _open(self, index: int) -> Episode:
        return self._reader.open_episode(index)


class _NpzDataset(Dataset):
    format = vjepa2_npz.FORMAT

    def __init__(self, root: Location) -> None:
        self.root = root
        self._reader = NpzReader(root)

    def __len__(self) -> int:
        return len(self._reader)

    def name(self, index: int) -> str:
        return f"{self.root.name}#{index}"

    def _open(self, index: int) -> Episode:
        return self._reader.open_episode(index, self.name(index))


class _ShardDataset(Dataset):
    """What the simulator writes; its one camera is a fixed one, `left`."""

    format = "shards"

    def __init__(self, root: Location) -> None:
        self.root = root
        self._shards = open_shards(root.local())
        self._tasks = self._shards.tasks

    def __len__(self) -> int:
        return len(self._shards)

    def name(self, index: int) -> str:
        return f"episode {index}"

    def _open(self, index: int) -> Episode:
        shard, place = self._shards.locate(index)
        states = np.asarray(shard.states[place], dtype=np.float64)
        period_s = float(shard.attributes.get("control_period_s", 1.0))
        times_s = np.arange(len(states), dtype=np.float64) * period_s
        refuse_unusable(self.name(index), states, times_s)
        return Episode(
            name=self.name(index),
            states=states,
            times_s=times_s,
            cameras={"left": ArrayCamera(shard.frames[place])},
            clock="measured",
            provenance=Provenance(self.format, f"{self.root}#{index}", shard.attributes),
            task=shard.tasks[place],
        )
