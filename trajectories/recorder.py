"""Record a run row by row, so that a power cut costs at most the last rows.

While it is recorded, an episode is a journal (one JSON line per row, flushed at once) and videos
that are readable at every moment. `close` turns them into a raw DROID episode; after a power cut
`recover` does the same with what is whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from trajectories.droid_raw import (
    CLOCK_KEY,
    EXTRINSICS_KEY,
    JOURNAL_FILE,
    SIGNALS_FILE,
    STATE_KEYS,
    VIDEO_FOLDER,
)
from trajectories.droid_raw_writer import write_metadata, write_signals
from trajectories.episode import Array
from trajectories.errors import CorruptDataError, InvalidEpisodeError
from trajectories.json_lines import JsonLines
from trajectories.poses import POSE_DIM
from trajectories.video_writer import Codec, Piece, VideoWriter, count_whole_frames, join

_SYNC_EVERY_S = 1.0
_HEADER = {"fps", "serials", "extrinsics", "attributes"}


@dataclass(frozen=True)
class CameraSpec:
    """A camera to be recorded.

    Attributes:
        frame_size: Height and width [px], both even.
        serial: Names the video file; the view's name when empty.
        extrinsics: Pose in the base frame `[6]` (m, extrinsic xyz Euler rad), where known.
    """

    frame_size: tuple[int, int]
    serial: str = ""
    extrinsics: tuple[float, ...] | None = None


class EpisodeRecorder:
    """Record one episode into a folder, which may hold other files.

    Args:
        folder: Made when it is missing.
        cameras: By view; `left`, `right` and `wrist` are DROID's names, others are kept as they are.
        fps: Rows per second that are expected; the videos play at this rate.
        task: In words.
        attributes: For the metadata; JSON values. DROID's keys keep their meaning.
        codec: See `VideoWriter`.

    Raises:
        InvalidEpisodeError: The folder holds an episode, finished or not.
    """

    def __init__(
        self,
        folder: Path,
        cameras: Mapping[str, CameraSpec],
        *,
        fps: float,
        task: str = "",
        attributes: Mapping[str, Any] | None = None,
        codec: Codec = "h264",
    ) -> None:
        journal = folder / JOURNAL_FILE
        if journal.exists() or any(folder.glob("metadata_*.json")):
            raise InvalidEpisodeError(
                f"{folder} holds an episode; use another folder, or "
                f"`python -m trajectories recover {folder}` if it was interrupted"
            )
        (folder / VIDEO_FOLDER).mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._serials = {view: spec.serial or view for view, spec in cameras.items()}
        self._videos = {
            view: VideoWriter(
                _live_video(folder, self._serials[view]), spec.frame_size, fps, codec, is_live=True
            )
            for view, spec in cameras.items()
        }
        self._journal = JsonLines(journal, is_new=True)
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self._time_s = -np.inf
        self._synced = time.monotonic()
        header = {
            "fps": fps,
            "serials": self._serials,
            "extrinsics": {v: spec.extrinsics for v, spec in cameras.items() if spec.extrinsics},
            "attributes": {**(attributes or {}), "current_task": task},
        }
        self._journal.add(header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._journal.is_closed:
            self.close(success=None)

    def append(
        self,
        state: NDArray[np.float64],
        time_s: float,
        frames: Mapping[str, NDArray[np.uint8]],
        signals: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Add one row; a crash of this program costs it at most, and no row before it.

        Args:
            state: Pose `[7]` at the time of the frames (see `trajectories.poses`).
            time_s: When, on any clock that never jumps; later than the row before.
            frames: Of every camera, uint8 RGB `[H, W, 3]`.
            signals: Further numbers under the path they get in `trajectory.h5`; the same names
                and shapes in every row.

        Raises:
            InvalidEpisodeError: The row does not fit the episode; nothing of it is kept.
            OSError: The disk is full or broken. The rows before are whole; add no more, and close.
        """
        values = {name: np.asarray(value) for name, value in (signals or {}).items()}
        self._check(np.asarray(state), time_s, frames, values)
        for view, frame in frames.items():
            self._videos[view].write(frame)
        self._time_s = time_s
        row = {
            "time_s": time_s,
            "state": np.asarray(state, dtype=np.float64).tolist(),
            "signals": {name: value.tolist() for name, value in values.items()},
        }
        self._journal.add(row)
        if time.monotonic() - self._synced > _SYNC_EVERY_S:
            self._sync()

    def close(self, success: bool | None) -> Path:  # noqa: FBT001 - an answer, not a switch
        """Finish the videos and publish the episode.

        An episode without a single row is removed.

        Returns:
            The folder.

        Raises:
            OSError: Something could not be written. What is whole was published where there was room
                for that; otherwise it lies as it was, for `recover` once there is.
        """
        failure = self._finish(success)
        recover(self._folder)
        if failure is not None:
            raise failure
        return self._folder

    def _finish(self, success: bool | None) -> OSError | None:  # noqa: FBT001 - as above
        failures = [_attempt(video.close) for video in self._videos.values()]
        failures.append(_attempt(lambda: self._journal.add({"success": success})))
        failures.append(_attempt(self._journal.sync))
        self._journal.close()
        return next((failure for failure in failures if failure is not None), None)

    def _check(
        self,
        state: Array,
        time_s: float,
        frames: Mapping[str, NDArray[np.uint8]],
        values: Mapping[str, Array],
    ) -> None:
        if state.shape != (POSE_DIM,) or not np.isfinite(state).all():
            raise InvalidEpisodeError(f"a state has to be {POSE_DIM} finite numbers, not {state}")
        if not (np.isfinite(time_s) and time_s > self._time_s):
            raise InvalidEpisodeError(f"a row at {time_s} s follows one at {self._time_s} s")
        if frames.keys() != self._videos.keys():
            raise InvalidEpisodeError(
                f"frames of {sorted(frames)}; the cameras are {sorted(self._videos)}"
            )
        for view, frame in frames.items():
            self._videos[view].check(frame)
        shapes = {name: value.shape for name, value in values.items()}
        if any(value.dtype.kind not in "biuf" for value in values.values()):
            raise InvalidEpisodeError("signals have to be numbers or booleans")
        self._shapes = shapes if self._shapes is None else self._shapes
        if shapes != self._shapes:
            raise InvalidEpisodeError(f"signals {shapes}; the first row had {self._shapes}")

    def _sync(self) -> None:
        for video in self._videos.values():
            video.sync()
        self._journal.sync()
        self._synced = time.monotonic()


def _attempt(write: Callable[[], object]) -> OSError | None:
    try:
        write()
    except OSError as error:
        return error
    return None


def recover(folder: Path) -> Path | None:
    """Make an episode of what an interrupted recording left; the rows that are whole everywhere.

    Returns:
        The folder, or None if there is nothing to recover.

    Raises:
        CorruptDataError: The journal is not one of ours, or no row has a frame of every camera.
    """
    journal = folder / JOURNAL_FILE
    if not journal.exists():
        return None
    header, rows, success = _read_journal(journal)
    serials: dict[str, str] = header["serials"]
    live = {view: _live_video(folder, serial) for view, serial in serials.items()}
    count = min([len(rows), *map(count_whole_frames, live.values())])
    if rows and not count:
        raise CorruptDataError(
            f"{folder} has {len(rows)} rows and a video without a whole frame; nothing was changed"
        )
    if count:
        for view, path in live.items():
            target = folder / VIDEO_FOLDER / f"{serials[view]}.mp4"
            join([Piece(path, count)], target, header["fps"])
        write_signals(folder / SIGNALS_FILE, _table(rows[:count], header, serials))
        lost = {"rows_lost": len(rows) - count} if count < len(rows) else {}
        write_metadata(folder, {**header["attributes"], **lost}, serials, count, success)
    for path in live.values():
        path.unlink(missing_ok=True)
    journal.unlink()
    return folder if count else None


def _read_journal(journal: Path) -> tuple[dict[str, Any], list[dict[str, Any]], bool | None]:
    """Header, whole rows, and the verdict if it came to one."""
    text = journal.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1].splitlines()
    try:
        lines = [json.loads(line) for line in whole]
        header = lines[0] if lines else None
        rows = [line for line in lines[1:] if "state" in line]
        success = lines[-1].get("success") if lines else None
        if header is not None and not header.keys() >= _HEADER:
            raise CorruptDataError(f"{journal} does not begin like a recording; remove it")
    except (ValueError, AttributeError, TypeError) as error:
        raise CorruptDataError(f"{journal} is damaged ({error}); mend or remove it") from error
    if header is None:
        return {"fps": 1.0, "serials": {}, "attributes": {}, "extrinsics": {}}, [], None
    return header, rows, success


def _table(
    rows: list[dict[str, Any]], header: Mapping[str, Any], serials: Mapping[str, str]
) -> dict[str, Array]:
    states = np.array([row["state"] for row in rows], dtype=np.float64)
    table: dict[str, Array] = {
        STATE_KEYS[0]: states[:, :6],
        STATE_KEYS[1]: states[:, 6],
        CLOCK_KEY: 1000.0 * np.array([row["time_s"] for row in rows], dtype=np.float64),
    }
    for name in rows[0]["signals"]:
        table[name] = np.array([row["signals"][name] for row in rows])
    for view, pose in header["extrinsics"].items():
        table[f"{EXTRINSICS_KEY}/{serials[view]}_left"] = np.tile(pose, (len(rows), 1))
    return table


def _live_video(folder: Path, serial: str) -> Path:
    return folder / VIDEO_FOLDER / f".{serial}.live.mp4"
