"""Writer of LeRobot v3.0 data sets: many episodes per file, safe against crashes, resumable.

An added episode is first staged whole (`stage`). `close`, and a full stage, merges what is
staged into few files (`files`), the last of which, `meta/info.json`, counts what is part of
the data set. Whatever a crash leaves behind is either staged, and merged by the next writer, or not
counted, and overwritten.
"""

from __future__ import annotations

import fcntl
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from typing_extensions import Self

from trajectories.episode import Array, Episode
from trajectories.errors import InvalidEpisodeError, TrajectoryError
from trajectories.lerobot.columns import camera_feature, cameras_of, columns_of, features_of
from trajectories.lerobot.files import BOOKKEEPING, VIDEO_MB, LeRobotFiles, bookkeeping_features
from trajectories.lerobot.stage import STAGE_FOLDER, Staged, read_staged, source_of, write_staged
from trajectories.video_writer import Codec

_RATE_SLACK = 0.05


class LeRobotWriter:
    """Create a data set, or add to one that this writer made.

    Args:
        root: Its folder, local.
        fps: Rows per second; episodes of another rate are refused, see `clock.resample`.
        robot_type: As LeRobot names it.
        codec: See `VideoWriter`.

    Raises:
        InvalidEpisodeError: The data set there has another rate, or another writer has it open.
        CorruptDataError: The data set there is damaged or of another version.
    """

    def __init__(
        self, root: Path, *, fps: float, robot_type: str = "Franka", codec: Codec = "h264"
    ) -> None:
        self._root = root
        self._fps: float = int(fps) if float(fps).is_integer() else fps
        self._codec = codec
        self._stage = root / STAGE_FOLDER
        self._stage.mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(self._stage / "lock")
        try:
            self._files = LeRobotFiles.open(root, self._fps, robot_type)
            self._sources = self._files.sources()
            self._staged = self._take_up()
            self._sizes = sum(map(_sizes, self._staged), Counter[str]())
        except TrajectoryError:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._files.info["total_episodes"]) + len(self._staged)

    def __contains__(self, source: str) -> bool:
        """Whether an episode of that source (see `source_of`) is in the data set."""
        return source in self._sources or any(source == staged.source for staged in self._staged)

    def add(self, episode: Episode) -> int:
        """Add an episode; it is safe on disk when this returns.

        Returns:
            Its `episode_index`.

        Raises:
            InvalidEpisodeError: It is there already, its rate or its columns are others.
            CorruptDataError: A frame cannot be decoded.
        """
        source = source_of(episode)
        if source in self:
            raise InvalidEpisodeError(f"{source} is in {self._root} already")
        rate = episode.fps
        if len(episode) > 1 and abs(rate / self._fps - 1) > _RATE_SLACK:
            raise InvalidEpisodeError(
                f"{episode.name} has {rate:.2f} rows/s, the data set {self._fps}; resample it first"
            )
        columns = columns_of(episode)
        features = self._features(episode, columns)
        number = int(self._staged[-1].folder.name) + 1 if self._staged else 0
        folder = self._stage / f"{number:06d}"
        staged = write_staged(folder, episode, columns, features, self._fps, self._codec)
        self._files.info["features"] = features
        self._staged.append(staged)
        self._sizes.update(_sizes(staged))
        if max(self._sizes.values()) > VIDEO_MB * 1e6:
            self._publish()
        return len(self) - 1

    def close(self) -> None:
        """Merge what is staged and let go of the folder."""
        if self._lock.closed:
            return
        if self._staged:
            self._publish()
        shutil.rmtree(self._stage)
        self._lock.close()

    def _features(self, episode: Episode, columns: Mapping[str, Array]) -> dict[str, Any]:
        """The data set's features, held against an episode's; the first episode defines them."""
        found = features_of(columns)
        for column, view in cameras_of(episode).items():
            size = episode.camera(view).frame_size
            found[column] = camera_feature(size, self._fps, self._codec)
        wanted: dict[str, Any] = self._files.info["features"]
        if not wanted:
            return found | bookkeeping_features()
        for name in sorted(wanted.keys() - set(BOOKKEEPING)):
            if _kind(found.get(name)) != _kind(wanted[name]):
                raise InvalidEpisodeError(
                    f"{episode.name} has {name} as {_kind(found.get(name))}; "
                    f"the data set has {_kind(wanted[name])}"
                )
        extra = found.keys() - wanted.keys()
        if extra:
            raise InvalidEpisodeError(
                f"{episode.name} has {', '.join(sorted(extra))}, which the data set has not; "
                "write it to a data set of its own"
            )
        return wanted

    def _take_up(self) -> list[Staged]:
        """What an earlier writer staged and did not merge."""
        for leftover in self._stage.glob("*.partial"):
            shutil.rmtree(leftover)
        folders = [path for path in sorted(self._stage.iterdir()) if path.name.isdecimal()]
        staged = [read_staged(folder) for folder in folders]
        # A crash between the commit and the clearing of the stage leaves merged episodes there.
        for merged in [episode for episode in staged if episode.source in self._sources]:
            shutil.rmtree(merged.folder)
            staged.remove(merged)
        if staged and not self._files.info["features"]:
            self._files.info["features"] = staged[0].features
        return staged

    def _publish(self) -> None:
        self._files.merge(self._staged)
        self._sources |= {staged.source for staged in self._staged}
        for staged in self._staged:
            shutil.rmtree(staged.folder)
        self._staged = []
        self._sizes.clear()


def _kind(feature: Mapping[str, Any] | None) -> str:
    """What two features have to agree in."""
    if feature is None:
        return "nothing"
    codec = feature.get("info", {}).get("video.codec", "")
    return f"{feature['dtype']}{list(feature['shape'])} {codec}".strip()


def _sizes(staged: Staged) -> Counter[str]:
    """Size of every file of a staged episode [bytes]."""
    return Counter({path.name: path.stat().st_size for path in staged.folder.iterdir()})


def _take_lock(path: Path) -> IO[str]:
    """Hold a file for this process; the system lets go of it whatever happens to the process."""
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise InvalidEpisodeError(f"another writer has {path.parent.parent} open") from error
    return lock
