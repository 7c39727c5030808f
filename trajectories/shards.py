"""Equal-length episodes as memory-mapped arrays: what the simulator writes and the trainer reads.

A data set is a folder of `shard-NNNNN/` folders, each with `frames.npy` (uint8
`[E, T, H, W, 3]`), `states.npy` (float64 `[E, T, 7]`) and `episodes.json`. A shard appears under
its final name only when it is complete, so a crash leaves whole shards and at most one
`*.partial` folder, which the next writer removes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajectories.errors import CorruptDataError, InvalidEpisodeError
from trajectories.poses import POSE_DIM
from trajectories.storage import publish_folder

FORMAT_VERSION = 1


class ShardWriter:
    """Collect episodes in memory and publish them as one shard when closed.

    Args:
        directory: The shard's final folder, for example `data/shard-00003`.
        episode_length: Frames per episode, T.
        frame_size: Height and width of every frame [px].
        attributes: What to keep about the origin (seed, control period, ...); must be JSON.
    """

    def __init__(
        self,
        directory: Path,
        episode_length: int,
        frame_size: tuple[int, int],
        attributes: dict[str, Any],
    ) -> None:
        if directory.exists():
            raise CorruptDataError(f"{directory} exists; remove it or write to another folder")
        self._directory = directory
        self._frames_shape = (episode_length, *frame_size, 3)
        self._states_shape = (episode_length, POSE_DIM)
        self._attributes = attributes
        self._frames: list[NDArray[np.uint8]] = []
        self._states: list[NDArray[np.float64]] = []
        self._tasks: list[str] = []

    def append(self, frames: NDArray[np.uint8], states: NDArray[np.float64], task: str) -> None:
        """Add one episode: frames uint8 `[T, H, W, 3]` (RGB) and states float64 `[T, 7]`."""
        if frames.shape != self._frames_shape or frames.dtype != np.uint8:
            raise InvalidEpisodeError(
                f"frames are {frames.dtype}{frames.shape}; expected uint8{self._frames_shape}"
            )
        if states.shape != self._states_shape or not np.isfinite(states).all():
            raise InvalidEpisodeError(
                f"states of shape {states.shape} must be finite and have shape {self._states_shape}"
            )
        self._frames.append(frames)
        self._states.append(np.asarray(states, dtype=np.float64))
        self._tasks.append(task)

    def close(self) -> None:
        """Publish the shard by renaming it: readers see all of it or nothing."""
        if not self._frames:
            raise InvalidEpisodeError(f"no episode was appended to {self._directory}")
        partial = self._directory.with_name(self._directory.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        np.save(partial / "frames.npy", np.stack(self._frames))
        np.save(partial / "states.npy", np.stack(self._states))
        header = {
            "version": FORMAT_VERSION,
            "tasks": self._tasks,
            "attributes": self._attributes,
        }
        (partial / "episodes.json").write_text(json.dumps(header, indent=1))
        publish_folder(partial, self._directory)


@dataclass(frozen=True)
class Shard:
    """One opened shard; the arrays are memory maps and cost no memory until they are read."""

    frames: NDArray[np.uint8]  # [E, T, H, W, 3]
    states: NDArray[np.float64]  # [E, T, 7]
    tasks: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class ShardSet:
    """All shards of a data set, addressed by one episode index."""

    shards: tuple[Shard, ...]

    def __len__(self) -> int:
        return sum(len(shard.tasks) for shard in self.shards)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the stored frames [px]."""
        height, width = self.shards[0].frames.shape[2:4]
        return height, width

    @property
    def tasks(self) -> list[str]:
        """The task of every episode."""
        return [task for shard in self.shards for task in shard.tasks]

    @property
    def states(self) -> NDArray[np.float64]:
        """All states, float64 `[E, T, 7]`, in memory (a few MB for thousands of episodes)."""
        return np.concatenate([shard.states for shard in self.shards])

    def frames(self, episode: int) -> NDArray[np.uint8]:
        """The frames of one episode, uint8 `[T, H, W, 3]`."""
        shard, place = self.locate(episode)
        frames: NDArray[np.uint8] = shard.frames[place]
        return frames

    def locate(self, episode: int) -> tuple[Shard, int]:
        """The shard that an episode lies in, and its place there."""
        for shard in self.shards:
            if episode < len(shard.tasks):
                return shard, episode
            episode -= len(shard.tasks)
        raise IndexError(f"episode {episode} is past the end of the data set")


def open_shards(directory: Path) -> ShardSet:
    """Open every complete shard below `directory`.

    Raises:
        CorruptDataError: No shard is there, or a shard is damaged or of another format version.
    """
    paths = sorted(path for path in directory.glob("shard-*") if path.suffix != ".partial")
    if not paths:
        raise CorruptDataError(
            f"no shard in {directory}; make some with "
            f"`python -m simulation generate --output {directory}`"
        )
    shards = tuple(_open_shard(path) for path in paths)
    if len({shard.frames.shape[1:] for shard in shards}) > 1:
        raise CorruptDataError(f"the shards of {directory} differ in episode length or frame size")
    return ShardSet(shards)


def _open_shard(path: Path) -> Shard:
    try:
        header = json.loads((path / "episodes.json").read_text())
        frames = np.load(path / "frames.npy", mmap_mode="r", allow_pickle=False)
        states = np.load(path / "states.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:  # an empty .npy is the last of these
        raise CorruptDataError(f"{path} cannot be read ({error}); remove it") from error
    version = header.get("version") if isinstance(header, dict) else None
    if version != FORMAT_VERSION:
        raise CorruptDataError(
            f"{path} has format version {version}; this code reads {FORMAT_VERSION}"
        )
    tasks, attributes = header.get("tasks"), header.get("attributes")
    if not (isinstance(tasks, list) and isinstance(attributes, dict)):
        raise CorruptDataError(f"{path}/episodes.json lacks tasks or attributes; remove the shard")
    expected = (len(tasks), *frames.shape[1:2], POSE_DIM)
    if frames.ndim != 5 or len(frames) != len(tasks) or states.shape != expected:
        raise CorruptDataError(
            f"{path} holds {len(tasks)} tasks, frames {frames.shape} and states {states.shape}, which do not belong "
            "together; remove it"
        )
    return Shard(frames, states, tuple(tasks), attributes)
