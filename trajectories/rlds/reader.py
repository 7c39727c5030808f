"""Reader of DROID in RLDS: TFRecord files with one whole episode per record.

Rows come at DROID's 15 Hz; the records hold no timestamps. The field `action` is the commanded
cartesian position with the gripper, whatever the documentation says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajectories.cameras import ImageCamera
from trajectories.defects import anomalies, refuse_unusable
from trajectories.droid_raw import ROW_RATE_HZ
from trajectories.episode import Array, Episode, Provenance
from trajectories.errors import BadEpisodeError, CorruptDataError, Defect
from trajectories.rlds import tfrecord
from trajectories.rlds.example import Feature, parse_example
from trajectories.storage import Location

FORMAT = "rlds"

_POSE = "steps/observation/cartesian_position"
_GRIPPER = "steps/observation/gripper_position"
_CAMERAS = {
    "left": "steps/observation/exterior_image_1_left",
    "right": "steps/observation/exterior_image_2_left",
    "wrist": "steps/observation/wrist_image_left",
}
_TASKS = tuple(f"steps/language_instruction{suffix}" for suffix in ("", "_2", "_3"))
_JOINTS = ("steps/observation/joint_position", "observation/robot_state/joint_positions")
_COMMANDS = "steps/action_dict/"
_METADATA = "episode_metadata/"


class RldsReader:
    """The TFRecord files of one folder.

    Raises:
        CorruptDataError: A file's records cannot be counted.
    """

    def __init__(self, root: Location) -> None:
        self.root = root
        files = [file for file, is_folder in root.children() if not is_folder]
        self._files = [file for file in files if ".tfrecord" in file.name]
        self._offsets: dict[str, list[tuple[int, int]]] = {}
        self._counts = _stated_counts(root, len(self._files)) or [
            len(self._records(file)) for file in self._files
        ]

    def __len__(self) -> int:
        return sum(self._counts)

    def name(self, index: int) -> str:
        """File and number of the record in it."""
        file, record = self._place(index)
        return f"{file.name}#{record}"

    def open_episode(self, index: int) -> Episode:
        """Read one record.

        Raises:
            BadEpisodeError: It cannot be used.
        """
        name = self.name(index)
        file, record = self._place(index)
        features = parse_example(self._read(file, record, name))
        states = np.concatenate([_rows(features, _POSE, 6), _rows(features, _GRIPPER, 1)], axis=1)
        times_s = np.arange(len(states)) / ROW_RATE_HZ
        refuse_unusable(name, states, times_s)
        attributes = _attributes(features)
        return Episode(
            name=name,
            states=states,
            times_s=times_s,
            cameras=_cameras(features, len(states), name),
            clock="nominal",
            provenance=Provenance(FORMAT, f"{file}#{record}", attributes),
            task=next((text for key in _TASKS if (text := _text(features.get(key)))), ""),
            success=_success(attributes),
            signals=_signals(features, len(states)),
            warnings=anomalies(states, times_s, "nominal"),
        )

    def _place(self, index: int) -> tuple[Location, int]:
        for file, count in zip(self._files, self._counts, strict=True):
            if index < count:
                return file, index
            index -= count
        raise IndexError(f"{self.root} has {len(self)} episodes")

    def _records(self, file: Location) -> list[tuple[int, int]]:
        if file.path not in self._offsets:
            with file.open() as content:
                self._offsets[file.path] = tfrecord.record_offsets(content, file.size(), file.name)
        return self._offsets[file.path]

    def _read(self, file: Location, record: int, name: str) -> bytes:
        records = self._records(file)
        if record >= len(records):
            detail = f"{file.name} has {len(records)} records; dataset_info.json states more"
            raise BadEpisodeError(name, [Defect("missing record", detail)])
        with file.open() as content:
            return tfrecord.read_record(content, *records[record], file.name)


def is_root(folder: Location) -> bool:
    """Whether TFRecord files lie in a folder."""
    return any(".tfrecord" in entry.name for entry, is_folder in folder.children() if not is_folder)


def _stated_counts(root: Location, files: int) -> list[int] | None:
    """Episodes of each file as `dataset_info.json` states them; saves opening all files."""
    file = root / "dataset_info.json"
    if not file.is_file():
        return None
    try:
        splits = json.loads(file.read_bytes())["splits"]
        counts = [int(n) for split in splits for n in split["shardLengths"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptDataError(
            f"{file} does not state the lengths of its files: {error!r}"
        ) from error
    return counts if len(counts) == files else None


def _rows(features: Mapping[str, Feature], key: str, width: int) -> NDArray[np.float64]:
    values = features.get(key)
    if not isinstance(values, np.ndarray):
        raise CorruptDataError(f"no numbers under {key}; there are {', '.join(sorted(features))}")
    if values.size % width:
        raise CorruptDataError(f"{values.size} numbers under {key} are no rows of {width}")
    return values.astype(np.float64).reshape(-1, width)


def _cameras(features: Mapping[str, Feature], rows: int, name: str) -> dict[str, ImageCamera]:
    cameras = {}
    for view, key in _CAMERAS.items():
        images = features.get(key)
        if not isinstance(images, list) or not images:
            continue
        if len(images) != rows:
            detail = f"{len(images)} images of view {view}, {rows} rows"
            raise BadEpisodeError(name, [Defect("length mismatch", detail)])
        cameras[view] = ImageCamera(images, ROW_RATE_HZ)
    return cameras


def _signals(features: Mapping[str, Feature], rows: int) -> dict[str, Array]:
    named = {key: "action/" + key.removeprefix(_COMMANDS) for key in features if _COMMANDS in key}
    named[_JOINTS[0]] = _JOINTS[1]
    signals: dict[str, Array] = {}
    for key, signal in named.items():
        values = features.get(key)
        if isinstance(values, np.ndarray) and rows and values.size and values.size % rows == 0:
            shaped = values.reshape(rows, -1)
            signals[signal] = shaped[:, 0] if shaped.shape[1] == 1 else shaped
    return signals


def _attributes(features: Mapping[str, Feature]) -> dict[str, Any]:
    texts = {
        key.removeprefix(_METADATA): _text(value)
        for key, value in features.items()
        if key.startswith(_METADATA) and isinstance(value, list) and value
    }
    return {name: text for name, text in texts.items() if text}


def _text(feature: Feature | None) -> str:
    if not isinstance(feature, list) or not feature:
        return ""
    return feature[0].decode(errors="replace").strip()


def _success(attributes: Mapping[str, Any]) -> bool | None:
    """DROID says it in the folder's name."""
    path = str(attributes.get("file_path", ""))
    return True if "/success/" in path else False if "/failure/" in path else None
