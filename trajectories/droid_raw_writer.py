"""Writer of raw DROID episodes.

A folder becomes an episode by its metadata file, which is written last; before that it is an
unfinished one and readers say so.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trajectories.cameras import CameraStream
from trajectories.droid_raw import CLOCK_KEY, EXTRINSICS_KEY, SIGNALS_FILE, STATE_KEYS, VIDEO_FOLDER
from trajectories.episode import Array, Episode
from trajectories.errors import InvalidEpisodeError
from trajectories.storage import write_whole
from trajectories.video import VideoCamera
from trajectories.video_writer import Codec, VideoWriter

_EXTERIOR = {"left": "ext1", "right": "ext2"}


def write_episode(episode: Episode, folder: Path, codec: Codec = "h264") -> Path:
    """Write a whole episode into `folder`; states, timestamps and signals stay exact.

    A video that is a file of its own already is copied, others are encoded.

    Raises:
        InvalidEpisodeError: The folder holds an episode already.
    """
    if any(folder.glob("metadata_*.json")):
        raise InvalidEpisodeError(f"{folder} holds an episode; remove it or write elsewhere")
    serials = serials_of(episode)
    videos = folder / VIDEO_FOLDER
    videos.mkdir(parents=True, exist_ok=True)
    for view, stream in episode.cameras.items():
        _write_video(stream, videos / f"{serials[view]}.mp4", episode.fps or 1.0, codec)
    write_signals(folder / SIGNALS_FILE, _table(episode, serials))
    kept = {**episode.provenance.attributes, "current_task": episode.task}
    write_metadata(folder, kept, serials, len(episode), episode.success)
    return folder


def serials_of(episode: Episode) -> dict[str, str]:
    """Serial number of each camera: the recorded one, or the view's name."""
    known = episode.provenance.attributes
    return {
        view: str(known.get(f"{_EXTERIOR.get(view, view)}_cam_serial") or view)
        for view in episode.cameras
    }


def write_signals(path: Path, table: Mapping[str, Array]) -> None:
    """Write `trajectory.h5` whole or not at all."""
    import h5py

    # In memory first: the library takes a disk that fills up badly, to the point of a crash.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for key, values in table.items():
            file.create_dataset(key, data=values)
    write_whole(path, lambda draft: _write_bytes(draft, content.getvalue()))


def write_metadata(
    folder: Path,
    attributes: Mapping[str, Any],
    serials: Mapping[str, str],
    rows: int,
    success: bool | None,  # noqa: FBT001 - an answer, not a switch
) -> None:
    """Write the metadata file, whole or not at all; with it the episode is complete."""
    uuid = str(attributes.get("uuid") or folder.name)
    place = "/".join(folder.absolute().parts[-3:])  # seen from the lab's folder
    metadata = {
        **attributes,
        "uuid": uuid,
        "hdf5_path": f"{place}/{SIGNALS_FILE}",
        "success": success,
        "trajectory_length": rows,
    }
    for view, serial in serials.items():
        video = f"{place}/{VIDEO_FOLDER}/{serial}.mp4"
        camera = _EXTERIOR.get(view, view)
        metadata |= {f"{camera}_cam_serial": serial, f"{camera}_mp4_path": video}
        if view in _EXTERIOR:
            metadata[f"{view}_mp4_path"] = video
    text = json.dumps(metadata, indent=1, ensure_ascii=False) + "\n"
    safe = "".join(c if c.isalnum() or c in "+-_." else "-" for c in uuid)
    write_whole(folder / f"metadata_{safe}.json", lambda draft: _write_text(draft, text))


def _table(episode: Episode, serials: Mapping[str, str]) -> dict[str, Array]:
    table: dict[str, Array] = {
        STATE_KEYS[0]: episode.states[:, :6],
        STATE_KEYS[1]: episode.states[:, 6],
        **episode.signals,
    }
    if CLOCK_KEY not in table and episode.clock == "measured":
        table[CLOCK_KEY] = 1000.0 * episode.times_s
    for view, pose in episode.extrinsics.items():
        if view in serials:
            table[f"{EXTRINSICS_KEY}/{serials[view]}_left"] = pose
    return table


def _write_video(stream: CameraStream, path: Path, fps: float, codec: Codec) -> None:
    if isinstance(stream, VideoCamera) and stream.is_whole_file:
        stream.open()  # a damaged one is not copied

        def copy(draft: Path) -> None:
            with stream.file.open() as source, draft.open("wb") as target:
                shutil.copyfileobj(source, target)

        write_whole(path, copy)
        return

    def encode(draft: Path) -> None:
        writer = VideoWriter(draft, stream.frame_size, fps, codec)
        for frame in stream.frames():
            writer.write(frame)
        writer.close()

    write_whole(path, encode)


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
