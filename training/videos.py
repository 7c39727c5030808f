"""Sets of videos by number, whatever they are stored in: lists, folders, tar shards, episodes.

Opening one video never reads another. Everything here is picklable, so that loading processes can
have a copy.
"""

from __future__ import annotations

import io
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from training.errors import ConfigurationError, DataError
from training.pretrain_config import SourceConfig
from trajectories.cameras import CameraStream, Frames, ImageCamera
from trajectories.dataset import Dataset, open_dataset
from trajectories.storage import Location
from trajectories.video import OpenVideo

VIDEO_SUFFIXES: Final = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v")
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png")
_SUFFIXES: Final = VIDEO_SUFFIXES + IMAGE_SUFFIXES


class Videos(ABC):
    """Videos by number."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are, readable or not."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What a video is called, for messages."""

    @abstractmethod
    def open(self, index: int, rng: np.random.Generator) -> CameraStream:
        """Open a video; the caller closes it.

        Args:
            index: Which one.
            rng: Chooses, where a recording has several cameras.

        Raises:
            TrajectoryError, OSError: It cannot be read.
        """


def open_videos(name: str, config: SourceConfig) -> Videos:
    """Find the videos of a source.

    Args:
        name: The source, for messages.
        config: Where and what it is.

    Raises:
        ConfigurationError: There is no path.
        DataError: There is nothing at the path, or nothing that is a video.
        TrajectoryError: The recordings cannot be opened.
    """
    if config.path is None:
        raise ConfigurationError(f"data.{name} has no path; pass --data {name}=PATH")
    if config.kind == "episodes":
        videos: Videos = EpisodeVideos(open_dataset(config.path), config.views)
    elif config.kind == "webdataset":
        videos = TarVideos(_find_shards(name, config.path))
    elif config.kind == "csv":
        videos = VideoFiles(_read_list(name, Path(config.path)))
    else:
        videos = VideoFiles(_find_files(name, Path(config.path)))
    if not len(videos):
        raise DataError(f"data.{name}: there is no video in {config.path}")
    return videos


class VideoFiles(Videos):
    """Video and image files."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """Return the path."""
        return self._paths[index]

    def open(self, index: int, rng: np.random.Generator) -> CameraStream:  # noqa: ARG002
        """Open the file."""
        path = Path(self._paths[index])
        return _open_file(Location(str(path.absolute())), path.name)


@dataclass(frozen=True)
class _Member(Location):
    """A file inside of a tar file, as if it lay on the disk."""

    offset: int = 0
    length: int = 0
    shard: str = ""

    def __str__(self) -> str:
        return f"{self.shard}:{self.path}"

    def size(self) -> int:
        """Size in bytes."""
        return self.length

    def open(self) -> IO[bytes]:
        """Read it into memory."""
        with Path(self.shard).open("rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.length))

    def av_source(self) -> IO[bytes]:
        """Return it in memory."""
        return self.open()


class TarVideos(Videos):
    """WebDataset shards, by random access: each tar file's headers are read once, at the start."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._members = [member for shard in shards for member in _members(shard)]

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """Return shard and member."""
        return str(self._members[index])

    def open(self, index: int, rng: np.random.Generator) -> CameraStream:  # noqa: ARG002
        """Read the member."""
        member = self._members[index]
        return _open_file(member, member.path)


class EpisodeVideos(Videos):
    """Recorded episodes, one of their cameras at a time."""

    def __init__(self, dataset: Dataset, views: Sequence[str]) -> None:
        self._dataset = dataset
        self._views = tuple(views)

    def __len__(self) -> int:
        return len(self._dataset)

    def name(self, index: int) -> str:
        """Return the episode's name."""
        return self._dataset.name(index)

    def open(self, index: int, rng: np.random.Generator) -> CameraStream:
        """Open one camera of an episode."""
        episode = self._dataset.open(index)
        views = self._views or tuple(episode.cameras)
        return episode.camera(views[int(rng.integers(len(views)))])


class _FileCamera(CameraStream):
    """All frames of a video file."""

    def __init__(self, file: Location) -> None:
        self._video = OpenVideo(file)
        self.nominal_fps = self._video.nominal_fps

    def __len__(self) -> int:
        return len(self._video.table.shown)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width [px]."""
        return self._video.frame_size

    def _read(self, rows: NDArray[np.int64]) -> Frames:
        decoded = {int(row): self._video.frame(int(row)) for row in np.unique(rows)}
        return np.stack([decoded[int(row)] for row in rows])

    def close(self) -> None:
        """Close the file."""
        self._video.close()


def _open_file(file: Location, name: str) -> CameraStream:
    if name.lower().endswith(IMAGE_SUFFIXES):
        return ImageCamera([file.read_bytes()])
    return _FileCamera(file)


def _read_list(name: str, path: Path) -> list[str]:
    """Read the paths of a list; relative ones start at the list's folder."""
    if not path.is_file():
        raise DataError(f"data.{name}: there is no list {path}")
    lines = path.read_text(encoding="utf-8").splitlines()
    paths = []
    for line in lines:
        fields = line.split("::") if "::" in line else line.rsplit(maxsplit=1)
        if fields and fields[0].strip():
            # A line may be a path alone; a label is not needed here.
            is_alone = len(fields) == 2 and fields[1].lower().endswith(_SUFFIXES)
            paths.append(line.strip() if is_alone else fields[0].strip())
    return [str(path.parent / found) for found in paths]


def _find_files(name: str, path: Path) -> list[str]:
    if not path.is_dir():
        raise DataError(f"data.{name}: there is no folder {path}")
    return sorted(str(found) for found in path.rglob("*") if found.suffix.lower() in _SUFFIXES)


def _find_shards(name: str, pattern: str) -> list[Path]:
    path = Path(pattern)
    shards = sorted(path.glob("*.tar") if path.is_dir() else path.parent.glob(path.name))
    if not shards:
        raise DataError(f"data.{name}: there is no shard {pattern}")
    return shards


def _members(shard: Path) -> list[_Member]:
    try:
        with tarfile.open(shard, "r:") as archive:
            return [
                _Member(info.name, None, "", info.offset_data, info.size, str(shard))
                for info in archive
                if info.isfile() and info.name.lower().endswith(_SUFFIXES)
            ]
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{shard} is no tar file that can be read ({error}); remove it") from error
