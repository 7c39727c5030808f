"""Where recordings lie: local folders, and any root that fsspec knows (`hf://`, `gs://`, ...).

Remote files are read through a cache of a few blocks, so that one episode is fetched and not the
data set it lies in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from trajectories.errors import TrajectoryError

PathLike = str | Path

_BLOCK_BYTES = 1 << 20
_BLOCKS = 16


@dataclass(frozen=True)
class Location:
    """A file or folder.

    Attributes:
        path: Its path as its file system writes it.
        filesystem: The fsspec file system; None is the local disk.
        protocol: For messages, for example `hf`; empty on the local disk.
    """

    path: str
    filesystem: Any = None
    protocol: str = ""

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path}" if self.protocol else self.path

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.path.rstrip('/')}/{name}", self.filesystem, self.protocol)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether it lies on the local disk."""
        return self.filesystem is None

    def local(self) -> Path:
        """The local path.

        Raises:
            TrajectoryError: It is not on the local disk.
        """
        if not self.is_local:
            raise TrajectoryError(
                f"{self} is not a local path; write to a local folder and upload it"
            )
        return Path(self.path)

    def is_file(self) -> bool:
        """Whether there is such a file."""
        if self.is_local:
            return Path(self.path).is_file()
        return bool(self.filesystem.isfile(self.path))

    def is_folder(self) -> bool:
        """Whether there is such a folder."""
        if self.is_local:
            return Path(self.path).is_dir()
        return bool(self.filesystem.isdir(self.path))

    def size(self) -> int:
        """Size of the file in bytes."""
        if self.is_local:
            return Path(self.path).stat().st_size
        return int(self.filesystem.size(self.path))

    def children(self) -> list[tuple[Location, bool]]:
        """Entries of the folder in order of name, each with whether it is a folder.

        Links to folders are not followed, so that a circle of links ends.
        """
        if self.is_local:
            entries = [
                (Location(str(p)), p.is_dir() and not p.is_symlink())
                for p in Path(self.path).iterdir()
            ]
        else:
            entries = [
                (
                    Location(entry["name"], self.filesystem, self.protocol),
                    entry["type"] == "directory",
                )
                for entry in self.filesystem.ls(self.path, detail=True)
                if entry["name"].rstrip("/") != self.path.rstrip("/")
            ]
        return sorted(entries, key=lambda entry: entry[0].path)

    def open(self) -> IO[bytes]:
        """Open the file for reading; remote ones through a bounded cache."""
        if self.is_local:
            return Path(self.path).open("rb")
        options = {"cache_type": "blockcache", "cache_options": {"maxblocks": _BLOCKS}}
        stream: IO[bytes] = self.filesystem.open(
            self.path, "rb", block_size=_BLOCK_BYTES, **options
        )
        return stream

    def read_bytes(self) -> bytes:
        """The whole file."""
        with self.open() as file:
            return file.read()

    def av_source(self) -> str | IO[bytes]:
        """What PyAV, h5py and pyarrow take: a path, or an open file."""
        return self.path if self.is_local else self.open()


def sync(path: Path) -> None:
    """Have the operating system put a file, or the names in a folder, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that readers, and a power cut, find the old one or the new one, never half.

    Args:
        path: The file; its folder is made.
        write: Is given a draft's path and writes all of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    try:
        write(draft)
        sync(draft)
    except OSError:
        draft.unlink(missing_ok=True)  # on a full disk it would keep the room that others need
        raise
    draft.replace(path)


def publish_folder(partial: Path, final: Path) -> None:
    """Give a folder of files its final name once all of it is on disk.

    Readers, and a power cut, find the whole folder under that name or none. `final` must not exist.
    """
    for path in partial.rglob("*"):
        sync(path)
    sync(partial)
    partial.rename(final)
    sync(final.parent)


def locate(path: PathLike | Location) -> Location:
    """Turn a path or URL into a location.

    Raises:
        TrajectoryError: The URL's protocol needs a package that is not installed.
    """
    if isinstance(path, Location):
        return path
    if isinstance(path, Path) or "://" not in path:
        return Location(str(Path(path).absolute()))
    import fsspec

    protocol = path.partition("://")[0]
    if protocol == "file":
        return Location(path.partition("://")[2])
    try:
        filesystem, inner = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise TrajectoryError(f"cannot open {path}: {error}") from error
    return Location(inner.rstrip("/"), filesystem, protocol)
