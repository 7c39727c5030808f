"""The folder of recorded episodes as people browse it: what lies there, a report, a download. Reads no recordings.

Episodes are folders as the robot client and DROID leave them. Nothing outside the folder is ever read, links included.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner_server.errors import PlannerError

REPORT_FILE = "index.html"
_SIGNS = ("trajectory.h5", "recording.journal", "episode.jsonl")
_DEEPEST = 6  # DROID: lab / outcome / date / time
_MOST_ENTRIES = 100_000  # looked at for one list
_MOST_FILES = 10_000  # of one download
_LARGEST_DOWNLOAD_BYTES = 4 * 1024**3
_LARGEST_NOTE_BYTES = 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_VIEWS = ("left", "right", "wrist")


@dataclass(frozen=True)
class RecordedEpisode:
    """One recorded episode, as its folder's small files describe it.

    Attributes:
        name: Its path below the episodes folder.
        path: The folder.
        recorded_at: When it was written last [s since 1970].
        frames: Rows recorded; None where nobody wrote that down.
        cameras: Views that were filmed.
        task: What was to be done.
        success: Whether it was; None when unknown.
        headline: How the run went, in a sentence.
        session_id: Session that planned it.
        size_bytes: Of all its files together.
        has_report: Whether a report lies beside it.
    """

    name: str
    path: Path
    recorded_at: float
    frames: int | None
    cameras: list[str]
    task: str
    success: bool | None
    headline: str
    session_id: str | None
    size_bytes: int
    has_report: bool


@dataclass(frozen=True)
class ReplayReport:
    """A report that judges planners on recorded episodes.

    Attributes:
        name: Its folder's path below the episodes folder.
        made_at: When it was written [s since 1970].
    """

    name: str
    made_at: float


def list_episodes(root: Path) -> tuple[list[RecordedEpisode], list[ReplayReport]]:
    """Return the episodes and replay reports below a folder, newest first; none where it is not there."""
    root = root.resolve()
    episodes, replays = [], []
    for folder, files in _folders(root):
        with contextlib.suppress(OSError):  # a folder that goes while it is looked at
            if _is_episode(files):
                episodes.append(_describe(root, folder, files))
            else:
                made_at = (folder / REPORT_FILE).stat().st_mtime
                replays.append(ReplayReport(folder.relative_to(root).as_posix(), made_at))
    episodes.sort(key=lambda episode: (-episode.recorded_at, episode.name))
    replays.sort(key=lambda report: (-report.made_at, report.name))
    return episodes, replays


def find_episode(root: Path, name: str) -> RecordedEpisode:
    """Return an episode by its name.

    Raises:
        PlannerError: `not_found`.
    """
    folder, files = _find(root, name)
    if not _is_episode(files):
        raise _unknown(name)
    return _describe(root.resolve(), folder, files)


def read_report(root: Path, name: str) -> str:
    """Return the page that describes an episode, or that judges planners on some.

    Raises:
        PlannerError: `not_found`.
    """
    folder, files = _find(root, name)
    path = folder / REPORT_FILE
    if REPORT_FILE not in files or path.is_symlink():
        raise _unknown(name, "report")
    return path.read_text(encoding="utf-8", errors="replace")


def zip_episode(episode: RecordedEpisode) -> Iterator[bytes]:
    """Return an episode's folder as a zip file, piece by piece: memory holds one piece at a time.

    Raises:
        PlannerError: `too_large`; before the first piece.
    """
    files = list(_files(episode.path))
    size = sum(map(_size, files))
    if len(files) > _MOST_FILES or size > _LARGEST_DOWNLOAD_BYTES:
        raise PlannerError(
            "too_large",
            f"episode {episode.name[:200]!r} has {len(files)} files of {size} bytes together; at most "
            f"{_MOST_FILES} of {_LARGEST_DOWNLOAD_BYTES} bytes are served. Copy it from the server's disk",
        )
    return _zipped(episode.path, files)


def _zipped(folder: Path, files: list[Path]) -> Iterator[bytes]:
    outlet = _Outlet()
    with zipfile.ZipFile(
        outlet, "w", zipfile.ZIP_STORED
    ) as archive:  # films are compressed already
        for path in files:
            name = f"{folder.name}/{path.relative_to(folder)}"
            try:
                entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
                source = path.open("rb")
            except OSError:
                continue  # a draft that has been replaced since
            left = entry.file_size
            # What is still being written grows; the entry has what was there in the beginning.
            with source, archive.open(entry, "w", force_zip64=True) as target:
                while left > 0 and (piece := source.read(min(left, _CHUNK_BYTES))):
                    target.write(piece)
                    left -= len(piece)
                    yield outlet.take()
    yield outlet.take()


class _Outlet:
    """A file that cannot seek, whose content is taken away piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing to free."""

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Find episodes and reports below a folder, and the names in them; what is inside one is not searched further."""
    waiting, seen = [(root, 0)], 0
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                inside = list(entries)
        except OSError:
            continue  # gone meanwhile, or not ours to read
        seen += len(inside)
        files = [entry.name for entry in inside]
        if folder != root and (_is_episode(files) or REPORT_FILE in files):
            yield folder, files
        elif depth < _DEEPEST and seen < _MOST_ENTRIES:
            waiting += [
                (Path(entry.path), depth + 1)
                for entry in inside
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            ]


def _find(root: Path, name: str) -> tuple[Path, list[str]]:
    """Return a folder below the root, and the names in it; none where there is no such folder."""
    root = root.resolve()
    try:
        folder = (root / name).resolve()
        is_inside = folder != root and folder.is_relative_to(root) and folder.is_dir()
        return folder, [entry.name for entry in folder.iterdir()] if is_inside else []
    except (OSError, ValueError):  # a name that no file system takes
        return root, []


def _unknown(name: str, what: str = "episode") -> PlannerError:
    return PlannerError(
        "not_found", f"there is no {what} {name[:200]!r}; GET /v1/episodes lists what there is"
    )


def _size(path: Path) -> int:
    """Return a file's size, 0 where it is gone: a robot that records renames its drafts."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_episode(files: list[str]) -> bool:
    return any(name in _SIGNS or _is_metadata(name) for name in files)


def _is_metadata(name: str) -> bool:
    return name.startswith("metadata_") and name.endswith(".json")


def _describe(root: Path, folder: Path, files: list[str]) -> RecordedEpisode:
    metadata: dict[str, Any] = {}
    for name in filter(_is_metadata, files):
        metadata = _read_note(folder / name)
    summary = _read_note(folder / "summary.json") if "summary.json" in files else {}
    frames, success = metadata.get("trajectory_length"), metadata.get("success")
    verdict = summary.get("verdict")  # the simulator's, who knows
    if success is None and isinstance(verdict, dict):
        success = verdict.get("is_success")
    session_id = metadata.get("session")
    return RecordedEpisode(
        name=folder.relative_to(root).as_posix(),
        path=folder,
        recorded_at=folder.stat().st_mtime,
        frames=frames if isinstance(frames, int) else None,
        cameras=[view for view in _VIEWS if f"{view}_mp4_path" in metadata],
        task=str(metadata.get("current_task") or summary.get("task") or ""),
        success=success if isinstance(success, bool) else None,
        headline=str(summary.get("headline") or ""),
        session_id=session_id if isinstance(session_id, str) else None,
        size_bytes=sum(map(_size, _files(folder))),
        has_report=REPORT_FILE in files,
    )


def _read_note(path: Path) -> dict[str, Any]:
    """Return a small JSON file; what cannot be read says nothing."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_LARGEST_NOTE_BYTES))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _files(folder: Path) -> Iterator[Path]:
    """Return the regular files below a folder, in order of path."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if path.is_file() and not path.is_symlink():
                yield path
