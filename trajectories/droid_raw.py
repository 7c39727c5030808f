"""Reader of raw DROID episodes, and of our own recordings, which have the same layout.

    <anything>/<episode>/metadata_<uuid>.json
                         trajectory.h5
                         recordings/MP4/<serial>.mp4

Frame i of a video is row i of `trajectory.h5`. That is checked, not assumed: a camera whose video
has another number of frames makes the episode a bad one as soon as it is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajectories.defects import anomalies, refuse_unusable
from trajectories.episode import Array, Clock, Episode, Provenance
from trajectories.errors import BadEpisodeError, Defect
from trajectories.storage import Location
from trajectories.video import VideoCamera

FORMAT = "droid_raw"
ROW_RATE_HZ = 15.0
"""Rate of DROID's control loop, for episodes without timestamps."""

SIGNALS_FILE = "trajectory.h5"
JOURNAL_FILE = "recording.journal"
"""Lies in the folder of an episode that is being recorded, or whose recording was interrupted."""

VIDEO_FOLDER = "recordings/MP4"
STATE_KEYS = (
    "observation/robot_state/cartesian_position",
    "observation/robot_state/gripper_position",
)
CLOCK_KEY = "observation/timestamp/control/step_start"
EXTRINSICS_KEY = "observation/camera_extrinsics"

_PATH_SUFFIX = "_mp4_path"

# Keys of the metadata, the first that is there counts; `left` and `right` are the fixed cameras.
_VIEW_KEYS = {
    "left": ("left_mp4_path", "ext1_mp4_path"),
    "right": ("right_mp4_path", "ext2_mp4_path"),
    "wrist": ("wrist_mp4_path",),
}


def find(folder: Location) -> Iterator[Location]:
    """All episode folders below `folder`, in order of path; a finding is not searched further."""
    entries = folder.children()
    names = {entry.name for entry, _ in entries}
    if names & {SIGNALS_FILE, JOURNAL_FILE} or any(map(_is_metadata, names)):
        yield folder
        return
    for entry, is_folder in entries:
        if is_folder and not entry.name.startswith("."):
            yield from find(entry)


def open_episode(folder: Location, name: str | None = None) -> Episode:
    """Read the numbers of one episode and prepare its cameras.

    Raises:
        BadEpisodeError: It cannot be used; lists why.
    """
    name = folder.name if name is None else name
    metadata = _read_metadata(folder, name)
    table = _read_table(folder, name)
    states = np.concatenate(
        [_matrix(table, STATE_KEYS[0], 6, name), _matrix(table, STATE_KEYS[1], 1, name)], axis=1
    )
    times_s, clock = _times(table, len(states), name)
    refuse_unusable(name, states, times_s)
    ragged = [key for key, values in table.items() if values.shape[:1] != (len(states),)]
    videos = _videos(metadata)
    extrinsics = _extrinsics(table, videos)
    known = {
        *STATE_KEYS,
        *ragged,
        *(f"{EXTRINSICS_KEY}/{videos[view]}_left" for view in extrinsics),
    }
    return Episode(
        name=name,
        states=states,
        times_s=times_s,
        cameras={
            view: VideoCamera(folder / f"{VIDEO_FOLDER}/{serial}.mp4", len(states))
            for view, serial in videos.items()
        },
        clock=clock,
        provenance=Provenance(FORMAT, str(folder), metadata),
        task=str(metadata.get("current_task") or ""),
        success=_success(metadata),
        extrinsics=extrinsics,
        signals={key: values for key, values in table.items() if key not in known},
        warnings=(*anomalies(states, times_s, clock), *_ragged_warnings(table, ragged)),
    )


def _is_metadata(name: str) -> bool:
    return name.startswith("metadata_") and name.endswith(".json")


def _read_metadata(folder: Location, name: str) -> dict[str, Any]:
    """Read the one metadata file; of several, the one that names this folder.

    Raises:
        BadEpisodeError: There is none, it is not JSON, or several could be meant.
    """
    files = [entry for entry, _ in folder.children() if _is_metadata(entry.name)]
    if not files and (folder / JOURNAL_FILE).is_file():
        detail = f"being recorded, or cut off; then `python -m trajectories recover {folder}`"
        raise BadEpisodeError(name, [Defect("unfinished", detail)])
    if not files:
        raise BadEpisodeError(name, [Defect("missing metadata", f"no metadata_*.json in {folder}")])
    candidates = [_read_json(file, name) for file in files]
    if len(candidates) > 1:
        candidates = [
            metadata
            for metadata in candidates
            if PurePosixPath(str(metadata.get("hdf5_path", ""))).parent.name == folder.name
        ]
    if len(candidates) != 1:
        names = ", ".join(file.name for file in files)
        detail = f"{names}: {len(candidates)} of {len(files)} name this folder in hdf5_path"
        raise BadEpisodeError(name, [Defect("ambiguous metadata", detail)])
    return candidates[0]


def _read_json(file: Location, name: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BadEpisodeError(
            name, [Defect("corrupt metadata", f"{file.name}: {error}")]
        ) from error
    if not isinstance(content, dict):
        raise BadEpisodeError(name, [Defect("corrupt metadata", f"{file.name} is no JSON object")])
    return content


def _read_table(folder: Location, name: str) -> dict[str, Array]:
    """All numeric data sets of `trajectory.h5`, by path.

    Raises:
        BadEpisodeError: The file is missing or damaged.
    """
    import h5py

    file = folder / SIGNALS_FILE
    if not file.is_file():
        raise BadEpisodeError(name, [Defect("missing signals", f"no {SIGNALS_FILE} in {folder}")])
    table: dict[str, Array] = {}

    def collect(key: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf":
            table[key] = item[()]

    source = file.av_source()
    try:
        with h5py.File(source, "r") as content:
            content.visititems(collect)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise BadEpisodeError(
            name, [Defect("corrupt signals", f"{SIGNALS_FILE}: {error}")]
        ) from error
    finally:
        if not isinstance(source, str):
            source.close()
    return table


def _matrix(table: Mapping[str, Array], key: str, width: int, name: str) -> NDArray[np.float64]:
    """One required signal as float64 `[T, width]`."""
    if key not in table:
        detail = f"{SIGNALS_FILE} has no {key}; it has {len(table)} other data sets"
        raise BadEpisodeError(name, [Defect("missing key", detail)])
    values = np.asarray(table[key], dtype=np.float64)
    shaped = values[:, None] if values.ndim == 1 else values
    if shaped.ndim != 2 or shaped.shape[1] != width:
        detail = f"{key} has shape {values.shape}; [T, {width}] is expected"
        raise BadEpisodeError(name, [Defect("wrong shape", detail)])
    return shaped


def _times(table: Mapping[str, Array], rows: int, name: str) -> tuple[NDArray[np.float64], Clock]:
    """When each row was measured [s]; the control loop's own stamps where they were kept."""
    stamps_ms = table.get(CLOCK_KEY)
    if stamps_ms is None:
        return np.arange(rows) / ROW_RATE_HZ, "nominal"
    if stamps_ms.shape != (rows,):
        detail = f"{CLOCK_KEY} has shape {stamps_ms.shape}, the states have {rows} rows"
        raise BadEpisodeError(name, [Defect("length mismatch", detail)])
    first = stamps_ms[0] if rows else 0
    return (stamps_ms - first).astype(np.float64) / 1000.0, "measured"


def _ragged_warnings(table: Mapping[str, Array], keys: list[str]) -> list[Defect]:
    return [
        Defect("ragged signal", f"{key} has shape {table[key].shape}; left out", is_fatal=False)
        for key in keys
    ]


def _videos(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Serial number of the camera of every view that the metadata names a video of.

    Views beyond DROID's three have a key `<view>_mp4_path` of their own.
    """
    keys = dict(_VIEW_KEYS)
    for key in metadata:
        if key.endswith(_PATH_SUFFIX) and not any(key in known for known in _VIEW_KEYS.values()):
            keys[key.removesuffix(_PATH_SUFFIX)] = (key,)
    found = {}
    for view, alternatives in keys.items():
        path = next((metadata[key] for key in alternatives if metadata.get(key)), None)
        if isinstance(path, str):
            found[view] = PurePosixPath(path).stem
    return found


def _extrinsics(
    table: Mapping[str, Array], videos: Mapping[str, str]
) -> dict[str, NDArray[np.float64]]:
    """Camera poses in the base frame, of the left eye of each stereo camera."""
    poses = {view: table.get(f"{EXTRINSICS_KEY}/{serial}_left") for view, serial in videos.items()}
    return {
        view: np.asarray(pose, dtype=np.float64)
        for view, pose in poses.items()
        if pose is not None and pose.shape[1:] == (6,) and pose.any()
    }


def _success(metadata: Mapping[str, Any]) -> bool | None:
    success = metadata.get("success")
    return success if isinstance(success, bool) else None
